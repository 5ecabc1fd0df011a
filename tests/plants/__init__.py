"""Planted bugs: small patches of realistic faults, and the tests that must catch each.

A patch begins with a sentence that names the fault, and ``Tests:`` with the arguments of the pytest
run that is meant to fail. ``make plants PLANTS=consent`` plants each in a copy of this checkout.
"""

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).parent


@dataclass(frozen=True)
class Plant:
    """One planted bug. ``tests``: arguments of pytest."""

    path: Path
    fault: str
    tests: list[str]

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"


def plants(kind: str = "") -> list[Plant]:
    """Return the committed plants, of one folder or of all."""
    return [_read(path) for path in sorted(PATCHES.glob(f"{kind or '*'}/*.patch"))]


def of_the_day(among: list[Plant], number: int, today: date) -> list[Plant]:
    """Return about ``number`` plants from all areas, other ones each day until all had their turn."""
    days = -(-len(among) // number)
    return among[today.toordinal() % days :: days]


def _read(path: Path) -> Plant:
    head, _, _ = path.read_text(encoding="utf-8").partition("\n--- ")
    fault, _, tests = head.partition("\n\nTests: ")
    return Plant(path, fault.strip(), shlex.split(tests.partition("\n")[0]))


def fits(plant: Plant) -> bool:
    """Return whether a patch fits this checkout's code."""
    try:
        apply(ROOT, plant, "--check")
    except subprocess.CalledProcessError:
        return False
    return True


def apply(tree: Path, plant: Plant, *options: str) -> None:
    """Plant a bug in a copy; ``--reverse`` takes it out again.

    Raises ``CalledProcessError`` if the patch does not fit the code any more.
    """
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
