"""Counts what happens often, and tells of it seldom: a flood of refusals is no flood of lines."""

import time
from collections import Counter
from collections.abc import Callable

import structlog

EVERY = 30.0
"""Seconds between two lines about the same thing."""

log = structlog.get_logger(__name__)


class Tally:
    """Counts since the start, by name."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.counts: Counter[str] = Counter()
        self._told: dict[str, tuple[float, int]] = {}

    def count(self, name: str, number: int = 1) -> None:
        """Count."""
        self.counts[name] += number

    def tell(self, name: str, **facts: object) -> None:
        """Log a warning with the facts of this time and the number since the last line."""
        now, total = self._clock(), self.counts[name]
        at, before = self._told.get(name, (float("-inf"), 0))
        if now - at >= EVERY:
            self._told[name] = (now, total)
            said = {key: value for key, value in facts.items() if value}
            log.warning("webhooks_not_taken", what=name, times=total - before, **said)
