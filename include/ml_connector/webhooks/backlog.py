"""Inbox metrics: depth, age of the oldest event, dead letters, latencies."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

MOST = 500
"""Latencies reported at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Inbox figures.

    ``depth``: events due or in process. ``age``: seconds that the one longest due has been due. ``dead``:
    dead-lettered events.
    """

    depth: int
    age: float
    dead: int


def count_backlog(connection: Connection) -> Backlog:
    """Return the current backlog."""
    row = connection.execute(
        text("""SELECT count(*) FILTER (WHERE state IN ('pending', 'leased')) AS depth,
                       coalesce(extract(epoch FROM clock_timestamp()
                           - min(coalesce(next_try_at, received_at))
                           FILTER (WHERE state = 'leased' OR state = 'pending'
                               AND coalesce(next_try_at, received_at) <= clock_timestamp())),
                           0) AS age,
                       count(*) FILTER (WHERE state = 'dead') AS dead
                FROM ml_connector.webhook_inbox
                WHERE state IN ('pending', 'leased', 'dead')""")
    ).one()
    return Backlog(depth=row.depth, age=float(row.age), dead=row.dead)


def latencies(connection: Connection, *, since: datetime) -> list[float]:
    """Return seconds from receipt to settlement of events done since then, ``MOST`` at most.

    Leaves out events received more than an hour before ``since``: those waited for a person.
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
