"""Plant each bug of a folder, run the tests meant to catch it, and say which did.

A bug that they miss is tried with every short test, unless ``--named``. ``--model N`` also plays up to N sequences of
the consent check on each batch contract. Ends with 1 if any bug survives.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.plants import EVERYTHING, MODEL, Plant, Verdict, copied, planted, plants, verdict


def main() -> int:
    """Print one line a plant, then the number of those that survive."""
    parser = argparse.ArgumentParser(prog="make plants", description=__doc__)
    parser.add_argument("kind", nargs="?", default="", help="a folder of tests/plants; all if none")
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--model", type=int, default=0, metavar="N")
    parser.add_argument("--named", action="store_true")
    given = parser.parse_args()
    chosen = [each for each in plants(given.kind) if given.only in each.name]
    if not chosen:
        parser.error("no such plants")
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="ml-connector-plants-") as folder:
        copy = copied(Path(folder) / "checkout")
        for plant in chosen:
            with planted(copy, plant):
                survivors += not _tried(copy, plant, given)
    sys.stdout.write(f"{len(chosen) - survivors} caught, {survivors} survived\n")
    return min(survivors, 1)


def _tried(copy: Path, plant: Plant, given: argparse.Namespace) -> bool:
    found = verdict(copy, plant.tests)
    if found.by is None and not given.named:
        found = verdict(copy, ["-n", "2", *EVERYTHING])
    _tell(plant, found)
    if given.model:
        many = {"CONSENT_SEQUENCES": str(given.model), "CONSENT_QUICK": "1"}
        model = verdict(copy, MODEL, **many)
        _tell(plant, model)
        return found.by is not None or model.by is not None
    return found.by is not None


def _tell(plant: Plant, found: Verdict) -> None:
    said = "caught  " if found.by else "survived"
    by = found.by.rpartition("/")[2] if found.by else plant.fault
    sys.stdout.write(f"{said}  {plant.name:40} {found.seconds:5.0f} s  {by} {found.note}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
