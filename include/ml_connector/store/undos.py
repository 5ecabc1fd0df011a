"""Queue of an undo: which contacts a plan takes back, and which it leaves, with the reason."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from ml_connector.store.changes import STARTED, UNDO
from ml_connector.store.claims import CONTACT_FACTS, OPTED_OUT_SINCE
from ml_connector.store.database import bytea_array, load_temp_table

UNDO_KINDS = ("undo", "undo_preview")
_UNDOABLE = ("sync", "webhooks", "replay", "undo")


class UndoneRun(NamedTuple):
    """A run that can be undone: its plan."""

    plan_id: int
    sync: str
    run_id: str
    created_at: datetime


class ContactNow(NamedTuple):
    """What the store knows of a contact that an undo is about."""

    status: str
    previous_status: str | None
    archived_by: str | None
    held: bool


class Verdict(NamedTuple):
    """What an undo does about a contact: a change, or with ``state`` ``left`` the reason for none."""

    email_key: bytes
    customer_id: str | None
    kind: str
    reason: str
    status: str | None
    state: str


def find_runs(connection: Connection, *, run: str, sync: str | None) -> list[UndoneRun]:
    """Return the runs that ``run`` names: a plan's number or a run's id, of a sync if one is named."""
    number = int(run) if run.isascii() and run.isdecimal() and len(run) < 19 else 0
    rows = connection.execute(
        text("""SELECT id, sync, run_id, created_at FROM ml_connector.plans
                WHERE (id = :number OR run_id = :run) AND kind = ANY(:kinds)
                  AND (CAST(:sync AS text) IS NULL OR sync = :sync) ORDER BY id"""),
        {"number": number, "run": run, "kinds": list(_UNDOABLE), "sync": sync},
    ).all()
    return [UndoneRun(*row) for row in rows]


def remember_run(connection: Connection, *, plan_id: int, undone: UndoneRun) -> None:
    """Store which run a plan undoes."""
    connection.execute(
        text("""UPDATE ml_connector.plans
                SET counts = counts || jsonb_build_object('undoes', CAST(:undone AS bigint))
                WHERE id = :plan_id"""),
        {"plan_id": plan_id, "undone": undone.plan_id},
    )


def run_of_plan(connection: Connection, *, plan_id: int) -> UndoneRun | None:
    """Return the run that a plan undoes; None if it undoes none."""
    row = connection.execute(
        text("""SELECT r.id, r.sync, r.run_id, r.created_at FROM ml_connector.plans p
                JOIN ml_connector.plans r ON r.id = CAST(p.counts ->> 'undoes' AS bigint)
                WHERE p.id = :plan_id"""),
        {"plan_id": plan_id},
    ).one_or_none()
    return None if row is None else UndoneRun(*row)


def plan_that_undid(connection: Connection, *, plan_id: int) -> int | None:
    """Return the newest finished plan that undoes a plan's run; None if there is none."""
    found: int | None = connection.execute(
        text("""SELECT max(id) FROM ml_connector.plans
                WHERE kind = 'undo' AND state = 'finished'
                  AND CAST(counts ->> 'undoes' AS bigint) = :plan_id"""),
        {"plan_id": plan_id},
    ).scalar_one()
    return found


def former_plans(connection: Connection, *, plan_id: int, undone: UndoneRun) -> list[int]:
    """Return earlier plans that undo the same run and did not come to their end."""
    rows = connection.execute(
        text("""SELECT p.id FROM ml_connector.plans p
                WHERE p.sync = :sync AND p.kind = 'undo' AND p.id <> :plan_id
                  AND CAST(p.counts ->> 'undoes' AS bigint) = :undone
                  AND EXISTS (SELECT 1 FROM ml_connector.changes c
                              WHERE c.plan_id = p.id AND c.state = 'pending')"""),
        {"sync": undone.sync, "plan_id": plan_id, "undone": undone.plan_id},
    ).scalars()
    return list(rows)


