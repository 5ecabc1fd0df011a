"""Customer and contact queries of the console, and the search by name. Read-only."""

import time
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from ml_connector.console.queries.customer_list import (
    CustomerEntry,
    CustomerFilter,
    customers_after,
    entries_of,
    select_entries,
)
from ml_connector.model import Customer
from ml_connector.store import contacts, customers
from ml_connector.vault import Vault

SCAN_SECONDS = 1.5
"""One search by name stops after this many seconds. The user can continue it."""

_CHUNK = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The result of a search by name. ``after``: where to continue; empty at the end."""

    found: list[CustomerEntry]
    looked_at: int
    after: str = ""


def by_id(
    connection: Connection, *, sync: str, customer_id: str, vault: Vault
) -> list[CustomerEntry]:
    """Return the customer with a QuickBooks id, if there is one."""
    return entries_of(connection, sync=sync, ids=[customer_id], vault=vault)


def by_key(connection: Connection, *, sync: str, key: bytes, vault: Vault) -> list[CustomerEntry]:
    """Return the customers at an address, now or formerly, at most 50."""
    where = """(c.email_key = :key
                OR c.contact_key = :key AND c.contact_key IS DISTINCT FROM c.email_key)"""
    return _found(connection, sync=sync, vault=vault, where=where, limit=50, key=key)


def scan_names(
    begin: Callable[[], Any],
    *,
    sync: str,
    needle: str,
    within: CustomerFilter,
    vault: Vault,
    after: str = "",
    limit: int = 25,
    seconds: float = SCAN_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Scan:
    """Decrypt the customers of a filter; return those whose name contains every word of ``needle``.

    Names are encrypted, so the database cannot search them. One chunk is in memory at a time, read
    in its own transaction. The search stops after ``seconds`` or after ``limit`` results.
    """
    wanted = _plain(needle).split()
    found: list[CustomerEntry] = []
    looked, until = 0, clock() + seconds
    while wanted:
        with begin() as connection:
            entries = customers_after(
                connection, sync=sync, wanted=within, vault=vault, after=after, limit=_CHUNK
            )
        for entry in entries:
            looked, after = looked + 1, entry.customer_id
            if _matches(entry.customer, wanted):
                found.append(entry)
                if len(found) == limit:
                    return Scan(found=found, looked_at=looked, after=after)
        if len(entries) < _CHUNK:
            break
        if clock() > until:
            return Scan(found=found, looked_at=looked, after=after)
    return Scan(found=found, looked_at=looked)


def _found(
    connection: Connection, *, sync: str, vault: Vault, where: str, limit: int, **values: Any
) -> list[CustomerEntry]:
    order = "c.gone, c.active DESC, c.customer_no, c.customer_id"
    return select_entries(
        connection, sync=sync, vault=vault, where=where, order=order, limit=limit, **values
    )


def _matches(customer: Customer, wanted: Sequence[str]) -> bool:
    shown = (value for value in customer.merge_fields.values() if isinstance(value, str))
    names = _plain(" ".join([customer.display_name, *shown]))
    return all(word in names for word in wanted)


def _plain(name: str) -> str:
    """Return a name without case and accents, for comparison."""
    parts = unicodedata.normalize("NFKD", name.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))


# ── one customer or contact ──────────────────────────────────────────────────────────────────


def customer_row(connection: Connection, *, sync: str, customer_id: str) -> Row[Any] | None:
    """Return the staged row of a customer, None if it is not staged."""
    return connection.execute(
        text("""SELECT * FROM ml_connector.customers
                WHERE sync = :sync AND customer_id = :id"""),
        {"sync": sync, "id": customer_id},
    ).one_or_none()


def display_names(
    connection: Connection, *, sync: str, ids: Collection[str], vault: Vault
) -> dict[str, str]:
    """Return the names of a page's customers by id, as far as they are staged."""
    rows = connection.execute(
        text("""SELECT customer_id, payload FROM ml_connector.customers
                WHERE sync = :sync AND customer_id = ANY(:ids) AND payload IS NOT NULL"""),
        {"sync": sync, "ids": list(ids)},
    ).all()
    return {
        row.customer_id: customers.decrypted(
            row.payload, sync=sync, customer_id=row.customer_id, vault=vault
        ).display_name
        for row in rows
    }


