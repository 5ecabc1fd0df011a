"""The inbox of webhooks: events delivered, claimed under a lease, and brought to an end.

::

    deliver ─> pending ─claim─> leased ─settle─────> done | ignored
       │          ^                │ ──quarantine──> quarantined
       │          ├──── fail ──────┤ ──fail (5th)──> dead
       │          └─── postpone ───┘
       └─> ignored | quarantined        requeue: quarantined, dead, ignored ─> pending

A lease is a time, not a row lock, so that an event is seen as being worked on, and work can take
several transactions. ``attempts`` is the lease's number: whoever comes back after the lease passed
to another changes nothing, and is told so by the count of rows.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, text

from ml_connector.audit.trail import prepare_append
from ml_connector.model import RunContext
from ml_connector.vault import Vault
from ml_connector.wire.webhook_event import WebhookEvent

CHANNEL = "ml_connector_inbox"
"""LISTEN here: notified when an event to be worked on was committed."""

TRIES = 5

WAITS = (10, 60, 300, 1800)
"""Seconds after the first, second ... failure; after the fifth the event is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedEvent:
    """An event under our lease; ``attempts`` includes this one. The payload is still sealed.

    ``reason``: why it was set aside, failed or waited the last time.
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
        """Return the event as it came."""
        return vault.decrypt(self.payload, identity(self.dedupe_key))


def deliver(connection: Connection, events: Sequence[WebhookEvent], *, vault: Vault) -> int:
    """Store ``events``, each once however often it comes; return how many were new.

    Listeners of ``CHANNEL`` are told in the same transaction if there is something to work on.
    """
    # In one order for all: two transactions with the same events would wait for one another.
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
    if any(event.state != "pending" for _, event in ordered):
        prepare_append(connection)
    columns |= _who(RunContext(task_id="receiver"))
    return int(connection.execute(_DELIVER, columns).scalar_one())


# The audit row of an event that came to its end; its cause names the event, so it has no payload.
_AUDIT = """
    INSERT INTO ml_connector.audit
        (sync, system, action, reason, customer_id, outcome, error, attempts, cause, dag_id, run_id,
         task_id, try_number, actor, seal_id)
    SELECT coalesce(sync, :of_sync), system, 'webhook', kind, entity_id, state, reason, attempts,
           'webhook:' || id, :dag_id, :run_id, :task_id, :try_number, :actor,
           left(replace(gen_random_uuid()::text, '-', ''), 16)
"""


def _who(run: RunContext | None, sync: str = "") -> dict[str, Any]:
    """The audit's part of a statement: who ends events, and for which sync if they name none."""
    return {**asdict(run or RunContext()), "of_sync": sync}


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
        RETURNING *),
    audited AS ({_AUDIT} FROM stored WHERE state <> 'pending'),
    told AS (SELECT pg_notify('ml_connector_inbox', '') FROM stored WHERE state = 'pending' LIMIT 1)
    SELECT (SELECT count(*) FROM stored) + 0 * (SELECT count(*) FROM told)
