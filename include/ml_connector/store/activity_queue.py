"""Activity queue: QuickBooks customers whose written activity is out of date.

A worker locks a row while its call is in flight, as for a change. The rows of a killed worker are
free at once. What is due is derived, not stored. ``news``, the number of a contact's member events,
is compared with the number last written. So a customer that is linked, moves or returns is found
like one whose contact did something. The staged Notes of a forgotten person's customer are not the
real ones, so that customer is never written.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from ml_connector.store.database import lock_sync

# First, live contacts with member events at the customer's own address. Second, those at the
# address a member changed to in Mailchimp (A28). Last, customers that still show another contact's
# activity.
_QUEUE = """
    WITH telling AS (
        SELECT c.customer_id, c.customer_no, k.email_key, k.news
        FROM ml_connector.contacts k
        JOIN ml_connector.customers c ON c.sync = k.sync AND c.email_key = k.email_key
        WHERE k.sync = :sync AND k.news > 0 AND k.status NOT IN ('moved', 'absent')
          AND c.active AND NOT c.gone AND NOT c.is_project {only}
        UNION ALL
        SELECT c.customer_id, c.customer_no, k.email_key, k.news
        FROM ml_connector.contacts k
        JOIN ml_connector.customers c ON c.sync = k.sync AND c.email_key = k.alias_of
        JOIN ml_connector.contacts o ON o.sync = k.sync AND o.email_key = k.alias_of
        WHERE k.sync = :sync AND k.alias_of IS NOT NULL AND o.status IN ('moved', 'absent')
          AND c.active AND NOT c.gone AND NOT c.is_project {only}
        UNION ALL
        SELECT c.customer_id, c.customer_no, coalesce(c.email_key, CAST('' AS bytea)), 0
        FROM ml_connector.activity_blocks b
        JOIN ml_connector.customers c ON c.sync = b.sync AND c.customer_id = b.customer_id
        WHERE b.sync = :sync AND c.active AND NOT c.gone AND NOT c.is_project {only}
          AND c.email_problem IS DISTINCT FROM 'suppressed'
          AND b.shown_key <> coalesce(c.email_key, CAST('' AS bytea))
          AND NOT EXISTS (SELECT 1 FROM ml_connector.contacts k
                          WHERE k.sync = b.sync AND k.email_key = b.shown_key
                            AND k.alias_of = c.email_key)
    ), due AS (
        SELECT DISTINCT ON (customer_id) t.* FROM telling t
        LEFT JOIN ml_connector.activity_blocks b
          ON b.sync = :sync AND b.customer_id = t.customer_id
        WHERE b.customer_id IS NULL OR (b.shown_key, b.shown_news) IS DISTINCT FROM (t.email_key, t.news)
        ORDER BY customer_id, news DESC
    )
    INSERT INTO ml_connector.activity_blocks AS b (sync, customer_id, customer_no, state)
    SELECT :sync, customer_id, customer_no, 'due' FROM due ORDER BY customer_no, customer_id
    ON CONFLICT (sync, customer_id) DO UPDATE SET
        state = CASE WHEN b.state = 'stale' THEN 'stale' ELSE 'due' END, attempts = 0, error = NULL
"""
# A contact with member events is shown from then on, also when a write of ours changes its status.
_SHOW_ALL = """
    UPDATE ml_connector.contacts k SET news = 1 FROM ml_connector.customers c
    WHERE k.sync = :sync AND k.news = 0
      AND k.status NOT IN ('moved', 'absent', 'archived', 'forgotten')
      AND c.sync = k.sync AND c.email_key = k.email_key
      AND c.active AND NOT c.gone AND NOT c.is_project {only}
"""
_CLAIM = """
    SELECT b.customer_id, b.attempts, b.attachment_id, b.attachment_token, b.attaching,
           b.settled_at, c.payload, c.email_key AS own_key,
           c.active AND NOT c.gone AND NOT c.is_project
               AND c.email_problem IS DISTINCT FROM 'suppressed' AS writable,
           k.email_key, k.alias_of, k.status, k.status_since, k.engagement, k.last_engaged_at,
           k.last_clicked_at, coalesce(k.news, 0) AS events, clock_timestamp() AS claimed_at
    FROM ml_connector.activity_blocks b
    JOIN ml_connector.customers c ON c.sync = b.sync AND c.customer_id = b.customer_id
    LEFT JOIN LATERAL (
        SELECT * FROM ml_connector.contacts k
        WHERE k.sync = b.sync AND (k.email_key = c.email_key OR k.alias_of = c.email_key)
        ORDER BY k.status IN ('moved', 'absent'), k.alias_of IS NOT NULL LIMIT 1) k ON true
    WHERE b.sync = :sync AND b.state = :state
      AND mod(b.customer_no, :shards) = :shard
      AND (CAST(:ids AS text[]) IS NULL OR b.customer_id = ANY(:ids))
    ORDER BY b.customer_no, b.customer_id LIMIT :limit FOR UPDATE OF b SKIP LOCKED
