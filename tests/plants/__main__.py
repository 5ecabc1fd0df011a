"""Plant each bug of a folder, run the tests meant to catch it, and say which did.

A bug that its tests miss is tried with every short test, unless ``--named``. ``--rotate N`` takes N
of the list, other ones each day. ``--model N`` also plays up to N sequences of the consent check on
each batch contract. Ends with 1 if any bug survives.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.plants import Plant, copied, of_the_day, plants
from tests.plants.trying import verdicts

WORKERS = 2
SHORT = ["-n", "2", "-m", "not endurance", "tests/unit", "tests/contract", "tests/integration"]
MODEL = ["-m", "endurance", "tests/integration/test_consent_model.py"]


def main() -> int:
    """Print one line a plant, then the number of those that survive."""
    parser = argparse.ArgumentParser(prog="make plants", description=__doc__)
    parser.add_argument("kind", nargs="?", default="", help="a folder of tests/plants; all if none")
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--model", type=int, default=0, metavar="N")
    parser.add_argument("--named", action="store_true")
    parser.add_argument("--rotate", type=int, default=0, metavar="N")
    given = parser.parse_args()
    chosen = [each for each in plants(given.kind) if given.only in each.name]
    if not chosen:
        parser.error("no such plants")
    if given.rotate:
        chosen = of_the_day(chosen, given.rotate, datetime.now(UTC).date())
    with tempfile.TemporaryDirectory(prefix="ml-connector-plants-") as folder:
        copies = [copied(Path(folder) / f"checkout{number}") for number in range(WORKERS)]
        survivors = _survivors(chosen, copies)
        if not given.named:
            survivors = _survivors(survivors, copies[:1], SHORT)
        if given.model:
            os.environ |= {"CONSENT_SEQUENCES": str(given.model), "CONSENT_QUICK": "1"}
            missed = _survivors(chosen, copies[:1], MODEL)
            survivors = [each for each in survivors if each in missed]
    caught = len(chosen) - len(survivors)
    sys.stdout.write(f"{caught} caught, {len(survivors)} survived\n")
    return min(len(survivors), 1)


def _survivors(
    chosen: Iterable[Plant], copies: Sequence[Path], tests: Sequence[str] = ()
) -> list[Plant]:
    """Print the verdict on each plant; return those that no test catches."""
    survivors = []
    for found in verdicts(chosen, copies, tests):
        said = "caught  " if found.by else "survived"
        by = found.by.rpartition("/")[2] if found.by else found.plant.fault
        sys.stdout.write(
            f"{said}  {found.plant.name:44} {found.seconds:5.0f} s  {by} {found.note}\n"
        )
        sys.stdout.flush()
        if found.by is None:
            survivors.append(found.plant)
    return survivors


if __name__ == "__main__":
    sys.exit(main())
