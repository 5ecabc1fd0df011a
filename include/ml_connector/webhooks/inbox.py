"""The webhook inbox: deliver events, claim them under a lease, settle them.

::

    deliver ─> pending ─claim─> leased ─settle─────> done | ignored
       │          ^                │ ──quarantine──> quarantined
       │          ├──── fail ──────┤ ──fail (5th)──> dead
       │          └─── postpone ───┘
       └─> ignored | quarantined        requeue: quarantined, dead, ignored ─> pending

A lease is a time, not a row lock. A claimed event is therefore visible, and its processing can take
several transactions. ``attempts`` numbers the lease. A worker that returns after its lease passed
to another changes nothing, and the row count shows it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.model import RunContext
from ml_connector.vault import Vault
from ml_connector.wire.webhook_event import WebhookEvent

CHANNEL = "ml_connector_inbox"
"""The NOTIFY channel: a notification follows the commit of an event to process."""

TRIES = 5

WAITS = (10, 60, 300, 1800)
"""Seconds to wait after the first, second ... failure. After the fifth the event is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedEvent:
    """An event under our lease; the payload is still encrypted.

    ``attempts`` includes this one. ``reason``: why the event was last quarantined, failed or
    postponed.
    """

    id: int
    system: str
    source: str
    sync: str | None
    kind: str
    entity_id: str | None
    deleted_id: str | None
    dedupe_key: str
    attempts: int
    occurred_at: datetime | None
    received_at: datetime
    reason: str | None
    payload: bytes

    def decrypted(self, vault: Vault) -> Any:
        """Return the event as received."""
        return vault.decrypt(self.payload, identity(self.dedupe_key))


def deliver(connection: Connection, events: Sequence[WebhookEvent], *, vault: Vault) -> int:
    """Store ``events``, each once however often it comes; return the number of new ones.

    If there is work to do, the same transaction notifies the listeners of ``CHANNEL``.
    """
    # Sorted: two transactions with the same events in different orders would deadlock.
    ordered = sorted({event.dedupe_key: event for event in reversed(events)}.items())
    if not ordered:
        return 0
    columns: dict[str, Any] = {
        name: [getattr(event, name) for _, event in ordered]
        for name in (
            *("system", "source", "sync", "kind", "entity_id", "deleted_id"),
            *("dedupe_key", "state", "reason", "occurred_at"),
        )
    }
    columns["payload"] = [vault.encrypt(event.payload, identity(key)) for key, event in ordered]
    stored = connection.execute(_DELIVER, columns).all()
    settled = [row for row in stored if row.state != "pending"]
    _record(connection, settled, run=RunContext(task_id="receiver"), vault=vault)
    return len(stored)


_RECORDED = "id, sync, system, kind, entity_id, state, reason, attempts"


def _record(
    connection: Connection,
    settled: Sequence[Row[Any]],
    *,
    run: RunContext | None,
    vault: Vault,
    sync: str = "",
) -> int:
    """Write the audit rows of settled events (columns ``_RECORDED``); return how many.

    ``sync``: for events that name none. The cause names the event, so a row has no payload.
    """
    entries = [
        Entry(
            sync=sync if row.sync is None else row.sync,
            system=row.system,
            action="webhook",
            reason=row.kind,
            customer_id=row.entity_id,
            outcome=row.state,
            error=row.reason,
            attempts=row.attempts,
            cause=f"webhook:{row.id}",
        )
        for row in settled
    ]
    return trail.append(connection, entries, run=run or RunContext(), vault=vault)


_DELIVER = text(f"""
    WITH stored AS (
        INSERT INTO ml_connector.webhook_inbox
            (system, source, sync, kind, entity_id, deleted_id, dedupe_key, payload, state, reason,
             occurred_at, settled_at)
        SELECT e.*, CASE WHEN e.state <> 'pending' THEN clock_timestamp() END
        FROM unnest(CAST(:system AS text[]), CAST(:source AS text[]), CAST(:sync AS text[]),
                    CAST(:kind AS text[]), CAST(:entity_id AS text[]), CAST(:deleted_id AS text[]),
                    CAST(:dedupe_key AS text[]), CAST(:payload AS bytea[]), CAST(:state AS text[]),
                    CAST(:reason AS text[]), CAST(:occurred_at AS timestamptz[]))
             AS e(system, source, sync, kind, entity_id, deleted_id, dedupe_key, payload, state,
                  reason, occurred_at)
        ON CONFLICT (dedupe_key) DO NOTHING
        RETURNING {_RECORDED}),
    told AS (SELECT pg_notify('ml_connector_inbox', '') FROM stored WHERE state = 'pending' LIMIT 1)
    SELECT {_RECORDED}, (SELECT count(*) FROM told) AS told FROM stored ORDER BY id
""")  # noqa: S608 -- the part is a constant of this module


