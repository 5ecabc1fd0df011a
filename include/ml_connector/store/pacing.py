"""Rate limits shared by all workers, and the count of API calls.

A window is stored as the time at which it is free again: the generic cell rate algorithm (GCRA,
https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm). It takes one row per account, one UPDATE
per call, and only the database's clock.
"""

from collections.abc import Collection, Mapping
from datetime import date, datetime

from sqlalchemy import Connection, text

UNMETERED = ("quickbooks.batch",)
"""QuickBooks does not meter these calls: writes, which all go in batches, are free."""

# One call every 125 ms with a burst of two: at most 10 in any second and 482 in any minute. A
# QuickBooks company allows 10 and 500 (QuickBooks limits page).
_RESERVE = text("""
    INSERT INTO ml_connector.pacing AS p (account, free_at)
    VALUES (:account, clock_timestamp() + interval '125 ms')
    ON CONFLICT (account) DO UPDATE SET
        free_at = greatest(p.free_at, clock_timestamp()) + interval '125 ms'
    RETURNING extract(epoch FROM free_at - interval '250 ms' - clock_timestamp())::float8
""")


def reserve(connection: Connection, *, account: str) -> float:
    """Reserve the next slot in ``account``'s windows; return how many seconds to wait for it."""
    return max(0.0, float(connection.execute(_RESERVE, {"account": account}).scalar_one()))


# A QuickBooks company accepts 40 batches a minute from an app (QuickBooks limits page). The times
# of the last 40 are stored, so a short run never waits. The extra second covers network latency.
_RESERVE_BATCH = text("""
    INSERT INTO ml_connector.pacing AS p (account, free_at, recent)
    VALUES (:account, clock_timestamp(), ARRAY[clock_timestamp()])
    ON CONFLICT (account) DO UPDATE SET
        recent = (p.recent || greatest(clock_timestamp(), CASE WHEN cardinality(p.recent) >= 40
                      THEN p.recent[cardinality(p.recent) - 39] + interval '61 s' END)
                 )[greatest(1, cardinality(p.recent) - 38):]
    RETURNING extract(epoch FROM recent[cardinality(recent)] - clock_timestamp())::float8
""")


def reserve_batch(connection: Connection, *, account: str) -> float:
    """Reserve the next of 40 batches a minute; return how many seconds to wait for it."""
    parameters = {"account": f"{account}/batch"}
    return max(0.0, float(connection.execute(_RESERVE_BATCH, parameters).scalar_one()))


def count_calls(
    connection: Connection, *, account: str, calls: Mapping[str, int], day: date
) -> None:
    """Add calls to the account's daily usage (QuickBooks meters reads by the month)."""
    for call, number in calls.items():
        connection.execute(
            text("""INSERT INTO ml_connector.api_usage AS u (day, account, call, calls)
                    VALUES (:day, :account, :call, :calls)
                    ON CONFLICT (day, account, call) DO UPDATE SET calls = u.calls + excluded.calls"""),
            {"day": day.isoformat(), "account": account, "call": call, "calls": number},
        )


def metered_reads(connection: Connection, *, accounts: Collection[str], at: datetime) -> int:
    """Return the QuickBooks reads of some accounts in the month of ``at``."""
    return int(
        connection.execute(
            text("""SELECT coalesce(sum(calls), 0) FROM ml_connector.api_usage
                    WHERE account = ANY(:accounts) AND starts_with(day, :month)
                      AND starts_with(call, 'quickbooks.') AND call <> ALL(:unmetered)"""),
            {
                "accounts": list(accounts),
                "month": f"{at:%Y-%m}",
                "unmetered": list(UNMETERED),
            },
        ).scalar_one()
    )