def take_over(connection: Connection, *, plan_id: int, former: int) -> None:
    """Move the archives that a former plan began to ``plan_id``, with what is known of their calls."""
    connection.execute(
        text(f"""UPDATE ml_connector.changes c SET plan_id = :plan_id
                 WHERE plan_id = :former AND state = 'pending' AND kind = 'archive'
                   AND {STARTED}"""),  # noqa: S608 -- a constant
        {"plan_id": plan_id, "former": former},
    )


def contacts_now(
    connection: Connection, *, sync: str, keys: Collection[bytes]
) -> dict[bytes, ContactNow]:
    """Return what is stored of the contacts ``keys``."""
    rows = connection.execute(
        text("""SELECT email_key, status, previous_status, archived_by,
                       coalesce(refused_reason = 'undone', false) AS held
                FROM ml_connector.contacts WHERE sync = :sync AND email_key = ANY(:keys)"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    return {bytes(row[0]): ContactNow(*row[1:]) for row in rows}


def opted_out_since(
    connection: Connection, *, sync: str, restores: Collection[tuple[bytes, str | None]]
) -> set[bytes]:
    """Return those contacts to restore whose customer has opted out elsewhere since."""
    if not restores:
        return set()
    load_temp_table(
        connection, "undo_restores", {"email_key": "bytea", "customer_id": "text"}, restores
    )
    rows = connection.execute(
        text(f"""SELECT c.email_key FROM (
                     SELECT CAST(:sync AS text) AS sync, * FROM undo_restores) c
                 WHERE {OPTED_OUT_SINCE}"""),  # noqa: S608 -- a constant
        {"sync": sync},
    ).scalars()
    return {bytes(key) for key in rows}


def lost_restores(
    connection: Connection, *, sync: str, run_id: str, keys: Collection[bytes]
) -> dict[bytes, str | None]:
    """Return the contacts that a lost call of an undo of this run may have restored, with the status.

    The latest call counts: a later one whose outcome is stored settled it.
    """
    if not keys:
        return {}
    rows = connection.execute(
        text("""SELECT k.key, sent.status FROM unnest(CAST(:keys AS bytea[])) AS k(key), LATERAL (
                    SELECT status, state FROM ml_connector.changes
                    WHERE sync = :sync AND email_key = k.key AND origin = :origin
                      AND kind = 'restore' AND attempts > 0
                    ORDER BY id DESC LIMIT 1) sent
                WHERE sent.state IN ('pending', 'superseded')"""),
        {"sync": sync, "origin": UNDO + run_id, "keys": bytea_array(keys)},
    ).all()
    return {bytes(key): status for key, status in rows}


_QUEUED = {
    "email_key": "bytea", "customer_id": "text", "kind": "text", "reason": "text",
    "status": "text", "state": "text",
}  # fmt: skip


def queue(
    connection: Connection, verdicts: Sequence[Verdict], *, plan_id: int, sync: str, run_id: str
) -> None:
    """Store what an undo does about contacts. A contact has one row in a plan."""
    load_temp_table(connection, "undo_verdicts", _QUEUED, verdicts)
    connection.execute(
        text(f"""INSERT INTO ml_connector.changes
                        (plan_id, sync, shard, email_key, customer_id, kind, reason, status, state,
                         decided_hash, origin, settled_at)
                 SELECT :plan_id, :sync, 0, v.email_key, v.customer_id, v.kind, v.reason, v.status,
                        v.state, {CONTACT_FACTS}, :origin,
                        CASE WHEN v.state = 'left' THEN clock_timestamp() END
                 FROM undo_verdicts v
                 LEFT JOIN ml_connector.contacts k ON k.sync = :sync AND k.email_key = v.email_key
                 WHERE NOT EXISTS (SELECT 1 FROM ml_connector.changes o
                                   WHERE o.plan_id = :plan_id AND o.email_key = v.email_key
                                     AND o.state IN ('left', 'applied'))
                 ORDER BY v.email_key ON CONFLICT DO NOTHING"""),  # noqa: S608 -- a constant
        {"plan_id": plan_id, "sync": sync, "origin": UNDO + run_id},
    )


def judged(connection: Connection, *, plan_id: int, keys: Collection[bytes]) -> set[bytes]:
    """Return those of ``keys`` about which a plan has a row already."""
    rows = connection.execute(
        text("""SELECT email_key FROM ml_connector.changes
                WHERE plan_id = :plan_id AND state <> 'superseded' AND email_key = ANY(:keys)"""),
        {"plan_id": plan_id, "keys": bytea_array(keys)},
    ).scalars()
    return {bytes(key) for key in rows}


def waiting(
    connection: Connection, *, plan_id: int, sync: str, keys: Collection[bytes]
) -> dict[bytes, int]:
    """Return the pending changes of a plan at ``keys``, except archives whose call has left."""
    rows = connection.execute(
        text(f"""SELECT email_key, id FROM ml_connector.changes c
                 WHERE sync = :sync AND state = 'pending' AND email_key = ANY(:keys)
                   AND plan_id = :plan_id AND NOT {STARTED}"""),  # noqa: S608 -- a constant
        {"plan_id": plan_id, "sync": sync, "keys": bytea_array(keys)},
    ).all()
    return {bytes(row.email_key): row.id for row in rows}


def refresh(connection: Connection, *, ids: Collection[int]) -> None:
    """Rest pending changes on what their contacts are now."""
    connection.execute(
        text(f"""UPDATE ml_connector.changes c SET decided_hash = {CONTACT_FACTS}
                 FROM ml_connector.contacts k
                 WHERE c.id = ANY(:ids) AND c.state = 'pending'
                   AND k.sync = c.sync AND k.email_key = c.email_key"""),  # noqa: S608
        {"ids": list(ids)},
    )


def leave(connection: Connection, *, reasons: dict[int, str]) -> None:
    """Leave contacts whose change was pending, each for a reason."""
    if reasons:
        connection.execute(
            text("""UPDATE ml_connector.changes
                    SET state = 'left', reason = :reason, settled_at = clock_timestamp()
                    WHERE id = :id AND state = 'pending'"""),
            [{"id": id_, "reason": reason} for id_, reason in reasons.items()],
        )


def return_customers(connection: Connection, *, plan_id: int) -> None:
    """Represent customers at the restored contacts again whose later contacts an undo archived.

    The restored contact then is the customer's, as before its address changed.
    """
    connection.execute(
        text("""WITH back AS (
                    UPDATE ml_connector.customers p SET contact_key = c.email_key
                    FROM ml_connector.changes c, ml_connector.contacts later
                    -- Of every attempt at this undo: a former one may have been killed here.
                    WHERE (c.sync, c.origin) = (SELECT sync, origin FROM ml_connector.changes
                                                WHERE plan_id = :plan_id LIMIT 1)
                      AND c.kind = 'restore' AND c.state = 'applied'
                      AND p.sync = c.sync AND p.customer_id = c.customer_id
                      AND p.active AND NOT p.gone AND p.email_key IS DISTINCT FROM c.email_key
                      AND later.sync = p.sync AND later.email_key = p.email_key
                      AND later.status = 'archived' AND later.refused_reason = 'undone'
                    RETURNING p.sync, p.customer_id, p.contact_key)
                UPDATE ml_connector.contacts k SET owner = b.customer_id FROM back b
                WHERE k.sync = b.sync AND k.email_key = b.contact_key AND k.owner IS NULL"""),
        {"plan_id": plan_id},
    )


def release(connection: Connection, *, sync: str, status: str) -> None:
    """End the hold on undone writes, because the settings that decide on them changed.

    What is restored then has at most the ``status`` that a new contact has by the settings.
    """
    connection.execute(
        text("""UPDATE ml_connector.contacts
                SET refused_hash = NULL, refused_reason = NULL,
                    previous_status = CASE
                        WHEN status = 'archived' AND previous_status IN ('subscribed', 'pending')
                             AND :status = 'transactional' THEN :status
                        WHEN status = 'archived' AND previous_status = 'subscribed'
                             AND :status = 'pending' THEN :status
                        ELSE previous_status END
                WHERE sync = :sync AND refused_reason = 'undone'"""),
        {"sync": sync, "status": status},
    )
