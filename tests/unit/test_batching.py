"""Prefetch reads one page in advance, drain stops at the first error, the collector is restored."""

import gc
import threading

import pytest

from ml_connector.batching import GC_THRESHOLD, drain, prefetch, relaxed_gc


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


@pytest.mark.parametrize("threads", [True, False])
def test_what_is_read_from_is_closed_when_the_reader_stops_early(threads):
    closed = []

    def pages():
        try:
            yield from range(10)
        finally:
            closed.append(True)

    source = pages()
    reading = prefetch(source, threads=threads)
    next(reading)
    reading.close()
    assert closed == [True]


def test_without_threads_an_item_is_fetched_when_it_is_asked_for():
    fetched = []
    reading = prefetch(map(fetched.append, range(3)), threads=False)
    next(reading)
    assert fetched == [0]
    assert len(list(reading)) == 2


def test_empty_pages_are_pages():
    assert list(prefetch([[], None, [1]])) == [[], None, [1]]


def test_a_drain_goes_on_until_nothing_is_left_on_any_thread():
    items, lock = list(range(100)), threading.Lock()
    done = []

    def step() -> bool:
        with lock:
            item = items.pop() if items else None
        if item is not None:
            done.append(item)
        return item is not None

    drain(step, 3)
    assert sorted(done) == list(range(100))


def test_the_first_error_of_a_drain_is_raised():
    second = threading.Event()

    def step() -> bool:
        if threading.current_thread().name.endswith("_0"):
            raise ConnectionError("first")
        second.wait(0.2)
        raise ValueError("second")

    with pytest.raises(ConnectionError, match="first"):
        drain(step, 2)


def test_after_an_error_the_other_threads_of_a_drain_stop():
    both = threading.Barrier(2)
    steps = []

    def step() -> bool:
        if not steps and not both.wait(5):
            raise ConnectionError("cut")
        steps.append(threading.get_ident())
        return True  # there is always more to do

    with pytest.raises(ConnectionError, match="cut"):
        drain(step, 2)
    assert not [each for each in threading.enumerate() if each.ident in steps]


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
