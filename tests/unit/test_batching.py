"""prefetch reads one page in advance, in order, and loses no error; relaxed_gc restores the collector."""

import gc
import threading

import pytest

from ml_connector.batching import GC_THRESHOLD, prefetch, relaxed_gc


def test_the_next_page_is_under_way_while_one_is_worked_on_and_no_further_one():
    begun = [threading.Event() for _ in range(4)]

    def pages():
        for number, event in enumerate(begun):
            event.set()
            yield number

    reading = prefetch(pages())
    assert next(reading) == 0
    assert begun[1].wait(5)
    assert not begun[2].wait(0.1)
    assert list(reading) == [1, 2, 3]


def test_an_error_comes_after_the_pages_before_it():
    def pages():
        yield 1
        raise ConnectionError("cut")

    reading = prefetch(pages())
    assert next(reading) == 1
    with pytest.raises(ConnectionError, match="cut"):
        next(reading)


def test_nothing_is_left_running_when_the_reader_stops_early():
    reading = prefetch(iter(range(10)))
    next(reading)
    reading.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_empty_pages_are_pages():
    assert list(prefetch([[], None, [1]])) == [[], None, [1]]


@relaxed_gc()
def at_work(error=None):
    if error:
        raise error
    return gc.get_threshold()


def test_cycles_are_looked_for_seldom_until_the_work_is_done():
    before = gc.get_threshold()
    assert at_work() == (GC_THRESHOLD, *before[1:])
    assert gc.get_threshold() == before


def test_cycles_are_looked_for_as_before_when_the_work_breaks_off():
    before = gc.get_threshold()
    with pytest.raises(LookupError):
        at_work(LookupError())
    assert gc.get_threshold() == before
