"""What starts here ends with the tests, also where they are stopped from outside."""

import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


@pytest.fixture(scope="session", autouse=True)
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the tests as Ctrl-C does: fixtures stop what they started."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    yield
    signal.signal(signal.SIGTERM, before)