"""

NO_CONTACT = b""
"""The ``shown_key`` of a block that shows no contact, for example of a customer without an
address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of a sync's customers: shard ``shard`` of ``shards``, limited to ``ids`` if given."""

    shard: int = 0
    shards: int = 1
    ids: Collection[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedBlock:
    """A claimed customer and the data its text is built from. ``payload`` is still encrypted.

    ``own_key`` is the customer's address. ``email_key`` is the address of the contact that
    represents it.
    """

    customer_id: str
    attempts: int
    attachment_id: str | None
    attachment_token: str | None
    attaching: bool
    settled_at: datetime | None
    payload: bytes
    own_key: bytes | None
    writable: bool
    email_key: bytes | None
    alias_of: bytes | None
    status: str | None
    status_since: datetime | None
    engagement: str | None
    last_engaged_at: datetime | None
    last_clicked_at: datetime | None
    events: int
    claimed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledActivity:
    """The outcome of writing a block. ``state``: shown, due, stale, parked or refused.

    ``shown_key`` and ``shown_events`` keep their stored values where they are None.
    """

    customer_id: str
    state: str
    attempts: int = 0
    error: str | None = None
    shown_key: bytes | None = None
    shown_events: int | None = None
    attachment_id: str | None = None
    attachment_token: str | None = None
    attaching: bool = False


def queue(connection: Connection, *, sync: str, ids: Collection[str] | None = None) -> int:
    """Queue every customer (of ``ids``) whose written activity is out of date; return how many."""
    return _execute_for(connection, _QUEUE, sync, ids)


def show_all(connection: Connection, *, sync: str, ids: Collection[str] | None = None) -> int:
    """Let each customer (of ``ids``) with a contact show it, also without events; return how many.

    In a transaction of its own: ``queue`` may wait for a writer that waits for the sync lock.
    """
    lock_sync(connection, sync=sync)
    return _execute_for(connection, _SHOW_ALL, sync, ids)


def _execute_for(connection: Connection, query: str, sync: str, ids: Collection[str] | None) -> int:
    only = "" if ids is None else "AND c.customer_id = ANY(:ids)"
    parameters = {"sync": sync} | ({} if ids is None else {"ids": list(ids)})
    return connection.execute(text(query.format(only=only)), parameters).rowcount


def requeue(connection: Connection, *, sync: str, ids: Collection[str]) -> None:
    """Queue customers again whose write was parked or refused."""
    connection.execute(
        text("""UPDATE ml_connector.activity_blocks SET state = 'due', attempts = 0, error = NULL
                WHERE sync = :sync AND customer_id = ANY(:ids) AND state IN ('parked', 'refused')"""),
        {"sync": sync, "ids": list(ids)},
    )


def clear_shown(connection: Connection, *, sync: str) -> None:
    """Mark every block as showing no contact, because the audience was swapped (A36).

    Skips a customer whose write is in flight. Its writer may be waiting for the sync lock, so
    waiting for it is not an option.
    """
    connection.execute(
        text("""UPDATE ml_connector.activity_blocks SET shown_key = :nobody, shown_news = 0
                WHERE sync = :sync AND shown_key IS NOT NULL AND customer_id IN (
                    SELECT customer_id FROM ml_connector.activity_blocks WHERE sync = :sync
                    FOR UPDATE SKIP LOCKED)"""),
        {"sync": sync, "nobody": NO_CONTACT},
    )


def count_todo(connection: Connection, *, sync: str) -> int:
    """Return how many customers are due or stale."""
    return int(
        connection.execute(
            text("""SELECT count(*) FROM ml_connector.activity_blocks
                    WHERE sync = :sync AND state IN ('due', 'stale')"""),
            {"sync": sync},
        ).scalar_one()
    )


def claim(
    connection: Connection, *, sync: str, state: str, part: Slice, limit: int
) -> list[ClaimedBlock]:
    """Lock and return up to ``limit`` unclaimed customers in ``state``."""
    rows = connection.execute(
        text(_CLAIM),
        {
            "sync": sync,
            "state": state,
            "shard": part.shard,
            "shards": part.shards,
            "ids": None if part.ids is None else list(part.ids),
            "limit": limit,
        },
    ).all()
    return [ClaimedBlock(**row._mapping) for row in rows]  # noqa: SLF001 -- SQLAlchemy's public accessor


def record_note_intent(connection: Connection, *, sync: str, customer_id: str) -> datetime:
    """Record the intent to create a note; return its timestamp, which identifies the intent."""
    settled_at: datetime = connection.execute(
        text("""UPDATE ml_connector.activity_blocks
                SET attaching = true, attachment_id = NULL, attachment_token = NULL,
                    settled_at = clock_timestamp()
                WHERE sync = :sync AND customer_id = :customer_id RETURNING settled_at"""),
        {"sync": sync, "customer_id": customer_id},
    ).scalar_one()
    return settled_at


def settle(connection: Connection, outcomes: Collection[SettledActivity], *, sync: str) -> None:
    """Store the outcomes of claimed customers."""
    if outcomes:
        connection.execute(
            text("""UPDATE ml_connector.activity_blocks
                    SET state = :state, attempts = :attempts, error = :error,
                        shown_key = coalesce(:shown_key, shown_key),
                        shown_news = coalesce(CAST(:shown_events AS bigint), shown_news),
                        attachment_id = :attachment_id, attachment_token = :attachment_token,
                        attaching = :attaching, settled_at = clock_timestamp()
                    WHERE sync = :sync AND customer_id = :customer_id"""),
            [
                {
                    "sync": sync,
                    "customer_id": each.customer_id,
                    "state": each.state,
                    "attempts": each.attempts,
                    "error": each.error,
                    "shown_key": each.shown_key,
                    "shown_events": each.shown_events,
                    "attachment_id": each.attachment_id,
                    "attachment_token": each.attachment_token,
                    "attaching": each.attaching,
                }
                for each in outcomes
            ],
        )
