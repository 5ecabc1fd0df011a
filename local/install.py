"""Make the virtual environment: ``python -m local.install [--dev]``, with any Python from 3.11 on.

Runs before anything is installed, so it uses the standard library only. Once the locked
requirements are in, a stamp with their digest says so, and no network is needed again.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LOCKS = {False: "requirements.txt", True: "requirements-dev.txt"}
STAMP = ".ml-connector-installed"


class InstallError(Exception):
    """The environment cannot be made; the message says why and what to do."""


def digest(dev: bool) -> str:
    """Return what the environment depends on: the locks, our own metadata, the Python version."""
    total = hashlib.sha256(repr((sys.version_info[:3], dev)).encode())
    ours = ("pyproject.toml", "setup.py", "sandbox/pyproject.toml")
    for name in ("requirements.txt", *ours, *([LOCKS[True]] if dev else [])):
        total.update((REPOSITORY / name).read_bytes())
    return total.hexdigest()


def stamp(venv: Path, *, dev: bool) -> Path:
    """Return the file that says an installation is complete."""
    return venv / (STAMP + ("-dev" if dev else ""))


def is_installed(venv: Path, *, dev: bool) -> bool:
    """Return whether the environment holds what the locks say. One for development will do for a run."""
    wanted = [(stamp(venv, dev=True), digest(True))]
    if not dev:
        wanted.append((stamp(venv, dev=False), digest(False)))
    return any(file.exists() and file.read_text() == text for file, text in wanted)


def install(venv: Path, *, dev: bool, log: Path) -> None:
    """Create the environment and install the lock: with uv in seconds, with pip if uv cannot.

    Raises:
        InstallError: It did not work; the log has the whole output.
    """
    log.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # the state folder
    log.parent.mkdir(exist_ok=True)
    python = venv / "bin" / "python"
    with log.open("a", encoding="utf-8") as output:
        if not python.exists() or not _call(output, python, "-m", "pip", "--version"):
            _say("creating the virtual environment")
            if not _call(output, sys.executable, "-m", "venv", "--clear", venv):
                raise InstallError(
                    "the virtual environment could not be made; "
                    "on Debian and Ubuntu: apt-get install python3-venv"
                )
        _say(f"installing {LOCKS[dev]}")
        lock = REPOSITORY / LOCKS[dev]
        # Our own packages come last, as links to this folder; the lock holds all they need.
        # Without dependencies: with hashes pip (23.2) takes an extra's requirement for an unpinned one.
        locked = ("--require-hashes", "--no-deps", "-r", lock)
        steps = (locked, ("--no-deps", "-e", REPOSITORY, "-e", REPOSITORY / "sandbox"))
        pip = (python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet")
        # The machine's certificates, as pip gets them where a proxy or a mirror has its own.
        uv = (venv / "bin" / "uv", "pip", "install", "--quiet", "--system-certs", "-p", python)
        with_uv = _call(output, *pip, "uv") and all(_call(output, *uv, *step) for step in steps)
        # uv reads no pip.conf: behind a mirror that only pip knows of, it finds nothing.
        if not with_uv and not all(_call(output, *pip, *step) for step in steps):
            raise InstallError("the requirements could not be installed: is the network there?")
    stamp(venv, dev=dev).write_text(digest(dev))


def main() -> int:
    """Install if needed; return 0, or 1 after one plain sentence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also what tests and linters need")
    parser.add_argument("--venv", type=Path, default=REPOSITORY / ".venv")
    arguments = parser.parse_args()
    home = REPOSITORY / (os.environ.get("ML_CONNECTOR_HOME") or ".state")
    log = home / "logs" / "install.log"
    try:
        if not is_installed(arguments.venv, dev=arguments.dev):
            install(arguments.venv, dev=arguments.dev, log=log)
    except InstallError as error:
        _say(f"Failed: {error}. Log: {log}")
    except OSError as error:
        _say(f"Failed: {error.strerror}: {error.filename}. Log: {log}")
    else:
        return 0
    return 1


def _call(output: object, *command: str | Path) -> bool:
    done = subprocess.run(  # noqa: S603 - our own programs and options
        [str(word) for word in command],
        stdout=output,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=REPOSITORY,
        check=False,
    )
    return bool(done.returncode == 0)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
