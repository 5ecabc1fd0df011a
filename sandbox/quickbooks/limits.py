"""Intuit's rate limits, when ``enforce_limits`` is on.

Per company and app: 10 requests a second, 500 a minute, 40 batches a minute, 10 at once (limits
page, 2025; the last figure is from older text).
"""

from collections import deque
from collections.abc import Callable

PER_SECOND = 10
PER_MINUTE = 500
BATCHES_PER_MINUTE = 40
AT_ONCE = 10


class Limits:
    """Sliding windows over the requests let through."""

    def __init__(self, now: Callable[[], float], in_flight: Callable[[], int]) -> None:
        self._now = now
        self._in_flight = in_flight
        self._requests: deque[float] = deque()
        self._batches: deque[float] = deque()

    def admit(self, *, batch: bool) -> bool:
        """Count a request and say whether it is within the limits."""
        now = self._now()
        for window in (self._requests, self._batches):
            while window and window[0] <= now - 60:
                window.popleft()
        in_last_second = sum(at > now - 1 for at in list(self._requests)[-PER_SECOND:])
        if (
            self._in_flight() > AT_ONCE
            or in_last_second >= PER_SECOND
            or len(self._requests) >= PER_MINUTE
            or (batch and len(self._batches) >= BATCHES_PER_MINUTE)
        ):
            return False
        self._requests.append(now)
        if batch:
            self._batches.append(now)
        return True

    def clear(self) -> None:
        """Forget past requests."""
        self._requests.clear()
        self._batches.clear()
