"""The inbox in figures: how much waits, for how long, and how fast it is worked off."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

MOST = 500
"""Latencies that are told at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """``depth``: events due or in work; ``age``: seconds the oldest waits; ``dead``: given up."""

    depth: int
    age: float
    dead: int


def count_backlog(connection: Connection) -> Backlog:
    """Return what waits now."""
    row = connection.execute(
        text("""SELECT count(*) FILTER (WHERE state IN ('pending', 'leased')) AS depth,
                       coalesce(extract(epoch FROM clock_timestamp() - min(received_at)
                           FILTER (WHERE state IN ('pending', 'leased'))), 0) AS age,
                       count(*) FILTER (WHERE state = 'dead') AS dead
                FROM ml_connector.webhook_inbox
                WHERE state IN ('pending', 'leased', 'dead')""")
    ).one()
    return Backlog(depth=row.depth, age=float(row.age), dead=row.dead)


def latencies(connection: Connection, *, since: datetime) -> list[float]:
    """Return seconds from receipt to settlement of events done since then, ``MOST`` at most.

    Events that came more than an hour before are left out: they waited for a person.
    """
    return [
        float(seconds)
        for seconds in connection.execute(
            text("""SELECT extract(epoch FROM settled_at - received_at)
                    FROM ml_connector.webhook_inbox
                    WHERE state = 'done' AND received_at >= CAST(:since AS timestamptz) - interval '1 hour'
                      AND settled_at >= :since
                    ORDER BY id DESC LIMIT :most"""),
            {"since": since, "most": MOST},
        ).scalars()
    ]
