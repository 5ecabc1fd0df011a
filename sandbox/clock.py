"""The mock server's own clock, so that a test can age tokens and customers without waiting."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Clock:
    """A time source plus an offset in seconds, moved by ``PUT /_sandbox/clock``.

    ``source`` is real time; a test in the same process may put a clock of its own there.
    """

    offset_seconds: float = 0.0
    source: Callable[[], float] = time.time

    def now(self) -> float:
        """Return the mock server's time in seconds since 1970-01-01 UTC."""
        return self.source() + self.offset_seconds
