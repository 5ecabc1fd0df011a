"""Count frequent events and log them rarely, so a flood of refusals does not flood the log."""

import time
from collections import Counter
from collections.abc import Callable

import structlog

EVERY = 30.0
"""Seconds between two log lines of the same kind."""

log = structlog.get_logger(__name__)


class Tally:
    """Counters since the start, by name."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.counts: Counter[str] = Counter()
        self._untold: Counter[tuple[str, str]] = Counter()
        self._told_at: dict[tuple[str, str], float] = {}

    def count(self, name: str, number: int = 1) -> None:
        """Add ``number`` to a counter."""
        self.counts[name] += number

    def warn(self, name: str, *, who: str = "", **facts: object) -> None:
        """Count, and log at intervals: the current facts and the number since the last line.

        ``who`` has few values; each gets lines of its own.
        """
        self.count(name)
        about = (name, who)
        self._untold[about] += 1
        if self._clock() - self._told_at.get(about, float("-inf")) >= EVERY:
            self._told_at[about] = self._clock()
            said = {key: value for key, value in {"who": who, **facts}.items() if value}
            log.warning("webhooks_not_taken", what=name, times=self._untold.pop(about), **said)
