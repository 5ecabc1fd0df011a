"""The mock server's own clock, so that a test can age tokens and customers without waiting."""

import time
from dataclasses import dataclass


@dataclass
class Clock:
    """Real time plus an offset in seconds, moved by ``PUT /_sandbox/clock``."""

    offset_seconds: float = 0.0

    def now(self) -> float:
        """Return the mock server's time in seconds since 1970-01-01 UTC."""
        return time.time() + self.offset_seconds
