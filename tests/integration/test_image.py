"""The Dockerfile, without an engine: what it copies is there, is enough, and fits the lock.

With an engine: `make test-containers`.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
STAGES = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM|\Z)", TEXT, re.MULTILINE | re.DOTALL))


def copied(stage: str) -> dict[str, str]:
    """What a stage takes from this checkout, and where it puts it."""
    return {
        source: target
        for line in re.findall(r"^COPY (?!--from)(.+)$", STAGES[stage], re.MULTILINE)
        for *sources, target in [[word for word in line.split() if not word.startswith("--")]]
        for source in sources
    }


def lay(stage: str, place: str, folder: Path) -> Path:
    """Put what git knows where the stage has it below a folder of the image."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for source, target in copied(stage).items():
        inside = folder / target.removeprefix(place).strip("/")
        for file in tracked:
            if file == source and (ROOT / source).is_file():
                to = inside / Path(file).name
            elif file.startswith(f"{source}/"):
                to = inside / file.removeprefix(f"{source}/")
            else:
                continue
            if passes(file) and (ROOT / file).exists():
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, to)
    return folder


def passes(file: str) -> bool:
    """Whether the ignore file lets a file in: Docker takes its last line that fits."""
    fits = [
        line
        for line in IGNORED
        if line and not line.startswith("#")
        for path in [line.lstrip("!").replace("**/", "*")]
        if fnmatch(file, path) or file.startswith(f"{path}/")
    ]
    return fits[-1].startswith("!")


def test_what_is_copied_is_there_and_passes_the_ignore_file():
    for stage in STAGES:
        for source in copied(stage):
            assert (ROOT / source).exists(), source
            assert passes(source), source


@pytest.mark.parametrize(
    "file",
    [
        *(".env", ".env.compose", "secrets/fernet_key", ".state/keys", ".git/config"),
        *("syncs.yaml", "include/config/syncs.yaml", "bench/daily.py", "local/airflow.py"),
    ],
)
def test_keys_settings_and_what_is_for_this_checkout_stay_out(file):
    assert not passes(file)


def test_the_base_has_a_python_and_an_airflow_that_the_project_takes():
    version = re.search(r"^ARG AIRFLOW_VERSION=(\S+)$", TEXT, re.MULTILINE)[1]
    bases = re.findall(r"^FROM (\S+) AS", TEXT, re.MULTILINE)
    assert set(bases[1:]) == {"locked"}
    python = re.fullmatch(r"apache/airflow:\$\{AIRFLOW_VERSION\}-python3\.(\d+)", bases[0])[1]
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["project"]["requires-python"])[1]
    assert int(python) >= int(least)
    for lock in ("requirements.txt", "deploy/requirements.txt"):
        assert f"apache-airflow=={version} " in (ROOT / lock).read_text()


def pins(name: str) -> set[str]:
    return set(re.findall(r"^\S+==\S+", (ROOT / name).read_text(), re.MULTILINE))


def test_what_is_installed_is_a_lock_with_hashes_without_what_only_this_machine_needs():
    assert "--require-hashes --no-deps -r /tmp/requirements.txt" in STAGES["locked"]
    assert copied("locked") == {"deploy/requirements.txt": "/tmp/requirements.txt"}
    image = pins("deploy/requirements.txt")
    assert image < pins("requirements.txt")
    assert not [pin for pin in image if re.match("pixeltable", pin)]
    extras = PROJECT["project"]["optional-dependencies"]
    for extra in extras.keys() - {"local"}:
        for name in extras[extra]:
            assert any(pin.startswith(f"{name}==") for pin in image), name


def test_what_builds_the_wheel_is_locked_with_hashes_as_well():
    """The stage takes this entry of the lock by its first line and the two hashes below it."""
    lock = (ROOT / "requirements-dev.txt").read_text()
    entry = re.search(r"^setuptools==.*\n.*\n.*\n", lock, re.MULTILINE)[0]
    assert entry.count("--hash=sha256:") == 2
    assert not entry.rstrip().endswith("\\")
    assert "grep --after-context=2 '^setuptools=='" in STAGES["wheel"]
    assert "pip wheel --no-cache-dir --no-deps --no-build-isolation" in STAGES["wheel"]


def test_the_stage_of_the_wheel_has_what_a_wheel_is_built_from(tmp_path):
    """Every file of both packages; the DAGs and the schema with them."""
    source = lay("wheel", "/tmp/source", tmp_path / "source")
    code = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, check=True, timeout=120
    )
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    site = tmp_path / "site"
    for package, room in (("ml_connector", "include"), ("ml_connector_airflow", "plugins")):
        listed = subprocess.run(
            ["git", "ls-files", package],
            cwd=ROOT / room,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert [file for file in listed if not (site / file).is_file()] == []
    assert {file.name for file in (site / "ml_connector_airflow/dags").iterdir()} >= {
        file.name for file in (ROOT / "dags").glob("*.py")
    }
    assert (site / "ml_connector/config/syncs.schema.json").is_file()


def test_the_product_is_the_last_stage_and_takes_only_the_wheel_and_what_starts_it():
    assert list(STAGES)[-1] == "product"
    assert copied("product").keys() == {"deploy/init.sh", "deploy/pools.json"}
    assert "COPY --from=wheel /tmp/wheel /tmp/wheel" in STAGES["product"]
    for stage in ("product", "sandbox"):
        assert STAGES[stage].rstrip().endswith("USER 50000")


def test_the_files_that_compose_and_the_chart_name_are_in_it(tmp_path):
    product = lay("product", "/opt/ml-connector", tmp_path / "product")
    sandbox = lay("sandbox", "/opt/sandbox", tmp_path / "sandbox")
    for file in ("docker-compose.yaml", "deploy/kubernetes/values.yaml"):
        text = (ROOT / file).read_text()
        named = re.findall(r"/opt/(ml-connector|sandbox)/([\w./-]+\w)", text)
        assert named, file
        for place, path in named:
            folder = product if place == "ml-connector" else sandbox
            assert (folder / path).is_file(), f"{file} names {path}"


def test_the_sandbox_starts_from_its_image_with_the_options_of_compose(tmp_path):
    folder = lay("sandbox", "/opt/sandbox", tmp_path)
    service = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["sandbox"]
    python, *words = service["entrypoint"]
    assert python == "python"
    assert "WORKDIR /opt/sandbox\n" in STAGES["sandbox"]
    shown = subprocess.run(
        [sys.executable, *words, "--help"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    options = [word for word in service["command"].split() if word.startswith("--")]
    assert options
    assert all(option in shown for option in options)
