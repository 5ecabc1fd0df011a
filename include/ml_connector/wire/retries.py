"""Retry calls: exponential backoff with full jitter, within a budget.

Only ``RetryLater`` is retried. A vendor's Retry-After is the minimum wait. The budget limits the
number of tries and the total wait. After that a rate limit becomes ``QuotaExhausted``, and any
other error is raised unchanged. The task's own retry then starts over from committed state.

Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from ml_connector.errors import QuotaExhausted, RateLimited, RetryLater

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """A retry budget. Times in seconds; ``sleep`` and ``chance`` are injected for tests.

    ``on_retry`` receives each retryable failure, its number, and the wait after it (0.0 after the
    last). Callers use it to count and audit rate limits.
    """

    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    total_wait: float = 300.0
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    on_retry: Callable[[RetryLater, int, float], None] | None = field(default=None)

    def call(self, attempt: Callable[[], T]) -> T:
        """Return ``attempt()``, retried within the budget.

        Raises ``QuotaExhausted`` if a rate limit outlasts the budget, else the last error.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(RetryLater),
            wait=self._wait,
            stop=self._spent,
            sleep=self.sleep,
            before_sleep=self._before_sleep,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except RetryLater as error:
            tries = int(retrying.statistics["attempt_number"])
            self._tell(error, tries, 0.0)
            if not isinstance(error, RateLimited):
                raise
            raise QuotaExhausted(
                f"{error.message}; still so after {tries} tries", request_id=error.request_id
            ) from error

    def _wait(self, state: RetryCallState) -> float:
        ceiling = min(self.longest_wait, self.first_wait * 2.0 ** (state.attempt_number - 1))
        return (_error(state).retry_after or 0.0) + self.chance() * ceiling

    def _spent(self, state: RetryCallState) -> bool:
        waited = state.idle_for + state.upcoming_sleep
        return state.attempt_number >= self.tries or waited > self.total_wait

    def _before_sleep(self, state: RetryCallState) -> None:
        error, tried, wait = _error(state), state.attempt_number, state.upcoming_sleep
        log.warning("call_repeated", reason=error.message, tried=tried, wait=round(wait, 2))
        self._tell(error, tried, wait)

    def _tell(self, error: RetryLater, tried: int, wait: float) -> None:
        if self.on_retry:
            self.on_retry(error, tried, wait)


def _error(state: RetryCallState) -> RetryLater:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, RetryLater):
        raise TypeError("only RetryLater is repeated")
    return error
