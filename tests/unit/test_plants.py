"""The planted bugs fit the code, and the tests that are meant to catch them exist."""

import re
import shutil

import pytest

from tests.plants import ROOT, fits, plants

EVERY = plants()


def test_there_are_plants():
    assert len(EVERY) >= 12


@pytest.mark.skipif(shutil.which("git") is None, reason="patches are applied by git")
@pytest.mark.parametrize("plant", EVERY, ids=lambda plant: plant.name)
def test_a_plant_fits_the_code_and_names_its_fault_and_its_tests(plant):
    assert fits(plant), f"{plant.name} does not fit any more: make the patch anew"
    assert re.fullmatch(r"[A-Z].*\.", plant.fault), "one sentence"
    assert plant.tests
    assert (ROOT / plant.tests[0]).exists()
