"""Change batches: up to 500 like changes as one row, so one lock claims them and one update settles.

The changes of a batch share plan, shard, kind, reason and status, and differ by contact, customer
and data. A change whose fate differs from the others' leaves its batch: it becomes a row of
``changes`` under the same id. The view ``all_changes`` shows both as rows.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from ml_connector.model import Kind
from ml_connector.rules.plain import Change
from ml_connector.store.database import bytea_array, text_array

MOST = 500
"""A batch holds at most this many changes: those of one call to Mailchimp."""
FEWEST = 5
"""Fewer like changes than this are queued as rows."""
RISKY = ("address_changed", "address_returned")
"""Changes for these reasons rest on other contacts (A42). Each is looked at and sent by itself."""
_BATCHED = (Kind.CREATE, Kind.UPDATE)


def split(
    rows: Sequence[Change], origins: Mapping[bytes, str]
) -> tuple[list[list[Change]], list[Change]]:
    """Return ``rows`` as batches, each in ascending order of address, and those left as rows."""
    alike: dict[tuple[Any, ...], list[Change]] = defaultdict(list)
    for row in rows:
        alike[(*row[2:5], row[6], origins.get(row[0]))].append(row)
    batches, single = [], []
    for (kind, reason, status, *_), group in alike.items():
        lowers = kind == Kind.UPDATE and status is not None
        if kind not in _BATCHED or reason in RISKY or lowers or len(group) < FEWEST:
            single += group
            continue
        group.sort()
        batches += [group[at : at + MOST] for at in range(0, len(group), MOST)]
    return batches, single


def insert(
    connection: Connection,
    batch: Sequence[Change],
    *,
    plan_id: int,
    sync: str,
    shard: int,
    origin: str | None,
) -> None:
    """Queue a batch from ``split``."""
    keys, customer_ids, kinds, reasons, statuses, hashes, tagged = zip(*batch, strict=True)
    connection.execute(
        text("""INSERT INTO ml_connector.change_batches
                       (plan_id, sync, shard, kind, reason, status, tag_inactive, origin, size, span,
                        first_id, last_id, ids, email_keys, customer_ids, decided_hashes)
                SELECT :plan_id, :sync, :shard, :kind, :reason, :status, :tagged, :origin, :size,
                       ml_connector.key_span(:first, :last, '[]'), ids[1], ids[:size], ids,
                       CAST(:keys AS bytea[]), CAST(:customers AS text[]), CAST(:hashes AS bytea[])
                FROM (SELECT ARRAY(
                          SELECT nextval('ml_connector.changes_id_seq')
                          FROM generate_series(1, :size)) AS ids) numbered"""),
        {
            "plan_id": plan_id,
            "sync": sync,
            "shard": shard,
            "kind": kinds[0],
            "reason": reasons[0],
            "status": statuses[0],
            "tagged": tagged[0],
            "origin": origin,
            "size": len(batch),
            "first": keys[0],
            "last": keys[-1],
            "keys": bytea_array(keys),
            "customers": text_array(customer_ids),
            "hashes": bytea_array(hashes),
        },
    )


def lock_at(
    connection: Connection, *, sync: str, keys: Collection[bytes]
) -> Iterator[tuple[int, int, dict[int, bytes]]]:
    """Lock the pending batches with a change at ``keys``, after calls in flight.

    Yields each batch's id, its plan, and the keys of those changes by their ids.
    """
    spans = connection.execute(
        text("""SELECT id, lower(span) AS first, upper(span) AS last
                FROM ml_connector.change_batches WHERE sync = :sync AND state = 'pending'"""),
        {"sync": sync},
    ).all()
    if not spans:
        return
    wanted, sorted_keys = set(keys), sorted(keys)
    touched = [each.id for each in spans if _between(sorted_keys, each.first, each.last)]
    if not touched:
        return
    found = connection.execute(
        text("""SELECT id, plan_id, ids, email_keys FROM ml_connector.change_batches
                WHERE id = ANY(:ids) AND state = 'pending' ORDER BY id FOR UPDATE"""),
        {"ids": touched},
    ).all()
    for row in found:
        at = {
            id_: bytes(key)
            for id_, key in zip(row.ids, row.email_keys, strict=True)
            if bytes(key) in wanted
        }
        if at:
            yield row.id, row.plan_id, at


def _between(ascending: Sequence[bytes], first: bytes, last: bytes) -> bool:
    at = bisect_left(ascending, bytes(first))
    return at < len(ascending) and ascending[at] <= bytes(last)


_REST = """
    SELECT array_agg(u.id ORDER BY u.n) AS ids, array_agg(u.email_key ORDER BY u.n) AS email_keys,
           array_agg(u.customer_id ORDER BY u.n) AS customer_ids,
           array_agg(u.decided_hash ORDER BY u.n) AS decided_hashes
    FROM unnest(b.ids, b.email_keys, b.customer_ids, b.decided_hashes) WITH ORDINALITY
        AS u(id, email_key, customer_id, decided_hash, n)
    WHERE u.id <> ALL(:ids)"""


def take_out(connection: Connection, *, batch_id: int, ids: Collection[int]) -> None:
    """Make the changes ``ids`` rows of ``changes``, in the state of their batch.

    The caller has locked the batch. A batch without a change left is deleted.
    """
    which = {"batch": batch_id, "ids": list(ids)}
    connection.execute(
        text("""INSERT INTO ml_connector.changes
                       (id, plan_id, sync, shard, email_key, customer_id, kind, reason, status,
                        decided_hash, tag_inactive, state, attempts, decided_at, settled_at, origin)
                OVERRIDING SYSTEM VALUE
                SELECT id, plan_id, sync, shard, email_key, customer_id, kind, reason, status,
                       decided_hash, tag_inactive, state, attempts, decided_at, settled_at, origin
                FROM ml_connector.all_changes WHERE batch_id = :batch AND id = ANY(:ids)"""),
        which,
    )
    connection.execute(
        text("""DELETE FROM ml_connector.change_batches
                WHERE id = :batch AND ids <@ CAST(:ids AS bigint[])"""),
        which,
    )
    connection.execute(
        text(f"""UPDATE ml_connector.change_batches b
                 SET ids = r.ids, email_keys = r.email_keys, customer_ids = r.customer_ids,
                     decided_hashes = r.decided_hashes, size = cardinality(r.ids),
                     first_id = r.ids[1], last_id = r.ids[cardinality(r.ids)],
                     span = ml_connector.key_span(
                         r.email_keys[1], r.email_keys[cardinality(r.ids)], '[]')
                 FROM ml_connector.change_batches o, LATERAL ({_REST.replace("b.", "o.")}) r
                 WHERE b.id = :batch AND o.id = b.id"""),  # noqa: S608 -- a constant
        which,
    )


def dissolve(connection: Connection, *, batch_id: int) -> None:
    """Make every change of a pending batch a row of ``changes``. Waits for a call in flight."""
    ids = connection.execute(
        text("""SELECT ids FROM ml_connector.change_batches
                WHERE id = :batch AND state = 'pending' FOR UPDATE"""),
        {"batch": batch_id},
    ).scalar_one_or_none()
    if ids is not None:
        take_out(connection, batch_id=batch_id, ids=ids)


def dissolve_all(connection: Connection, *, plan_id: int, shard: int, kind: str) -> None:
    """Dissolve a shard's pending batches of a kind."""
    found = connection.execute(
        text("""SELECT id FROM ml_connector.change_batches
                WHERE plan_id = :plan_id AND shard = :shard AND kind = :kind AND state = 'pending'
                ORDER BY id"""),
        {"plan_id": plan_id, "shard": shard, "kind": kind},
    ).scalars()
    for batch_id in found.all():
        dissolve(connection, batch_id=batch_id)


