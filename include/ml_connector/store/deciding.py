"""Decision queue: which customers await a decision, its result, and where each is represented."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from ml_connector.rules.decide import CUSTOMER_COLUMNS, CustomerRow
from ml_connector.rules.plain import Verdict
from ml_connector.store import unreadable
from ml_connector.store.database import (
    bytea_array,
    fetch_binary,
    json_array,
    load_temp_table,
    lock_sync,
)

_DECIDED = {
    "customer_id": "text", "decision": "text", "reason": "text", "linked_to": "text",
    "arrived": "bool", "opts_out": "bool", "waited": "bool",
}  # fmt: skip

_MOVED = "contact_key IS DISTINCT FROM email_key"
"""Only these rows are in the index on ``contact_key``. The others are found by ``email_key``."""


FINAL_REFUSALS = ("forgotten", "compliance")
"""Refusals that say something of the person, not of the data."""
UNDONE = "undone"
"""The reason of a contact whose write a person undid: it is held back until the data changes."""

_LEAVES = "c.contact_key IS NOT NULL AND c.contact_key IS DISTINCT FROM c.email_key"
_REMEMBER_FORMER = """INSERT INTO ml_connector.former_contacts (sync, email_key, customer_id)
                      SELECT c.sync, c.contact_key, c.customer_id"""


class Undecided(NamedTuple):
    """A customer awaiting a decision: its address, and the address it is represented under."""

    customer_id: str
    email_key: bytes | None
    contact_key: bytes | None


class TooManyPeopleError(Exception):
    """More customers are at the addresses asked for than may be read at a time."""


class Pending(NamedTuple):
    """The number of customers awaiting a decision, and how many of them left their address."""

    waiting: int
    moving: int


def pending_of(connection: Connection, *, sync: str, ids: Collection[str]) -> Pending:
    """Return how many of ``ids`` await a decision."""
    row = connection.execute(
        text("""SELECT count(*), count(*) FILTER (WHERE contact_key IS DISTINCT FROM email_key
                                                    AND contact_key IS NOT NULL)
                FROM ml_connector.customers WHERE sync = :sync AND dirty AND customer_id = ANY(:ids)"""),
        {"sync": sync, "ids": list(ids)},
    ).one()
    return Pending(*row)


def mark_dirty(connection: Connection, *, sync: str, keys: Collection[bytes] | None = None) -> None:
    """Mark customers for a new decision: those at the given addresses, or all of them."""
    lock_sync(connection, sync=sync)
    at = (
        ""
        if keys is None
        else f"AND (email_key = ANY(:keys) OR contact_key = ANY(:keys) AND {_MOVED})"
    )
    connection.execute(
        text(f"UPDATE ml_connector.customers SET dirty = true WHERE sync = :sync {at}"),  # noqa: S608
        {"sync": sync} if keys is None else {"sync": sync, "keys": bytea_array(keys)},
    )


def mark_dirty_ids(connection: Connection, *, sync: str, ids: Collection[str]) -> None:
    """Mark the customers ``ids`` for a new decision."""
    lock_sync(connection, sync=sync)
    connection.execute(
        text("""UPDATE ml_connector.customers SET dirty = true
                WHERE sync = :sync AND customer_id = ANY(:ids)"""),
        {"sync": sync, "ids": list(ids)},
    )


def mark_parked_due(connection: Connection, *, sync: str, now: datetime) -> None:
    """Mark customers for a new decision whose contact was parked until now (A24)."""
    lock_sync(connection, sync=sync)
    connection.execute(
        text("""UPDATE ml_connector.customers c SET dirty = true FROM ml_connector.contacts k
                WHERE k.sync = :sync AND k.parked_until <= :now
                  AND c.sync = k.sync AND c.email_key = k.email_key"""),
        {"sync": sync, "now": now},
    )


def next_dirty(
    connection: Connection,
    *,
    sync: str,
    ids: Collection[str] | None,
    after: Undecided | None,
    chunk: int,
    held: bool = False,
) -> list[Undecided]:
    """Return up to ``chunk`` customers awaiting a decision, starting after ``after``.

    Customers at one address are adjacent, because each decision depends on the others. Customers
    whose consent rests on a member that cannot be read go on waiting, unless ``held`` (A55).
    """
    only = "" if ids is None else "AND customer_id = ANY(:ids)"
    if not held and unreadable.any_unreadable(connection, sync=sync, system=unreadable.MAILCHIMP):
        only += f" AND (email_key IS NULL OR NOT {unreadable.HELD})"
    rows = connection.execute(
        text(f"""SELECT customer_id, email_key, contact_key FROM ml_connector.customers
                 WHERE sync = :sync AND dirty {only}
                   AND (coalesce(email_key, ''), customer_id) > (:key, :id)
                 ORDER BY coalesce(email_key, ''), customer_id LIMIT :chunk"""),  # noqa: S608
        {
            "sync": sync,
            "ids": list(ids or ()),
            "key": b"" if after is None else after.email_key or b"",
            "id": "" if after is None else after.customer_id,
            "chunk": chunk,
        },
    ).all()
    return [Undecided(*row) for row in rows]


_BY_EMAIL = """unnest(CAST(%(keys)s AS bytea[])) AS k(key), LATERAL (
    SELECT * FROM ml_connector.customers WHERE sync = %(sync)s AND email_key = k.key OFFSET 0) found"""
_BY_CONTACT = f"""unnest(CAST(%(keys)s AS bytea[])) AS k(key), LATERAL (
    SELECT * FROM ml_connector.customers
    WHERE sync = %(sync)s AND contact_key = k.key AND {_MOVED} OFFSET 0) found"""  # noqa: S608
_BY_ID = """jsonb_array_elements_text(CAST(%(ids)s AS jsonb)) AS wanted(id), LATERAL (
    SELECT * FROM ml_connector.customers
    WHERE sync = %(sync)s AND customer_id = wanted.id OFFSET 0) found"""


def rows(
    connection: Connection,
    *,
    sync: str,
    keys: Collection[bytes],
    ids: Collection[str],
    most: int | None = None,
) -> list[CustomerRow]:
    """Return all customers at ``keys``, now or formerly, and those of ``ids``.

    Raises ``TooManyPeopleError`` if there are more than ``most``; it reads no further.
    """

    def read(*sources: str, **values: object) -> dict[str, CustomerRow]:
        columns = ", ".join(CUSTOMER_COLUMNS)
        query = " UNION ALL ".join(f"SELECT {columns} FROM {source}" for source in sources)  # noqa: S608
        limit = None if most is None else most + 1
        found = fetch_binary(
            connection, f"{query} LIMIT %(limit)s", {"sync": sync, "limit": limit, **values}
        )
        if most is not None and len(found) > most:
            raise TooManyPeopleError
        return {row[0]: CustomerRow(*row) for row in found}

    at = read(_BY_EMAIL, _BY_CONTACT, keys=bytea_array(keys))
    elsewhere = set(ids).difference(at)
    if elsewhere:
        at |= read(_BY_ID, ids=json_array(elsewhere))
    return list(at.values())


def record_decisions(
    connection: Connection, *, sync: str, decided: Iterable[Verdict], ids: Collection[str]
) -> None:
    """Store the decision on each customer.

    ``ids`` awaited the decision and leave the queue. A customer that moved meanwhile is not in
    ``decided`` and stays queued. A customer represented nowhere so far counts as represented at
    once: it has no former contact to wait for.
    """
    waited = set(ids)
    rows = [(*verdict, verdict[0] in waited) for verdict in decided]
    load_temp_table(connection, "decided_customers", _DECIDED, rows)
    connection.execute(
        text(f"""{_REMEMBER_FORMER}
                 FROM ml_connector.customers c JOIN decided_customers d USING (customer_id)
                 WHERE c.sync = :sync AND d.arrived AND {_LEAVES}
                   AND c.customer_id = ANY(ARRAY(SELECT customer_id FROM decided_customers))
                 ON CONFLICT DO NOTHING"""),  # noqa: S608 -- constants
        {"sync": sync},
    )
    connection.execute(
        text("""UPDATE ml_connector.customers c
                SET decision = d.decision, reason = d.reason, linked_to = d.linked_to,
                    contact_key = CASE WHEN d.arrived OR c.contact_key IS NULL
                                            AND d.decision IN ('contact', 'linked')
                                       THEN c.email_key ELSE c.contact_key END,
                    opted_out = c.opted_out OR d.opts_out,
                    dirty = c.dirty AND NOT d.waited
                FROM decided_customers d
                WHERE c.sync = :sync AND c.customer_id = d.customer_id
                  -- One look into the index for each: given their number, Postgres reads them all.
                  AND c.customer_id = ANY(ARRAY(SELECT customer_id FROM decided_customers))
                  AND ((c.decision, c.reason, c.linked_to)
                        IS DISTINCT FROM (d.decision, d.reason, d.linked_to)
                       OR (d.arrived AND c.contact_key IS DISTINCT FROM c.email_key)
                       OR (d.opts_out AND NOT c.opted_out)
                       OR (c.dirty AND d.waited))"""),
        {"sync": sync},
    )


def mark_represented(connection: Connection, *, sync: str, keys: Collection[bytes]) -> None:
    """Record that the customers at these addresses are now represented there."""
    # Is any customer on the way at all? Read once, from the index of those who are: without the
    # order, Postgres expects a match in any row and reads the entire table to find none. (A
    # customer that is represented nowhere counts as arrived when it is decided on.)
    moving = text(f"""SELECT contact_key FROM ml_connector.customers
                      WHERE sync = :sync AND contact_key IS NOT NULL AND {_MOVED}
                      ORDER BY contact_key LIMIT 1""")  # noqa: S608
    if connection.execute(moving, {"sync": sync}).one_or_none() is None:
        return
    arriving = f"""c.sync = :sync AND c.email_key = ANY(:keys) AND NOT c.gone AND c.active
                   AND c.decision IN ('contact', 'linked') AND {_LEAVES}"""
    at = {"sync": sync, "keys": bytea_array(keys)}
    connection.execute(
        text(
            f"{_REMEMBER_FORMER} FROM ml_connector.customers c WHERE {arriving} ON CONFLICT DO NOTHING"
        ),
        at,
    )
    connection.execute(
        text(f"UPDATE ml_connector.customers c SET contact_key = email_key WHERE {arriving}"),  # noqa: S608
        at,
    )


def opted_out(connection: Connection, *, sync: str) -> list[str]:
    """Return the waiting customers that opted out at an address they have left."""
    return list(
        connection.execute(
            text("""SELECT customer_id FROM ml_connector.customers
                    WHERE sync = :sync AND opted_out AND dirty"""),
            {"sync": sync},
        ).scalars()
    )


def mark_refused(connection: Connection, *, sync: str, refused: Mapping[bytes, str]) -> None:
    """Record that Mailchimp refused the contacts at these addresses, with the reason.

    After a final refusal the address represents the customer all the same: a person who was deleted
    or opted out there is not mailed at a corrected address either.
    """
    if final := [key for key, why in refused.items() if why in FINAL_REFUSALS]:
        connection.execute(
            text(f"""{_REMEMBER_FORMER} FROM ml_connector.customers c
                     WHERE c.sync = :sync AND c.email_key = ANY(:keys) AND {_LEAVES}
                       AND c.decision IN ('contact', 'linked') ON CONFLICT DO NOTHING"""),
            {"sync": sync, "keys": bytea_array(final)},
        )
    if refused:
        connection.execute(
            text("""UPDATE ml_connector.customers
                    SET decision = 'skipped', reason = :reason, linked_to = NULL,
                        contact_key = CASE WHEN :final THEN email_key
                                           ELSE nullif(contact_key, email_key) END
                    WHERE sync = :sync AND email_key = :key
                      AND decision IN ('contact', 'linked')"""),
            [
                {"sync": sync, "key": key, "reason": why, "final": why in FINAL_REFUSALS}
                for key, why in refused.items()
            ],
        )


def count_by_decision(
    connection: Connection, *, sync: str, decided: bool = False
) -> list[tuple[str, str, int]]:
    """Return (decision, reason, customers) of every customer without a contact of its own.

    And of those whose data an undo holds back. ``decided``: only of customers that do not wait for
    a new decision.
    """
    rows = connection.execute(
        text("""SELECT decision, reason, count(*) FROM ml_connector.customers
                WHERE sync = :sync AND (decision IN ('linked', 'skipped') OR reason = 'undone')
                  AND NOT (:decided AND dirty)
                GROUP BY decision, reason ORDER BY decision, reason"""),
        {"sync": sync, "decided": decided},
    ).all()
    return [(row[0], row[1], row[2]) for row in rows]
