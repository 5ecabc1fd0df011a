"""Build every image that the tests run: ``python -m tests.containers.images``, inside namespaces."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.containers.engine import KEPT, ROOT, Engine, engine

STAND_INS = Path(__file__).resolve().parent / "stand_ins"
SUITE = "bookworm"
BASE = "ml-connector-stand-in:base"
NOW, FORMER = KEPT / "now", KEPT / "former"
"""Copies of what git knows of this checkout, and of the release before."""
FORMER_COMMIT = "2e62de3"
"""What tests/data/release_2e62de3 was made with as well."""
FORMER_IMAGE = "ml-connector:former"
CA = Path("/etc/ssl/certs/ca-certificates.crt")


def compose_file(tree: Path) -> dict:
    """The tree's docker-compose.yaml."""
    return yaml.safe_load((tree / "docker-compose.yaml").read_text())


def names() -> dict[str, str]:
    """The image that each stand-in stands for, as our files name it."""
    text = (ROOT / "Dockerfile").read_text()
    version = re.search(r"^ARG AIRFLOW_VERSION=(\S+)$", text, re.MULTILINE)[1]
    airflow = re.search(r"^FROM (apache/airflow:\S+)", text, re.MULTILINE)[1]
    services = compose_file(ROOT)["services"]
    return {
        "airflow": airflow.replace("${AIRFLOW_VERSION}", version),
        **{target: services[name]["image"] for name, target in SERVICES.items()},
    }


SERVICES = {"postgres": "postgres", "redis": "redis", "proxy": "caddy"}
"""Services whose image is another project's, and the stand-in for it."""


def copy_trees() -> None:
    """Copy this checkout and the release before, as git knows them."""
    for tree in (NOW, FORMER):
        shutil.rmtree(tree, ignore_errors=True)
    listed = _git("ls-files").splitlines()
    for file in (each for each in listed if (ROOT / each).is_file()):
        (NOW / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, NOW / file)
    if has_former():
        FORMER.mkdir()
        archive = KEPT / "former.tar"
        _git("archive", "--output", str(archive), FORMER_COMMIT)
        subprocess.run(["tar", "-xf", archive], cwd=FORMER, check=True)
        archive.unlink()


def has_former() -> bool:
    """Return whether this clone goes back to the release before."""
    asked = ["git", "cat-file", "-e", f"{FORMER_COMMIT}^{{commit}}"]
    return not subprocess.run(asked, cwd=ROOT, capture_output=True, check=False).returncode


def build_base(docker: Engine) -> None:
    """Make a small Debian from its packages; the archive of it is kept."""
    if docker.has(BASE):
        return
    kept = KEPT / f"{SUITE}.tar"
    if not kept.exists():
        system = KEPT / "base"
        shutil.rmtree(system, ignore_errors=True)
        with (KEPT / "debootstrap.log").open("w") as log:
            subprocess.run(
                ["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, system],
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
            )
        if CA.exists():
            shutil.copy(CA, system / CA.relative_to("/"))
        part = kept.with_suffix(".part")
        subprocess.run(["tar", "-C", system, "-cf", part, "."], check=True)
        part.rename(kept)
        shutil.rmtree(system)
    docker("import", kept, BASE)


def build_stand_ins(docker: Engine) -> None:
    """Build the stand-ins under the names and tags that our files use."""
    context = KEPT / "context"
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(STAND_INS, context)
    shutil.copy(ROOT / "requirements.txt", context)
    for target, name in names().items():
        version = name.partition(":")[2].partition("-")[0]
        docker(
            *("build", "--network", "host", "--target", target, "--tag", name),
            *(["--build-arg", f"AIRFLOW_VERSION={version}"] if target == "airflow" else []),
            ".",
            tree=context,
        )


def build_ours(docker: Engine) -> None:
    """Build our images of both releases."""
    services = compose_file(NOW)["services"]
    for service in ("worker", "sandbox"):
        image, target = services[service]["image"], services[service]["build"]["target"]
        docker("build", "--network", "host", "--target", target, "--tag", image, ".", tree=NOW)
    if has_former():
        docker("build", "--network", "host", "--tag", FORMER_IMAGE, ".", tree=FORMER)


def main() -> int:
    """Build everything; say how long each part took."""
    copy_trees()
    with engine(networks=False) as docker:
        for part in (build_base, build_stand_ins, build_ours):
            began = time.monotonic()
            part(docker)
            sys.stdout.write(f"{part.__name__}: {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()
        docker("image", "prune", "--force")
    return 0


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
