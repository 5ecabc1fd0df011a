"""Pages are read ahead by one: never more, never out of order, never an error lost."""

import threading

import pytest

from ml_connector.ahead import ahead


def test_the_next_page_is_under_way_while_one_is_worked_on_and_no_further_one():
    begun = [threading.Event() for _ in range(4)]

    def pages():
        for number, event in enumerate(begun):
            event.set()
            yield number

    reading = ahead(pages())
    assert next(reading) == 0
    assert begun[1].wait(5)
    assert not begun[2].wait(0.1)
    assert list(reading) == [1, 2, 3]


def test_an_error_comes_after_the_pages_before_it():
    def pages():
        yield 1
        raise ConnectionError("cut")

    reading = ahead(pages())
    assert next(reading) == 1
    with pytest.raises(ConnectionError, match="cut"):
        next(reading)


def test_nothing_is_left_running_when_the_reader_stops_early():
    reading = ahead(iter(range(10)))
    next(reading)
    reading.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]


def test_empty_pages_are_pages():
    assert list(ahead([[], None, [1]])) == [[], None, [1]]
