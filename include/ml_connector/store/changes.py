"""Change queue: insert decided changes, supersede them, settle them with their audit rows.

A contact has at most one pending change (A35). Workers take them by a claim (``store.claims``). Like
changes are one row (``store.batches``).
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, text

from ml_connector.model import ChangeState
from ml_connector.rules.decide import CHANGE_COLUMNS
from ml_connector.rules.plain import Change
from ml_connector.store import batches
from ml_connector.store.database import (
    NOW,
    bytea_array,
    copy_rows,
    lock_sync,
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
                 -- One look into the index for each: given their number, Postgres reads all changes.
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