""")  # noqa: S608 -- the part is a constant of this module


def claim(
    connection: Connection,
    *,
    limit: int,
    lease: timedelta,
    tried: bool = False,
    run: RunContext | None = None,
) -> list[ClaimedEvent]:
    """Lease up to ``limit`` events that are due, longest due first; nobody else gets them.

    Events that were ``tried`` before are claimed apart from those that were not, so that one that
    cannot be worked on does not take others along.

    An event whose lease ran out is due again; one that outlasted ``TRIES`` leases is dead, since
    it may be what ends its workers.
    """
    _bury(connection, run)
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


def _bury(connection: Connection, run: RunContext | None) -> None:
    outlasted = "state = 'leased' AND lease_until <= clock_timestamp() AND attempts >= :tries"
    found = connection.execute(
        text(f"SELECT EXISTS (SELECT 1 FROM ml_connector.webhook_inbox WHERE {outlasted})"),  # noqa: S608
        {"tries": TRIES},
    ).scalar_one()
    if not found:
        return
    prepare_append(connection)
    connection.execute(
        text(f"""WITH ended AS (
                    UPDATE ml_connector.webhook_inbox
                    SET state = 'dead', reason = coalesce(reason, 'lease_expired'),
                        settled_at = clock_timestamp()
                    WHERE {outlasted} RETURNING *)
                 {_AUDIT} FROM ended"""),  # noqa: S608 -- the parts are constants
        {"tries": TRIES, **_who(run)},
    )


def settle(
    connection: Connection,
    events: Collection[ClaimedEvent],
    *,
    state: Literal["done", "ignored"] = "done",
    reason: str | None = None,
    run: RunContext | None = None,
    sync: str = "",
) -> int:
    """Bring claimed events to their end; return how many were still ours.

    Each has its audit row, under ``sync`` if the event is of no single one.
    """
    return _end(connection, events, state=state, reason=reason, who=_who(run, sync))


def quarantine(
    connection: Connection,
    events: Collection[ClaimedEvent],
    *,
    reason: str,
    run: RunContext | None = None,
) -> int:
    """Set claimed events aside for a person to look at; return how many were still ours."""
    return _end(connection, events, state="quarantined", reason=reason, who=_who(run))


def fail(
    connection: Connection,
    events: Collection[ClaimedEvent],
    *,
    reason: str,
    run: RunContext | None = None,
    sync: str = "",
) -> int:
    """Note that claimed events failed: due again after ``WAITS``, dead after ``TRIES``.

    ``reason`` is shown to people and holds no personal data. Returns how many were still ours.
    """
    again = [event for event in events if event.attempts < TRIES]
    over = [event for event in events if event.attempts >= TRIES]
    changed = _end(connection, over, state="dead", reason=reason, who=_who(run, sync))
    for number, wait in enumerate(WAITS, start=1):
        these = [event for event in again if event.attempts == number]
        changed += _change(
            connection,
            these,
            "state = 'pending', reason = :reason, lease_until = NULL,"
            " next_try_at = clock_timestamp() + :wait",
            reason=reason,
            wait=timedelta(seconds=wait),
        )
    return changed


def postpone(
    connection: Connection, events: Collection[ClaimedEvent], *, wait: timedelta, reason: str
) -> int:
    """Give claimed events back untried, due after ``wait``: what is away is not their fault."""
    return _change(
        connection,
        events,
        "state = 'pending', reason = :reason, lease_until = NULL, next_try_at = clock_timestamp() + :wait,"
        " attempts = i.attempts - 1",
        reason=reason,
        wait=wait,
    )


def requeue(connection: Connection, ids: Collection[int]) -> int:
    """Make dead, quarantined or ignored events due once more; return how many."""
    return len(requeue_of(connection, ids))


def requeue_of(connection: Connection, ids: Collection[int]) -> set[int]:
    """As ``requeue``; return which ones."""
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
    """Destroy what events say, by id their dedupe key; whoever works on one finds it empty."""
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


def newest(connection: Connection) -> int:
    """Return the number of the event that came last; 0 if there is none."""
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
    who: Mapping[str, Any],
) -> int:
    if events:
        prepare_append(connection)
    return _change(
        connection,
        events,
        "state = :state, reason = :reason, lease_until = NULL, settled_at = clock_timestamp()",
        then="WITH ended AS ({change} RETURNING i.*) " + _AUDIT + " FROM ended",
        state=state,
        reason=reason,
        **who,
    )


def _change(
    connection: Connection,
    events: Collection[ClaimedEvent],
    assignments: str,
    *,
    then: str = "{change}",
    **values: Any,
) -> int:
    """Change those events whose lease is still the one they were claimed under."""
    if not events:
        return 0
    change = f"""UPDATE ml_connector.webhook_inbox i SET {assignments}
                 FROM unnest(CAST(:ids AS bigint[]), CAST(:leases AS int[])) AS mine(id, attempts)
                 WHERE i.id = mine.id AND i.attempts = mine.attempts
                   AND i.state = 'leased'"""  # noqa: S608 -- assignments are written above
    return connection.execute(
        text(then.format(change=change)),
        {
            "ids": [event.id for event in events],
            "leases": [event.attempts for event in events],
            **values,
        },
    ).rowcount


def identity(dedupe_key: str) -> str:
    """Return the name that an event's payload is sealed for."""
    return f"webhook_inbox/{dedupe_key}"
