"""Python's search for cycles is put off while many records pass, and is as before afterwards."""

import gc

import pytest

from ml_connector.garbage import OBJECTS, seldom_collected


@seldom_collected()
def at_work(error=None):
    if error:
        raise error
    return gc.get_threshold()


def test_cycles_are_looked_for_seldom_until_the_work_is_done():
    before = gc.get_threshold()
    assert at_work() == (OBJECTS, *before[1:])
    assert gc.get_threshold() == before


def test_cycles_are_looked_for_as_before_when_the_work_breaks_off():
    before = gc.get_threshold()
    with pytest.raises(LookupError):
        at_work(LookupError())
    assert gc.get_threshold() == before