def claim(
    connection: Connection,
    *,
    limit: int,
    lease: timedelta,
    tried: bool = False,
    run: RunContext | None = None,
    vault: Vault | None = None,
) -> list[ClaimedEvent]:
    """Lease up to ``limit`` due events, longest due first. No other worker gets them.

    Claims previously ``tried`` events apart from new ones, so a poison message fails no other
    event.

    An event with an expired lease is due again. After ``TRIES`` leases it is dead, since it may be
    what kills its workers.
    """
    if vault is not None:
        _dead_letter_expired(connection, run, vault)
    rows = connection.execute(
        text("""WITH due AS (
                    SELECT id FROM ml_connector.webhook_inbox
                    WHERE (attempts > 0) = :tried
                      AND (state = 'pending'
                           AND coalesce(next_try_at, received_at) <= clock_timestamp()
                           OR state = 'leased' AND lease_until <= clock_timestamp())
                    ORDER BY coalesce(next_try_at, received_at), id
                    LIMIT :limit FOR UPDATE SKIP LOCKED)
                UPDATE ml_connector.webhook_inbox i
                SET state = 'leased', attempts = i.attempts + 1,
                    lease_until = clock_timestamp() + :lease
                FROM due WHERE i.id = due.id
                RETURNING i.id, i.system, i.source, i.sync, i.kind, i.entity_id, i.deleted_id,
                          i.dedupe_key, i.attempts, i.occurred_at, i.received_at, i.reason,
                          i.payload"""),
        {"limit": limit, "lease": lease, "tried": tried},
    ).all()
    claimed = [ClaimedEvent(**row._mapping) for row in rows]  # noqa: SLF001 -- public accessor
    return sorted(claimed, key=lambda event: event.id)


def _dead_letter_expired(connection: Connection, run: RunContext | None, vault: Vault) -> None:
    ended = connection.execute(
        text(f"""UPDATE ml_connector.webhook_inbox
                 SET state = 'dead', reason = coalesce(reason, 'lease_expired'),
                     settled_at = clock_timestamp()
                 WHERE state = 'leased' AND lease_until <= clock_timestamp() AND attempts >= :tries
                 RETURNING {_RECORDED}"""),  # noqa: S608 -- a constant
        {"tries": TRIES},
    ).all()
    _record(connection, ended, run=run, vault=vault)


def settle(
    connection: Connection,
    events: Collection[ClaimedEvent],
    *,
    vault: Vault,
    state: Literal["done", "ignored"] = "done",
    reason: str | None = None,
    run: RunContext | None = None,
    sync: str = "",
) -> int:
    """Settle claimed events; return how many were still under our lease.

    Each event gets an audit row, under ``sync`` if the event names none.
    """
    return _end(connection, events, state=state, reason=reason, run=run, sync=sync, vault=vault)


def quarantine(
    connection: Connection,
    events: Collection[ClaimedEvent],
    *,
    reason: str,
    vault: Vault,
    run: RunContext | None = None,
) -> int:
    """Quarantine claimed events for review; return how many were still under our lease."""
    return _end(connection, events, state="quarantined", reason=reason, run=run, vault=vault)


def fail(
    connection: Connection,
    events: Collection[ClaimedEvent],
    *,
    reason: str,
    vault: Vault,
    run: RunContext | None = None,
    sync: str = "",
) -> int:
    """Record the failure of claimed events: due again after ``WAITS``, dead after ``TRIES``.

    ``reason`` is shown to users and holds no personal data. Returns how many events were still
    under our lease.
    """
    again = [event for event in events if event.attempts < TRIES]
    over = [event for event in events if event.attempts >= TRIES]
    changed = 0
    for number, wait in enumerate(WAITS, start=1):
        these = [event for event in again if event.attempts == number]
        waiting = _change(
            connection,
            these,
            "state = 'pending', reason = :reason, lease_until = NULL,"
            " next_try_at = clock_timestamp() + :wait",
            reason=reason,
            wait=timedelta(seconds=wait),
        )
        changed += len(waiting)
    return changed + _end(
        connection, over, state="dead", reason=reason, run=run, sync=sync, vault=vault
    )


