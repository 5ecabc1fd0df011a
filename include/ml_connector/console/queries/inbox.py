"""Webhook inbox queries of the console. Read-only; ``inbox.requeue`` makes the changes."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from ml_connector.vault import Vault

PAGE = 50
"""Events on a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxScope:
    """The scope of a query: the events of a sync and those of its company.

    Attributes:
        sync: The sync's name.
        realm: Its company. Empty if the connection names none; the last known company then applies.
        syncs: Every sync, to include events of a company that is unknown or that no sync has. Empty to
            exclude those events.
    """

    sync: str
    realm: str
    syncs: list[str] = field(default_factory=list)


# Events without a sync belong to every sync of the company.
_OURS = """(sync = :sync OR sync IS NULL AND (
                source = coalesce(nullif(:realm, ''),
                                  (SELECT value ->> 'realm' FROM ml_connector.cursors
                                   WHERE sync = :sync AND name = 'company'))
                OR CAST(:syncs AS text[]) <> '{}' AND source NOT IN (
                    SELECT value ->> 'realm' FROM ml_connector.cursors
                    WHERE sync = ANY(:syncs) AND name = 'company' AND value ? 'realm')))"""


def counts(connection: Connection, whose: InboxScope) -> dict[str, int]:
    """Return the number of events in each state."""
    rows = connection.execute(
        text(f"""SELECT state, count(*) AS events FROM ml_connector.webhook_inbox
                 WHERE {_OURS} GROUP BY state"""),  # noqa: S608 -- a constant
        asdict(whose),
    ).all()
    return {row.state: row.events for row in rows}


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long events wait.

    ``since``: since when the event longest due is due. ``retry``: the next planned retry of an event
    that is not due yet. None if there is no such event.
    """

    since: datetime | None
    retry: datetime | None


def waiting_events(connection: Connection, whose: InboxScope, *, now: datetime) -> Waiting:
    """Return how long the events wait. One with a planned retry is due from then on only."""
    due = "coalesce(next_try_at, received_at)"
    row = connection.execute(
        text(f"""SELECT min({due}) FILTER (WHERE {due} <= :now OR state = 'leased') AS since,
                        min(next_try_at) FILTER (WHERE {due} > :now AND state = 'pending') AS retry
                 FROM ml_connector.webhook_inbox
                 WHERE state IN ('pending', 'leased') AND {_OURS}"""),  # noqa: S608 -- constants
        {**asdict(whose), "now": now},
    ).one()
    return Waiting(row.since, row.retry)


def page(
    connection: Connection,
    whose: InboxScope,
    *,
    state: str = "",
    before: int = 0,
    limit: int = PAGE,
) -> list[Row[Any]]:
    """Return events, newest first, without bodies."""
    return list(
        connection.execute(
            text(f"""SELECT id, system, source, kind, entity_id, deleted_id, state, reason, attempts,
                            next_try_at, occurred_at, received_at, settled_at
                     FROM ml_connector.webhook_inbox
                     WHERE {_OURS} AND (:state = '' OR state = :state)
                       AND (:before = 0 OR id < :before)
                     ORDER BY id DESC LIMIT :limit"""),  # noqa: S608 -- a constant
            {**asdict(whose), "state": state, "before": before, "limit": limit},
        ).all()
    )


def event_row(connection: Connection, whose: InboxScope, *, event_id: int) -> Row[Any] | None:
    """Return one event with its encrypted body, None if it is out of scope."""
    return connection.execute(
        text(f"""SELECT * FROM ml_connector.webhook_inbox WHERE id = :id AND {_OURS}"""),  # noqa: S608
        {**asdict(whose), "id": event_id},
    ).one_or_none()


def event_body(row: Row[Any], *, vault: Vault) -> Any:
    """Return the body of an event as received."""
    return vault.decrypt(row.payload, f"webhook_inbox/{row.dedupe_key}")


def in_state(
    connection: Connection, whose: InboxScope, *, state: str, limit: int = 1000
) -> list[int]:
    """Return the ids of the oldest events in a state."""
    return list(
        connection.execute(
            text(f"""SELECT id FROM ml_connector.webhook_inbox
                     WHERE state = :state AND {_OURS} ORDER BY id LIMIT :limit"""),  # noqa: S608
            {**asdict(whose), "state": state, "limit": limit},
        ).scalars()
    )
