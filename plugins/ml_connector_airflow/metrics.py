"""Counters and timings through Airflow's own metrics; docs/reference/metrics.md lists the names.

Without StatsD or OpenTelemetry in Airflow's ``[metrics]``, each call ends in an empty function. No
query runs for metrics then.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from ml_connector.errors import RateLimited, RetryLater
from ml_connector.store.database import Database
from ml_connector.webhooks import backlog
from ml_connector_airflow.compat import conf, stats


def on() -> bool:
    """Return whether Airflow sends metrics anywhere."""
    return any(conf.getboolean("metrics", way, fallback=False) for way in ("statsd_on", "otel_on"))


def calls(sync: str, made: Mapping[str, int]) -> None:
    """Count API calls; names such as ``quickbooks.query``."""
    for call, number in made.items():
        stats.incr(f"ml_connector.calls.{call}", number, tags={"sync": sync})


def writes(sync: str, system: str, outcomes: Mapping[str, int]) -> None:
    """Count changes written to ``system`` by outcome."""
    for outcome, number in outcomes.items():
        if number:
            stats.incr(f"ml_connector.writes.{system}.{outcome}", number, tags={"sync": sync})


def plan_size(sync: str, changes: int) -> None:
    """Report the number of changes in the run's plan."""
    stats.gauge("ml_connector.plan.changes", changes, tags={"sync": sync})


def token(conn_id: str, outcome: str) -> None:
    """Count a token's refresh: ``renewed`` or ``refused``."""
    stats.incr(f"ml_connector.tokens.{outcome}", tags={"conn_id": conn_id})


def retries(
    system: str, heard: Callable[[RetryLater, int, float], None]
) -> Callable[[RetryLater, int, float], None]:
    """Return a listener that counts each retried call and passes it on to ``heard``."""

    def counted(error: RetryLater, tried: int, wait: float) -> None:
        kind = "rate_limited" if isinstance(error, RateLimited) else "unavailable"
        stats.incr(f"ml_connector.retries.{system}.{kind}")
        heard(error, tried, wait)

    return counted


def inbox(database: Database, settled: Mapping[str, int], *, since: datetime) -> None:
    """Report how events ended since then, their latencies, and the backlog."""
    if not on():
        return
    with database.begin() as connection:
        now = backlog.count_backlog(connection)
        latencies = backlog.latencies(connection, since=since)
    for outcome, number in settled.items():
        stats.incr(f"ml_connector.webhooks.{outcome}", number)
    for seconds in latencies:
        stats.timing("ml_connector.webhooks.latency", seconds * 1000)
    stats.gauge("ml_connector.inbox.depth", now.depth)
    stats.gauge("ml_connector.inbox.age_seconds", now.age)
    stats.gauge("ml_connector.inbox.dead", now.dead)
