"""Plan queries of the console, plans and their changes. Read-only."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection, Row, text

from ml_connector.store import batches

PAGE = 50
"""Plans or changes on a page."""
_EXPORT_CHUNK = 1000


def page(
    connection: Connection,
    *,
    sync: str,
    kind: str = "",
    kinds: Sequence[str] = (),
    before: int = 0,
    limit: int = PAGE,
) -> list[Row[Any]]:
    """Return plans, newest first, with their numbers of changes, failed and pending ones.

    ``kind`` or ``kinds``: only such plans.
    """
    return list(
        connection.execute(
            text("""SELECT p.id, p.run_id, p.kind, p.state, p.error, p.created_at, p.finished_at,
                           c.changes, c.failed, c.pending
                    FROM (SELECT * FROM ml_connector.plans
                          WHERE sync = :sync AND (CAST(:kinds AS text[]) = '{}' OR kind = ANY(:kinds))
                            AND (:before = 0 OR id < :before)
                          ORDER BY id DESC LIMIT :limit) p
                    CROSS JOIN LATERAL (
                        SELECT coalesce(sum(changes) FILTER (WHERE state <> 'superseded'), 0)::int
                                   AS changes,
                               coalesce(sum(changes) FILTER (WHERE state = 'failed'), 0)::int
                                   AS failed,
                               coalesce(sum(changes) FILTER (WHERE state = 'pending'), 0)::int
                                   AS pending
                        FROM ml_connector.change_counts c WHERE c.plan_id = p.id) c
                    ORDER BY p.id DESC"""),
            {
                "sync": sync,
                "kinds": [kind] if kind else list(kinds),
                "before": before,
                "limit": limit,
            },
        ).all()
    )


def plan_row(connection: Connection, *, sync: str, plan_id: int) -> Row[Any] | None:
    """Return one plan, None if it does not exist."""
    return connection.execute(
        text("SELECT * FROM ml_connector.plans WHERE id = :id AND sync = :sync"),
        {"id": plan_id, "sync": sync},
    ).one_or_none()


def waiting_plans(connection: Connection, *, sync: str) -> list[Row[Any]]:
    """Return the plans that wait for approval, newest first, with how many changes wait."""
    return list(
        connection.execute(
            text("""SELECT id, run_id, kind, counts, created_at,
                           (SELECT coalesce(sum(changes), 0)::int FROM ml_connector.change_counts c
                            WHERE c.plan_id = p.id AND c.state = 'pending') AS changes
                    FROM ml_connector.plans p
                    WHERE sync = :sync AND state = 'waiting' ORDER BY id DESC LIMIT :limit"""),
            {"sync": sync, "limit": PAGE},
        ).all()
    )


def approval_first(connection: Connection, *, sync: str, run_id: str) -> str:
    """Return which plan comes before anything is retried, and what to do; empty if none.

    ``run_id``: the run under way, empty without one. An undo counts while its question can be open.
    """
    found = connection.execute(
        text("""SELECT id, kind, state FROM ml_connector.plans
                WHERE sync = :sync AND (
                    run_id = :run_id AND state IN ('waiting', 'approved')
                    OR kind = 'undo' AND state = 'waiting'
                       AND created_at > now() - interval '1 day')
                ORDER BY id LIMIT 1"""),
        {"sync": sync, "run_id": run_id},
    ).one_or_none()
    if found is None:
        return ""
    if found.state == "approved":
        return f"A run writes the approved plan {found.id}. Wait until it ends."
    waiting = "An undo" if found.kind == "undo" else "A run"
    return f"{waiting} waits for approval. Approve or reject plan {found.id} first."


def changes(
    connection: Connection,
    *,
    plan_id: int,
    kind: str = "",
    state: str = "",
    after: int = 0,
    limit: int = PAGE,
) -> list[Row[Any]]:
    """Return a plan's changes by id, with the encrypted payloads of customer and contact."""
    such = """c.plan_id = :plan_id
        AND (:kind = '' OR c.kind = :kind) AND (:state = '' OR c.state = :state)"""
    return list(
        connection.execute(
            text(f"""SELECT c.id, c.kind, c.reason, c.status, c.state, c.error, c.attempts,
                           c.customer_id, c.email_key, c.settled_at, p.payload AS customer_payload,
                           k.payload AS contact_payload
                    FROM (
                        (SELECT id, plan_id, sync, email_key, customer_id, kind, reason, status,
                                state, error, attempts, settled_at
                         FROM ml_connector.changes c
                         WHERE id > :after AND {such} ORDER BY id LIMIT :limit)
                        UNION ALL
                        (SELECT u.id, c.plan_id, c.sync, u.email_key, u.customer_id, c.kind,
                                c.reason, c.status, c.state, NULL, c.attempts, c.settled_at
                         FROM (SELECT *, sum(size) OVER (ORDER BY first_id) - size AS before
                               FROM ml_connector.change_batches c
                               WHERE last_id > :after AND {such}) c,
                              unnest(c.ids, c.email_keys, c.customer_ids)
                                  AS u(id, email_key, customer_id)
                         -- Batches decided side by side interleave, so the first few may have
                         -- ids of the former page.
                         WHERE c.before < :limit + :interleaved AND u.id > :after
                         ORDER BY u.id LIMIT :limit)
                    ) c
                    LEFT JOIN ml_connector.customers p
                      ON p.sync = c.sync AND p.customer_id = c.customer_id
                    LEFT JOIN ml_connector.contacts k
                      ON k.sync = c.sync AND k.email_key = c.email_key
                    ORDER BY c.id LIMIT :limit"""),  # noqa: S608 -- constants
            {
                "plan_id": plan_id,
                "kind": kind,
                "state": state,
                "after": after,
                "limit": limit,
                "interleaved": 3 * batches.MOST,
            },
        ).all()
    )


def iter_changes(
    begin: Callable[[], AbstractContextManager[Connection]], *, plan_id: int
) -> Iterator[Row[Any]]:
    """Yield all changes of a plan.

    A thousand changes are in memory at a time, each thousand read in its own transaction.
    """
    after = 0
    while True:
        with begin() as connection:
            rows = changes(connection, plan_id=plan_id, after=after, limit=_EXPORT_CHUNK)
        yield from rows
        if len(rows) < _EXPORT_CHUNK:
            return
        after = rows[-1].id
