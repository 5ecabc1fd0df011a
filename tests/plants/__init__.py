"""Planted bugs: small patches of realistic faults, and the tests that must catch each.

A patch begins with a sentence that names the fault, and ``Tests:`` with the arguments of the pytest
run that is meant to fail. ``make plants PLANTS=consent`` plants each in a copy of this checkout.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).parent
EVERYTHING = ["-m", "not endurance", "tests/unit", "tests/contract", "tests/integration"]
MODEL = ["-m", "endurance", "tests/integration/test_consent_model.py"]


@dataclass(frozen=True)
class Plant:
    """One planted bug. ``tests``: arguments of pytest."""

    path: Path
    fault: str
    tests: list[str]

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"


@dataclass(frozen=True)
class Verdict:
    """What a run of tests says of a planted bug. ``by``: the first test that failed, or None."""

    by: str | None
    seconds: float
    note: str = ""


def plants(kind: str = "") -> list[Plant]:
    """Return the committed plants, of one folder or of all."""
    return [_read(path) for path in sorted(PATCHES.glob(f"{kind or '*'}/*.patch"))]


def _read(path: Path) -> Plant:
    head, _, _ = path.read_text(encoding="utf-8").partition("\n--- ")
    fault, _, tests = head.partition("\n\nTests: ")
    return Plant(path, fault.strip(), shlex.split(tests))


@contextmanager
def planted(copy: Path, plant: Plant) -> Iterator[None]:
    """Plant a bug in a copy, and take it out again.

    Raises ``CalledProcessError`` if the patch does not fit the code any more.
    """
    _apply(copy, plant)
    try:
        yield
    finally:
        _apply(copy, plant, "--reverse")


def fits(plant: Plant) -> bool:
    """Return whether a patch fits this checkout's code."""
    try:
        _apply(ROOT, plant, "--check")
    except subprocess.CalledProcessError:
        return False
    return True


def _apply(tree: Path, plant: Plant, *options: str) -> None:
    # A repository around the folder would make git look for the paths from its own root.
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    command = ["git", "apply", *options, str(tree / plant.path.relative_to(ROOT))]
    subprocess.run(command, cwd=tree, check=True, capture_output=True, env=env)


def copied(target: Path) -> Path:
    """Copy what git knows or would add, so that nothing planted can stay in the checkout."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    return target


def verdict(copy: Path, tests: list[str], **environment: str) -> Verdict:
    """Run tests in a copy until the first failure."""
    paths = [str(copy / "include"), str(copy / "plugins"), str(copy)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    began = time.monotonic()
    done = subprocess.run(command, cwd=copy, check=False, capture_output=True, text=True, env=env)
    seconds = time.monotonic() - began
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    sequence = re.search(r"sequence (\d+) of", done.stdout)
    if done.returncode not in (0, 1) or bool(done.returncode) != bool(failed):
        raise RuntimeError(
            f"pytest {shlex.join(tests)} ended with {done.returncode}\n{done.stdout}"
        )
    note = f"sequence {sequence[1]}" if sequence else ""
    return Verdict(failed[1] if failed else None, seconds, note)
