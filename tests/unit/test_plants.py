"""The planted bugs fit the code, and the tests that are meant to catch them exist."""

import re
import shutil
from datetime import date, timedelta

import pytest

from tests.plants import ROOT, fits, of_the_day, plants

EVERY = plants()


def test_there_are_plants():
    assert len(EVERY) >= 60


def test_every_plant_has_its_turn():
    number = 10
    days = -(-len(EVERY) // number)
    first = date(2026, 12, 1)
    turns = [of_the_day(EVERY, number, first + timedelta(day)) for day in range(days)]
    assert max(map(len, turns)) <= number
    assert sorted(each.name for turn in turns for each in turn) == [each.name for each in EVERY]


@pytest.mark.skipif(shutil.which("git") is None, reason="patches are applied by git")
@pytest.mark.parametrize("plant", EVERY, ids=lambda plant: plant.name)
def test_a_plant_fits_the_code_and_names_its_fault_and_its_tests(plant):
    assert fits(plant), f"{plant.name} does not fit any more: make the patch anew"
    assert re.fullmatch(r"[A-Z].*\.", plant.fault), "one sentence"
    assert plant.tests
    assert (ROOT / plant.tests[0]).exists()
