"""How often and how long a call is repeated: exponential backoff with full jitter.

Only ``RetryLater`` is repeated. A vendor's Retry-After is the least wait. The waits are bounded in
number and in time; after that ``QuotaExhausted`` ends a rate limit, and the last error goes up
otherwise (a task's own retry then starts over from committed state).
Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from ml_connector.errors import QuotaExhausted, RateLimited, RetryLater

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """A retry budget. Times in seconds; ``sleep`` and ``chance`` are injected for tests.

    ``on_retry`` hears every repeated failure, so that rate limits can be counted and audited.
    """

    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    total_wait: float = 300.0
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    on_retry: Callable[[RetryLater, int], None] | None = field(default=None)

    def call(self, attempt: Callable[[], T]) -> T:
        """Return ``attempt()``; raise its error once the budget is spent."""
        waited = 0.0
        for tried in range(1, self.tries + 1):
            try:
                return attempt()
            except RetryLater as error:
                if self.on_retry:
                    self.on_retry(error, tried)
                wait = self._wait(error, tried)
                if tried == self.tries or waited + wait > self.total_wait:
                    raise self._final(error, tried) from error
                log.warning("call_repeated", reason=error.message, tried=tried, wait=round(wait, 2))
                waited += wait
                self.sleep(wait)
        raise AssertionError("unreachable: tries is at least 1")

    def _wait(self, error: RetryLater, tried: int) -> float:
        ceiling = min(self.longest_wait, self.first_wait * 2.0 ** (tried - 1))
        jittered = self.chance() * ceiling
        return error.retry_after + jittered if error.retry_after is not None else jittered

    @staticmethod
    def _final(error: RetryLater, tried: int) -> Exception:
        if isinstance(error, RateLimited):
            return QuotaExhausted(
                f"{error.message}; still so after {tried} tries", request_id=error.request_id
            )
        return error
