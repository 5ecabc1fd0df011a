"""Pages read in parallel: an error is not held up by the other calls."""

import threading

import pytest

from ml_connector.mailchimp.read_ahead import ReadAhead


def test_an_error_is_raised_while_other_calls_are_still_at_their_retries():
    asked, let_go = threading.Event(), threading.Event()

    def fetch(since, offset):
        if offset == 0:
            return [{"id": str(number)} for number in range(10)], 100
        if offset == 9:
            assert asked.wait(30)
            raise ConnectionError("cut")
        asked.set()
        assert let_go.wait(10)
        return [], 100

    def read():
        with ReadAhead(fetch, size=10, pages=3) as ahead:
            ahead.page(None, 0)
            ahead.page(None, 9)

    with pytest.raises(ConnectionError, match="cut"):
        read()
    waiting = [each for each in threading.enumerate() if each.name.startswith("pages")]
    let_go.set()
    assert waiting, "the reader did not wait for them"
