"""Change queue: insert decided changes, claim them to push, settle them with their audit rows.

A claim is a row lock that the worker holds while its call is in flight. The claim of a killed
worker is free at once. No run has to guess whether a worker is alive. A contact has at most one
pending change (A35). A run that decides on the same contact waits for that lock, then reads the
result. Like changes are one row (``store.batches``).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, text

from ml_connector.model import ChangeState, Kind
from ml_connector.rules.decide import CHANGE_COLUMNS
from ml_connector.rules.plain import Change
from ml_connector.store import batches
from ml_connector.store.database import (
    NOW,
    bytea_array,
    copy_rows,
    fetch_binary,
    lock_sync,
    text_array,
)

_QUEUED = {
    "plan_id": "int8", "sync": "text", "shard": "int4", "state": "text", "origin": "text",
    "decided_at": "int8",
}  # fmt: skip
_DECIDED = dict(
    zip(CHANGE_COLUMNS, ["bytea", "text", "text", "text", "text", "bytea", "bool"], strict=True)
)


UNDO = "undo:"
"""The origin of a change that undoes a run: this and the run's id."""


def cause_of(change_id: int, origin: str | None) -> str:
    """Return the cause of a change's audit rows: the run it undoes, or the change itself."""
    return origin if origin and origin.startswith(UNDO) else f"change:{change_id}"


class ClaimedChange(msgspec.Struct, frozen=True):
    """A claimed change with everything its call needs, in the column order of ``_CLAIM``.

    Payloads are still encrypted. ``current`` is False if the customer or the contact's owner
    changed after the decision. ``pushed_hash``: of our last write. ``held_hash``: of the write that
    an undo took back. ``made_by_us``: a creation whose outcome is unknown made the contact.
    """

    id: int
    email_key: bytes
    customer_id: str
    kind: str
    reason: str
    status: str | None
    decided_hash: bytes | None
    tag_inactive: bool
    attempts: int
    started: bool
    current: bool
    customer_payload: bytes | None
    known_status: str | None
    archived_by: str | None
    previous_status: str | None
    sent_fields: Sequence[str]
    tagged_inactive: bool
    parked_times: int
    contact_payload: bytes | None
    seen_tags: Sequence[bytes] | None
    origin: str | None
    contact_id: str | None
    seen_at: datetime | None
    observation: bytes | None
    observed_at: datetime | None
    pushed_hash: bytes | None
    held_hash: bytes | None
    made_by_us: bool
    batch_id: int | None

    @property
    def undoes(self) -> str | None:
        """The run that the change undoes, None for any other change."""
        origin = self.origin or ""
        return origin.removeprefix(UNDO) if origin.startswith(UNDO) else None

    @property
    def cause(self) -> str:
        """What the audit names as the change's cause."""
        return cause_of(self.id, self.origin)

    @property
    def lowers(self) -> bool:
        """Whether the change does nothing but lower the contact's status (A42)."""
        return self.kind == Kind.UPDATE and self.status is not None