def postpone(
    connection: Connection, events: Collection[ClaimedEvent], *, wait: timedelta, reason: str
) -> int:
    """Release claimed events untried, due after ``wait``: an outage is not the event's fault."""
    released = _change(
        connection,
        events,
        "state = 'pending', reason = :reason, lease_until = NULL, next_try_at = clock_timestamp() + :wait,"
        " attempts = i.attempts - 1",
        reason=reason,
        wait=wait,
    )
    return len(released)


def requeue(connection: Connection, ids: Collection[int]) -> int:
    """Make dead, quarantined or ignored events due again; return their number."""
    return len(requeue_ids(connection, ids))


def requeue_ids(connection: Connection, ids: Collection[int]) -> set[int]:
    """Run ``requeue``; return the ids of the events."""
    rows = connection.execute(
        text("""UPDATE ml_connector.webhook_inbox
                SET state = 'pending', attempts = 0, next_try_at = clock_timestamp(),
                    lease_until = NULL, settled_at = NULL
                WHERE id = ANY(:ids) AND state IN ('dead', 'quarantined', 'ignored')
                RETURNING id"""),
        {"ids": list(ids)},
    ).all()
    if rows:
        connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
    return {row.id for row in rows}


def erase(connection: Connection, events: Mapping[int, str], *, vault: Vault) -> None:
    """Destroy the payloads of ``events``, a map of id to dedupe key.

    A worker that already claimed one finds it empty.
    """
    if not events:
        return
    connection.execute(
        text("""UPDATE ml_connector.webhook_inbox i SET payload = e.payload FROM
                    unnest(CAST(:ids AS bigint[]), CAST(:payloads AS bytea[])) AS e(id, payload)
                WHERE i.id = e.id"""),
        {
            "ids": list(events),
            "payloads": [vault.encrypt({}, identity(key)) for key in events.values()],
        },
    )


NEXT_DUE = """
    SELECT least(
        (SELECT min(coalesce(next_try_at, received_at))
         FROM ml_connector.webhook_inbox WHERE state = 'pending'),
        (SELECT min(lease_until) FROM ml_connector.webhook_inbox WHERE state = 'leased'))
"""


def is_due(connection: Connection) -> bool:
    """Return whether an event waits to be claimed."""
    due: bool | None = connection.execute(
        text(f"SELECT ({NEXT_DUE}) <= clock_timestamp()")
    ).scalar_one()
    return bool(due)


def newest(connection: Connection) -> int:
    """Return the id of the latest event; 0 if there is none."""
    number: int = connection.execute(
        text("SELECT coalesce(max(id), 0) FROM ml_connector.webhook_inbox")
    ).scalar_one()
    return number


def _end(
    connection: Connection,
    events: Collection[ClaimedEvent],
    *,
    state: str,
    reason: str | None,
    run: RunContext | None,
    vault: Vault,
    sync: str = "",
) -> int:
    ended = _change(
        connection,
        events,
        "state = :state, reason = :reason, lease_until = NULL, settled_at = clock_timestamp()",
        state=state,
        reason=reason,
    )
    return _record(connection, ended, run=run, sync=sync, vault=vault)


def _change(
    connection: Connection, events: Collection[ClaimedEvent], assignments: str, **values: Any
) -> Sequence[Row[Any]]:
    """Update the events whose lease is still the one they were claimed under; return them.

    Their columns are ``_RECORDED``.
    """
    if not events:
        return []
    returned = ", ".join(f"i.{column}" for column in _RECORDED.split(", "))
    return connection.execute(
        text(f"""UPDATE ml_connector.webhook_inbox i SET {assignments}
                 FROM unnest(CAST(:ids AS bigint[]), CAST(:leases AS int[])) AS mine(id, attempts)
                 WHERE i.id = mine.id AND i.attempts = mine.attempts AND i.state = 'leased'
                 RETURNING {returned}"""),  # noqa: S608 -- assignments are written above
        {
            "ids": [event.id for event in events],
            "leases": [event.attempts for event in events],
            **values,
        },
    ).all()


def identity(dedupe_key: str) -> str:
    """Return the identity that an event's payload is encrypted for."""
    return f"webhook_inbox/{dedupe_key}"
