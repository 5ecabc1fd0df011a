"""Audit rows for rate limits: the run that had to wait, the system, and the delay."""

from collections.abc import Callable

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.errors import RateLimited, RetryLater
from ml_connector.scope import Scope


def on_retry_callback(scope: Scope, system: str) -> Callable[[RetryLater, int, float], None]:
    """Return the ``Retries.on_retry`` callback for a client of ``system`` (``mailchimp`` ...).

    Each 429 and each edge block becomes a row at once. It has a transaction of its own, because the
    current one may not complete. After the last try there is no wait, and the outcome is
    ``gave_up``.
    """

    def heard(error: RetryLater, tried: int, wait: float) -> None:
        if not isinstance(error, RateLimited):
            return
        entry = Entry(
            sync=scope.name,
            system=system,
            action="rate_limited",
            reason="rate_limit",
            outcome="waited" if wait else "gave_up",
            cause=f"run:{scope.run.run_id}",
            error=error.message,
            attempts=tried,
            request_id=error.request_id,
            after={"seconds_waited": round(wait, 2)},
        )
        with scope.database.begin() as connection:
            trail.append(connection, [entry], run=scope.run, vault=scope.vault)

    return heard