def settle(connection: Connection, *, batch_id: int) -> None:
    """Settle a claimed batch: the changes still in it were applied."""
    connection.execute(
        text("""UPDATE ml_connector.change_batches
                SET state = 'applied', attempts = attempts + 1, settled_at = clock_timestamp()
                WHERE id = :batch"""),
        {"batch": batch_id},
    )


def take_out_person(
    connection: Connection,
    *,
    keys: Sequence[bytes],
    syncs: Sequence[str],
    customer_ids: Sequence[str],
) -> None:
    """Make a person's changes rows of ``changes``, whatever their state. Waits for calls.

    The person has the addresses ``keys``, and in each of ``syncs`` the customer of the same index.
    """
    theirs = """(c.email_key = ANY(:keys) OR (c.sync, c.customer_id) IN (
                     SELECT * FROM unnest(CAST(:syncs AS text[]), CAST(:customers AS text[]))))"""
    # Some of the batches: found without looking at each of their changes.
    perhaps = """email_keys && CAST(:keys AS bytea[])
                 OR sync = ANY(:syncs) AND customer_ids && CAST(:customers AS text[])"""
    who = {"keys": list(keys), "syncs": list(syncs), "customers": list(customer_ids)}
    found = connection.execute(
        text(f"SELECT id FROM ml_connector.change_batches WHERE {perhaps} ORDER BY id"),  # noqa: S608
        who,
    ).scalars()
    for batch_id in found.all():
        connection.execute(
            text("SELECT 1 FROM ml_connector.change_batches WHERE id = :batch FOR UPDATE"),
            {"batch": batch_id},
        )
        ids = connection.execute(
            text(f"""SELECT c.id FROM ml_connector.all_changes c
                     WHERE c.batch_id = :batch AND {theirs}"""),  # noqa: S608 -- a constant
            who | {"batch": batch_id},
        ).scalars()
        take_out(connection, batch_id=batch_id, ids=ids.all())
