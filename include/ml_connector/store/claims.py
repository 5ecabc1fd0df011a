"""Claim changes to push: lock them, and say whether what each was decided on still holds.

A claim is a row lock that the worker holds while its call is in flight. The claim of a killed
worker is free at once. No run has to guess whether a worker is alive. A run that decides on the same
contact waits for that lock, then reads the result.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, text

from ml_connector.model import Kind
from ml_connector.store.changes import STARTED, UNDO, cause_of
from ml_connector.store.database import fetch_binary, text_array


class ClaimedChange(msgspec.Struct, frozen=True):
    """A claimed change with everything its call needs, in the column order of ``_CLAIM``.

    Payloads are still encrypted. ``current`` is False if the customer or the contact's owner
    changed after the decision. ``pushed_hash``: of our last write. ``held_hash``: of the write that
    an undo took back.
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
           c.batch_id
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
# The status of a write that brings a customer along depends on the contacts that all customers at
# the address come from (A42). A write that only lowers the status rests on the opt-out alone, which
# another customer at the address does not share.
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


_READ_AT_ONCE = 1000
"""Changes read together. Without a size, ``partitions`` fetches all rows."""


def iter_undecided_updates(
    connection: Connection, *, plan_id: int, customer_ids: Collection[str] | None = None
) -> Iterator[list[ClaimedChange]]:
    """Yield a plan's pending or previewed updates and restores of contacts that show anything.

    They are read, not claimed, up to a thousand at a time. ``customer_ids``: only of these.
    """
    claimed = """c AS (SELECT * FROM ml_connector.all_changes
                       WHERE plan_id = :plan_id AND state IN ('pending', 'preview')
                         AND kind IN ('update', 'restore')
                         AND (CAST(:ids AS text[]) IS NULL OR customer_id = ANY(:ids)))"""
    query = _CLAIM.format(claimed=claimed, current="true", started="false")
    ids = None if customer_ids is None else text_array(customer_ids)
    rows = connection.execute(
        text(query),
        {"plan_id": plan_id, "ids": ids},
        execution_options={"yield_per": _READ_AT_ONCE},
    )
    for page in rows.partitions(_READ_AT_ONCE):
        read = [ClaimedChange(*row) for row in page]
        yield [c for c in read if c.customer_payload and (c.contact_payload or c.observation)]


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


def lowering(connection: Connection, *, plan_id: int, shard: int) -> list[int]:
    """Return the pending changes that do nothing but lower a status (A42)."""
    rows = connection.execute(
        text("""SELECT id FROM ml_connector.changes
                WHERE plan_id = :plan_id AND shard = :shard AND state = 'pending'
                  AND kind = 'update' AND status IS NOT NULL ORDER BY id"""),
        {"plan_id": plan_id, "shard": shard},
    ).scalars()
    return list(rows)


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