class SettledChange(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a change."""

    id: int
    state: ChangeState
    error: str | None = None


_PENDING_AT = """
    SELECT found.* FROM unnest(CAST(:keys AS bytea[])) AS k(key), LATERAL (
        SELECT id FROM ml_connector.changes
        WHERE sync = :sync AND email_key = k.key AND state = 'pending' OFFSET 0) found"""


_PREVIEWED_AT = """
    SELECT found.* FROM unnest(CAST(:keys AS bytea[])) AS k(key), LATERAL (
        SELECT email_key FROM ml_connector.changes
        WHERE plan_id = :plan_id AND email_key = k.key AND state = 'preview' OFFSET 0) found"""


def supersede(
    connection: Connection, *, sync: str, plan_id: int | None = None, kind: str | None = None
) -> int:
    """Supersede a sync's pending changes (of a plan, of a kind); return how many.

    Waits for calls in flight. Marks the customers for a new decision. With ``plan_id``, keeps an
    archive whose call may have been applied. Without that change, no run could attribute the
    archive to us. Without ``plan_id``, keeps the changes of an undo: it may wait for approval.
    """
    which = {"sync": sync, "plan_id": plan_id, "kind": kind}
    pending = f"""sync = :sync AND state = 'pending'
                  AND (CAST(:plan_id AS bigint) IS NULL AND coalesce(origin, '') NOT LIKE '{UNDO}%'
                       OR plan_id = :plan_id AND NOT (kind = 'archive' AND {STARTED}))
                  AND (CAST(:kind AS text) IS NULL OR kind = :kind)"""
    batched = """sync = :sync AND state = 'pending'
                 AND (CAST(:plan_id AS bigint) IS NULL OR plan_id = :plan_id)
                 AND (CAST(:kind AS text) IS NULL OR kind = :kind)"""
    # Lock order: a deciding run locks changes first, then the sync. Do the same here.
    for table, such in (("changes c", pending), ("change_batches", batched)):
        connection.execute(
            text(f"""SELECT count(*) FROM (SELECT 1 FROM ml_connector.{table}
                                           WHERE {such} ORDER BY id FOR UPDATE) held"""),  # noqa: S608
            which,
        )
    lock_sync(connection, sync=sync)
    return int(
        connection.execute(
            text(f"""
        WITH single AS (
            UPDATE ml_connector.changes c SET state = 'superseded', settled_at = clock_timestamp()
            WHERE {pending} RETURNING email_key, customer_id
        ), batch AS (
            UPDATE ml_connector.change_batches
            SET state = 'superseded', settled_at = clock_timestamp()
            WHERE {batched} RETURNING email_keys, customer_ids
        ), dropped AS MATERIALIZED (
            SELECT * FROM single UNION ALL
            SELECT u.* FROM batch, unnest(batch.email_keys, batch.customer_ids) u
        ), again AS (
            UPDATE ml_connector.customers c SET dirty = true FROM (
                SELECT p.customer_id FROM dropped d
                JOIN ml_connector.customers p ON p.sync = :sync AND p.email_key = d.email_key
                UNION
                SELECT p.customer_id FROM dropped d
                JOIN ml_connector.customers p ON p.sync = :sync AND p.contact_key = d.email_key
                     AND p.contact_key IS DISTINCT FROM p.email_key
                UNION
                SELECT customer_id FROM dropped) w
            WHERE c.sync = :sync AND c.customer_id = w.customer_id
        )
        SELECT count(*) FROM dropped"""),  # noqa: S608 -- a constant
            which,
        ).scalar_one()
    )


class Superseded(NamedTuple):
    """Contacts with a pending change, by key: those whose change stays, and the others."""

    stays: set[bytes]
    dropped: set[bytes]


def supersede_at(
    connection: Connection,
    *,
    sync: str,
    keys: Collection[bytes],
    besides_plan: int | None = None,
) -> Superseded:
    """Supersede pending changes at ``keys``; return the contacts whose change was or was not.

    Waits for calls in flight. The caller decides again on the customers of all other contacts. The
    plan ``besides_plan`` keeps its own changes. The caller holds the lock on deciding, in this
    transaction or in another one.

    An archive whose call may have been applied stays for the next run that reads the entire
    audience. Only that run can determine the outcome. A new decision would discard the evidence
    that the archive is ours.
    """
    held = connection.execute(
        text(f"""SELECT id, plan_id, email_key FROM ml_connector.changes
                 -- One look into the index for each: told how many, Postgres reads all changes.
                 WHERE id = ANY(ARRAY(SELECT id FROM ({_PENDING_AT}) p))
                   AND state = 'pending' ORDER BY id FOR UPDATE"""),  # noqa: S608 -- a constant
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    stays: set[bytes] = set()
    dropped: set[bytes] = set()
    if held:
        # A separate statement: an archive may have started while the lock above was waiting.
        gone = connection.execute(
            text(f"""UPDATE ml_connector.changes c
                     SET state = 'superseded', settled_at = clock_timestamp()
                     WHERE c.id = ANY(:ids) AND NOT (c.kind = 'archive' AND {STARTED})
                     RETURNING c.email_key"""),  # noqa: S608 -- a constant
            {"ids": [row.id for row in held if row.plan_id != besides_plan]},
        ).scalars()
        dropped = {bytes(key) for key in gone}
        stays = {bytes(row.email_key) for row in held} - dropped
    for batch_id, plan_id, at in batches.lock_at(connection, sync=sync, keys=keys):
        if plan_id == besides_plan:
            stays.update(at.values())
            continue
        batches.take_out(connection, batch_id=batch_id, ids=at)
        settle(connection, [SettledChange(id=id_, state=ChangeState.SUPERSEDED) for id_ in at])
        dropped.update(at.values())
    return Superseded(stays, dropped)


def drop_preview(connection: Connection, *, plan_id: int) -> None:
    """Delete the changes of a preview, because its task runs again."""
    connection.execute(
        text("DELETE FROM ml_connector.changes WHERE plan_id = :plan_id AND state = 'preview'"),
        {"plan_id": plan_id},
    )


def insert(
    connection: Connection,
    decided: Collection[Change],
    *,
    plan_id: int,
    sync: str,
    state: str,
    shard: int,
    queued: Collection[bytes],
    origins: Mapping[bytes, str] | None = None,
) -> int:
    """Queue changes into a shard, except for contacts in ``queued``.

    Returns the number of changes queued. ``origins`` maps a contact to what triggered its change,
    for any trigger but the daily run.
    """
    rows = [row for row in decided if row[0] not in queued]
    told = origins or {}
    # A preview is there to be looked at: a row for each change.
    together, single = ([], rows) if state == "preview" else batches.split(rows, told)
    for batch in together:
        origin = told.get(batch[0][0])
        batches.insert(connection, batch, plan_id=plan_id, sync=sync, shard=shard, origin=origin)
    if single:
        now = connection.execute(text(f"SELECT {NOW}")).scalar_one()
        copy_rows(
            connection,
            "ml_connector.changes",
            _QUEUED | _DECIDED,
            (
                (plan_id, sync, shard, state, told.get(row[0]), now + number, *row)
                for number, row in enumerate(single)
            ),
        )
    return len(rows)


def previewed(connection: Connection, *, plan_id: int, keys: Collection[bytes]) -> set[bytes]:
    """Return those of ``keys`` for which the preview already holds a change."""
    rows = connection.execute(
        text(f"SELECT email_key FROM ({_PREVIEWED_AT}) p"),  # noqa: S608 -- a constant
        {"plan_id": plan_id, "keys": bytea_array(keys)},
    ).all()
    return {bytes(row.email_key) for row in rows}


STARTED = "EXISTS (SELECT 1 FROM ml_connector.archive_intents i WHERE i.change_id = c.id)"
# Lock first, join second. Otherwise Postgres joins rows that other workers hold, then skips them.
_ROWS = """c AS MATERIALIZED (
        SELECT *, CAST(NULL AS bigint) AS batch_id FROM ml_connector.changes
        WHERE plan_id = %(plan_id)s AND state = 'pending' AND kind = ANY(%(kinds)s)
          AND (CAST(%(shard)s AS int) IS NULL OR shard = %(shard)s)
          AND (CAST(%(ids)s AS bigint[]) IS NULL OR id = ANY(%(ids)s)) AND id > %(after)s
        ORDER BY id LIMIT %(chunk)s FOR UPDATE SKIP LOCKED)"""
_BATCH = """b AS MATERIALIZED (
        SELECT * FROM ml_connector.change_batches
        WHERE plan_id = %(plan_id)s AND state = 'pending' AND kind = %(kind)s
          AND shard = %(shard)s AND id > %(after)s
        ORDER BY id LIMIT 1 FOR UPDATE {unlocked}),
    c AS MATERIALIZED (
        SELECT u.*, b.sync, b.kind, b.reason, b.status, b.tag_inactive, b.attempts, b.origin,
               b.id AS batch_id
        FROM b, unnest(b.ids, b.email_keys, b.customer_ids, b.decided_hashes)
             AS u(id, email_key, customer_id, decided_hash))"""
_CLAIM = """
    WITH {claimed}
    SELECT c.id, c.email_key, c.customer_id, c.kind, c.reason, c.status, c.decided_hash,
           c.tag_inactive, c.attempts, {started} AS started,
           {current} AS current, p.payload AS customer_payload,
           k.status AS known_status, k.archived_by, k.previous_status,
           coalesce(k.sent_fields, '{{}}') AS sent_fields,
           coalesce(k.tagged_inactive, false) AS tagged_inactive,
           coalesce(k.parked_times, 0) AS parked_times, k.payload AS contact_payload,
           k.seen_tags, c.origin, k.contact_id, k.seen_at,
           o.payload AS observation, o.observed_at, k.pushed_hash,
           CASE WHEN k.refused_reason = 'undone' THEN k.refused_hash END AS held_hash,
           k.owner IS NOT NULL AND k.payload IS NULL AS made_by_us, c.batch_id
    FROM c
    LEFT JOIN LATERAL (SELECT * FROM ml_connector.customers
                       WHERE sync = c.sync AND customer_id = c.customer_id OFFSET 0) p ON true
    LEFT JOIN LATERAL (SELECT * FROM ml_connector.contacts
                       WHERE sync = c.sync AND email_key = c.email_key OFFSET 0) k ON true
    LEFT JOIN LATERAL (SELECT * FROM ml_connector.observations
                       WHERE sync = k.sync AND email_key = k.email_key OFFSET 0) o ON true
    ORDER BY c.id
"""
# A write is current while its customer is unchanged since the decision and still at that address.
# The member must not have changed that address in Mailchimp meanwhile (A28).
# The status of one that brings a customer along rests on the contacts that all customers at the
# address come from (A42).
# A write that only lowers the status rests on the opt-out alone, which another customer at the
# address does not share.
_WRITE_CURRENT = """(CASE WHEN c.kind = 'update' AND c.status IS NOT NULL THEN
    p.email_key = c.email_key AND NOT p.gone AND p.opted_out AND k.status IS DISTINCT FROM 'moved'
    AND NOT EXISTS (SELECT 1 FROM ml_connector.customers m
                    WHERE m.sync = c.sync AND m.email_key = c.email_key AND m.active
                      AND NOT m.gone AND NOT m.opted_out AND m.contact_key = m.email_key)
    ELSE p.email_key = c.email_key AND NOT p.gone AND NOT p.dirty
    AND NOT (c.reason IN ('address_changed', 'address_returned')
             AND EXISTS (SELECT 1 FROM ml_connector.customers m
                         WHERE m.sync = c.sync AND m.email_key = c.email_key AND m.dirty))
    AND k.status IS DISTINCT FROM 'moved'
    AND p.fields_hash || CASE WHEN c.tag_inactive THEN '\\x01'::bytea ELSE '\\x00'::bytea END
        = c.decided_hash END)"""
# An archive is current while no active customer uses the address, and no customer that left it
# waits for a contact elsewhere. Customers that will never have a contact do not delay it.
_ARCHIVE_CURRENT = """NOT EXISTS (
    SELECT 1 FROM ml_connector.customers m
    WHERE m.sync = c.sync AND m.active AND NOT m.gone
      AND (m.email_key = c.email_key AND m.decision IN ('contact', 'linked')
           OR m.contact_key = c.email_key AND m.contact_key IS DISTINCT FROM m.email_key
              AND m.reason NOT IN ('archived_by_marketer', 'forgotten', 'opted_out_elsewhere',
                                   'suppressed', 'job_excluded', 'customer_type_excluded',
                                   'currency_excluded', 'custom_field_excluded',
                                   'owned_by_another_sync', 'project',
                                   'no_email')))"""

# An undo is current while the contact is as it was when the undo was decided. A restore must not
# bring back a person who has opted out elsewhere since.
CONTACT_FACTS = """sha256(convert_to(CAST(ROW(k.status, k.archived_by, k.profile_hash, k.seen_tags,
    k.pushed_hash, k.refused_hash) AS text), 'UTF8'))"""
OPTED_OUT_SINCE = """EXISTS (
    SELECT 1 FROM ml_connector.customers m
    LEFT JOIN ml_connector.contacts n
      ON n.sync = m.sync AND n.email_key IN (m.email_key, m.contact_key)
         AND n.email_key <> c.email_key
    WHERE m.sync = c.sync
      AND (m.customer_id = c.customer_id
           OR m.customer_id IN (SELECT f.customer_id FROM ml_connector.former_contacts f
                                WHERE f.sync = c.sync AND f.email_key = c.email_key))
      AND (m.opted_out OR n.status IN ('unsubscribed', 'forgotten')
           OR n.status = 'cleaned' AND n.complained
           OR n.status = 'moved' AND coalesce(n.previous_status, 'unsubscribed')
                                     IN ('unsubscribed', 'forgotten')
           OR n.status = 'archived' AND n.archived_by = 'marketer'
           OR EXISTS (SELECT 1 FROM ml_connector.suppressions s
                      WHERE s.email_key = m.email_key)))"""
UNDO_CURRENT = f"""({STARTED} OR {CONTACT_FACTS} = c.decided_hash
    AND NOT (c.kind = 'restore' AND {OPTED_OUT_SINCE}))"""


def claim(
    connection: Connection,
    *,
    plan_id: int,
    shard: int | None,
    kinds: Collection[str],
    chunk: int,
    ids: Collection[int] | None = None,
    after: int = 0,
    undo: bool = False,
) -> list[ClaimedChange]:
    """Lock and return up to ``chunk`` unclaimed pending changes (of ``ids``, if given).

    Skips ids up to ``after``: an index still lists rows settled a moment ago. ``undo``: the plan
    undoes a run.
    """
    archive = Kind.ARCHIVE in kinds  # only archives are ever marked as started
    query = _CLAIM.format(
        claimed=_ROWS,
        current=UNDO_CURRENT if undo else _ARCHIVE_CURRENT if archive else _WRITE_CURRENT,
        started=STARTED if archive else "false",
    )
    rows = fetch_binary(
        connection,
        query,
        {
            "plan_id": plan_id,
            "shard": shard,
            "kinds": list(kinds),
            "chunk": chunk,
            "ids": None if ids is None else list(ids),
            "after": after,
        },
    )
    return [ClaimedChange(*row) for row in rows]


def claim_batch(
    connection: Connection,
    *,
    plan_id: int,
    shard: int,
    kind: str,
    after: int = 0,
    wait: bool = False,
) -> list[ClaimedChange]:
    """Lock a pending batch and return its changes; none if there is no such batch.

    Skips batches up to the id ``after``. ``wait`` waits for a batch that another transaction holds,
    instead of passing it over.
    """
    claimed = _BATCH.format(unlocked="" if wait else "SKIP LOCKED")
    query = _CLAIM.format(claimed=claimed, current=_WRITE_CURRENT, started="false")
    at = {"plan_id": plan_id, "shard": shard, "kind": kind, "after": after}
    return [ClaimedChange(*row) for row in fetch_binary(connection, query, at)]


def iter_undecided_updates(
    connection: Connection, *, plan_id: int, customer_ids: Collection[str] | None = None
) -> Iterator[ClaimedChange]:
    """Yield a plan's pending or previewed updates and restores of contacts that show anything.

    They are read, not claimed, a thousand at a time. ``customer_ids``: only of these.
    """
    claimed = """c AS (SELECT * FROM ml_connector.all_changes
                       WHERE plan_id = :plan_id AND state IN ('pending', 'preview')
                         AND kind IN ('update', 'restore')
                         AND (CAST(:ids AS text[]) IS NULL OR customer_id = ANY(:ids)))"""
    query = _CLAIM.format(claimed=claimed, current="true", started="false")
    ids = None if customer_ids is None else text_array(customer_ids)
    rows = connection.execute(
        text(query), {"plan_id": plan_id, "ids": ids}, execution_options={"yield_per": 1000}
    )
    for row in rows:
        change = ClaimedChange(*row)
        if change.customer_payload and (change.contact_payload or change.observation):
            yield change


class Risky(NamedTuple):
    """A pending change whose status rests on contacts that customers come from, by their keys."""

    id: int
    kind: str
    former: Sequence[bytes]


def next_risky(
    connection: Connection, *, plan_id: int, shard: int, after: int, chunk: int
) -> list[Risky]:
    """Return up to ``chunk`` pending creations and restores that bring a customer along (A42)."""
    rows = connection.execute(
        text("""SELECT c.id, c.kind,
                       ARRAY(SELECT m.contact_key FROM ml_connector.customers m
                             WHERE m.sync = c.sync AND m.email_key = c.email_key
                               AND m.contact_key IS NOT NULL
                               AND m.contact_key IS DISTINCT FROM m.email_key) AS former
                FROM ml_connector.changes c
                WHERE c.plan_id = :plan_id AND c.shard = :shard AND c.state = 'pending'
                  AND c.kind IN ('create', 'restore') AND c.id > :after
                  AND c.reason IN ('address_changed', 'address_returned')
                ORDER BY c.id LIMIT :chunk"""),
        {"plan_id": plan_id, "shard": shard, "after": after, "chunk": chunk},
    ).all()
    return [Risky(row.id, row.kind, [bytes(key) for key in row.former]) for row in rows]


def any_older(connection: Connection, *, plan_id: int, shard: int, than: timedelta) -> bool:
    """Return whether a pending creation, update or restore was decided longer ago ``than`` this.

    The queue never holds two decisions about one contact, so an older one is the newest there is.
    """
    return bool(
        connection.execute(
            text("""SELECT EXISTS (
                        SELECT 1 FROM ml_connector.change_counts
                        WHERE plan_id = :plan_id AND shard = :shard AND state = 'pending'
                          AND kind IN ('create', 'restore', 'update')
                          AND decided_at < clock_timestamp() - make_interval(secs => :age))"""),
            {"plan_id": plan_id, "shard": shard, "age": than.total_seconds()},
        ).scalar_one()
    )


def count_pending(connection: Connection, *, plan_id: int, kind: str) -> int:
    """Return the number of a plan's pending changes of a kind."""
    return int(
        connection.execute(
            text("""SELECT coalesce(sum(changes), 0) FROM ml_connector.change_counts
                    WHERE plan_id = :plan_id AND state = 'pending' AND kind = :kind"""),
            {"plan_id": plan_id, "kind": kind},
        ).scalar_one()
    )


def any_pending(connection: Connection, *, plan_id: int, shard: int, kind: str) -> bool:
    """Return whether a shard has pending changes of a kind."""
    return bool(
        connection.execute(
            text("""SELECT EXISTS (SELECT 1 FROM ml_connector.change_counts
                                   WHERE plan_id = :plan_id AND shard = :shard
                                     AND state = 'pending' AND kind = :kind)"""),
            {"plan_id": plan_id, "shard": shard, "kind": kind},
        ).scalar_one()
    )


def settle(connection: Connection, outcomes: Collection[SettledChange]) -> None:
    """Store the outcomes of claimed changes that are rows."""
    if outcomes:
        connection.execute(
            text("""UPDATE ml_connector.changes c
                    SET state = o.state, error = o.error, attempts = attempts + 1,
                        settled_at = clock_timestamp()
                    FROM jsonb_to_recordset(CAST(:outcomes AS jsonb))
                        AS o(id bigint, state text, error text)
                    WHERE c.id = o.id"""),
            {"outcomes": msgspec.json.encode(outcomes).decode()},
        )


def settle_apart(
    connection: Connection, outcomes: Collection[SettledChange], *, batch_id: int
) -> None:
    """Take out of a claimed batch what was not simply applied, and settle it."""
    apart = [each for each in outcomes if each.state is not ChangeState.APPLIED or each.error]
    if apart:
        batches.take_out(connection, batch_id=batch_id, ids=[each.id for each in apart])
        settle(connection, apart)


def mark_started(connection: Connection, *, change_id: int) -> None:
    """Record the intent to archive, before the call is sent.

    Commit it at once, in a transaction of its own. An archived contact does not show who archived
    it. After a lost response, the next run must know that the archive may be ours.
    """
    connection.execute(
        text("""INSERT INTO ml_connector.archive_intents (change_id) VALUES (:change_id)
                ON CONFLICT DO NOTHING"""),
        {"change_id": change_id},
    )


class StartedArchive(NamedTuple):
    """An archive of ours that was applied but whose outcome was not stored."""

    id: int
    email_key: bytes
    customer_id: str | None
    reason: str
    attempts: int
    previous_status: str | None
    contact_payload: bytes | None
    origin: str | None
    seen_tags: Sequence[bytes] | None
    seen_at: datetime | None
    observation: bytes | None
    observed_at: datetime | None

    @property
    def cause(self) -> str:
        """What the audit names as the archive's cause."""
        return cause_of(self.id, self.origin)


def take_applied_archives(connection: Connection, *, sync: str) -> list[StartedArchive]:
    """Lock and return pending archives that were in flight and whose contact we archived."""
    rows = connection.execute(
        text("""SELECT c.id, c.email_key, c.customer_id, c.reason, c.attempts, k.previous_status,
                       k.payload, c.origin, k.seen_tags, k.seen_at, o.payload, o.observed_at
                FROM ml_connector.changes c
                JOIN ml_connector.contacts k ON k.sync = c.sync AND k.email_key = c.email_key
                LEFT JOIN ml_connector.observations o
                     ON o.sync = c.sync AND o.email_key = c.email_key
                WHERE c.sync = :sync AND c.state = 'pending' AND c.kind = 'archive'
                  AND EXISTS (SELECT 1 FROM ml_connector.archive_intents i WHERE i.change_id = c.id)
                  AND k.status = 'archived' AND k.archived_by = 'us'
                ORDER BY c.id FOR UPDATE OF c"""),
        {"sync": sync},
    ).all()
    return [StartedArchive(*row) for row in rows]


def counts(connection: Connection, *, plan_id: int) -> list[tuple[str, str, str, int]]:
    """Return (kind, reason, state, changes) of a plan, without superseded changes."""
    rows = connection.execute(
        text("""SELECT kind, reason, state, sum(changes)::bigint FROM ml_connector.change_counts
                WHERE plan_id = :plan_id AND state <> 'superseded'
                GROUP BY kind, reason, state ORDER BY kind, reason, state"""),
        {"plan_id": plan_id},
    ).all()
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def leftover_of_webhooks(
    connection: Connection, *, sync: str, keys: Collection[bytes]
) -> list[bytes]:
    """Return the contacts among ``keys`` whose change was decided for a webhook and never sent.

    Its worker was killed in between, or Mailchimp was unavailable.
    """
    rows = connection.execute(
        text("""SELECT c.email_key FROM ml_connector.changes c
                JOIN ml_connector.plans p ON p.id = c.plan_id
                WHERE c.sync = :sync AND c.state = 'pending' AND p.kind = 'webhooks'
                  AND c.email_key = ANY(:keys)
                UNION
                SELECT k.key FROM unnest(CAST(:keys AS bytea[])) AS k(key)
                JOIN ml_connector.change_batches b
                  ON b.sync = :sync AND b.state = 'pending' AND b.span @> k.key
                     AND k.key = ANY(b.email_keys)
                JOIN ml_connector.plans p ON p.id = b.plan_id
                WHERE p.kind = 'webhooks'"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    return [bytes(row.email_key) for row in rows]


def pending_shards(connection: Connection, *, plan_id: int, kinds: Collection[str]) -> list[int]:
    """Return the shards that have pending changes of these kinds."""
    rows = connection.execute(
        text("""SELECT DISTINCT shard FROM ml_connector.change_counts
                WHERE plan_id = :plan_id AND state = 'pending' AND kind = ANY(:kinds)
                ORDER BY shard"""),
        {"plan_id": plan_id, "kinds": list(kinds)},
    ).all()
    return [row.shard for row in rows]


def pending_kinds(connection: Connection, *, plan_id: int) -> set[str]:
    """Return the kinds of a plan's pending changes."""
    rows = connection.execute(
        text("""SELECT DISTINCT kind FROM ml_connector.change_counts
                WHERE plan_id = :plan_id AND state = 'pending'"""),
        {"plan_id": plan_id},
    ).scalars()
    return set(rows)