def contact_rows(connection: Connection, *, sync: str, keys: Sequence[bytes]) -> list[Row[Any]]:
    """Return the contacts stored under ``keys``, and those their members moved to from there."""
    return list(
        connection.execute(
            text("""SELECT k.*, s.email_key IS NOT NULL AS suppressed
                    FROM ml_connector.contacts k
                    LEFT JOIN ml_connector.suppressions s ON s.email_key = k.email_key
                    WHERE k.sync = :sync AND (k.email_key = ANY(:keys) OR k.alias_of = ANY(:keys))
                    LIMIT 20"""),
            {"sync": sync, "keys": list(keys)},
        ).all()
    )


def contact_shows(row: Row[Any], *, sync: str, vault: Vault) -> dict[str, Any]:
    """Return what a contact shows by our records: address and merge fields."""
    if row.payload is None:
        return {}
    shown = vault.decrypt(row.payload, contacts.identity(sync, bytes(row.email_key)))
    return dict(shown)


def others_at_address(
    connection: Connection, *, sync: str, key: bytes, but: str, vault: Vault
) -> list[CustomerEntry]:
    """Return the other customers at an address."""
    where = "c.email_key = :key AND c.customer_id <> :but"
    return _found(connection, sync=sync, vault=vault, where=where, limit=20, key=key, but=but)


def block_row(connection: Connection, *, sync: str, customer_id: str) -> Row[Any] | None:
    """Return the state of a customer's activity block, None if it has none."""
    return connection.execute(
        text("""SELECT state, attempts, error, settled_at, attachment_id
                FROM ml_connector.activity_blocks WHERE sync = :sync AND customer_id = :id"""),
        {"sync": sync, "id": customer_id},
    ).one_or_none()


def former_keys(connection: Connection, *, sync: str, customer_id: str) -> list[bytes]:
    """Return a customer's former addresses, by its audit rows, that no other customer has now."""
    rows = connection.execute(
        text("""SELECT DISTINCT a.email_key FROM (
                    SELECT email_key FROM ml_connector.audit
                    WHERE sync = :sync AND customer_id = :id AND email_key IS NOT NULL
                    ORDER BY id DESC LIMIT 500) a
                WHERE NOT EXISTS (SELECT 1 FROM ml_connector.customers c
                                  WHERE c.sync = :sync AND c.email_key = a.email_key
                                    AND c.customer_id <> :id)
                LIMIT 20"""),
        {"sync": sync, "id": customer_id},
    ).scalars()
    return [bytes(key) for key in rows]


_LIVE = ("subscribed", "pending", "transactional", "unsubscribed")
_GIVEN = {"create": _LIVE, "restore": _LIVE, "archive": ("archived",)}
"""The statuses that a contact can have after a write of ours."""


def status_cause(
    connection: Connection, *, sync: str, key: bytes, status: str
) -> tuple[str, datetime, Row[Any]] | None:
    """Return the latest cause of a contact's status: ``("event" | "write", when, row)``.

    ``former`` instead: our last write gave it another status, and nothing says what changed that.
    """
    event = connection.execute(
        text("""SELECT id, kind, happened_at, seen_at, source, payload, email_key
                FROM ml_connector.member_events
                WHERE sync = :sync AND email_key = :key AND (after = :status OR kind = :status)
                ORDER BY happened_at DESC, id DESC LIMIT 1"""),
        {"sync": sync, "key": key, "status": status},
    ).one_or_none()
    write = connection.execute(
        text("""SELECT id, at, action, reason, customer_id FROM ml_connector.audit
                WHERE sync = :sync AND email_key = :key AND system = 'mailchimp'
                  AND outcome = 'applied' AND action IN ('create', 'restore', 'archive')
                ORDER BY id DESC LIMIT 1"""),
        {"sync": sync, "key": key},
    ).one_or_none()
    if event is not None and (write is None or event.seen_at >= write.at):
        return "event", event.happened_at, event
    if write is None:
        return None
    return "write" if status in _GIVEN[write.action] else "former", write.at, write
