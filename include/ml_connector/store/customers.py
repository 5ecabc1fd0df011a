"""Customer staging: merge pages from QuickBooks, mark customers as gone, look them up."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, text

from ml_connector.model import Customer, MergeValue
from ml_connector.store import problems, unreadable
from ml_connector.store.database import (
    Columns,
    bytea_array,
    copy_new,
    copy_rows,
    json_array,
    load_temp_table,
    lock_sync,
)
from ml_connector.store.suppression import redact
from ml_connector.vault import Vault

_decoder = msgspec.json.Decoder(Customer)

_STAGED = {
    "customer_id": "text", "customer_no": "int8", "sync_token": "text", "active": "bool",
    "is_job": "bool", "is_project": "bool", "email_key": "bytea", "email_problem": "text",
    "left_out": "text", "fields_hash": "bytea", "last_updated": "timestamptz", "payload": "bytea",
}  # fmt: skip

# Statements over a page or a chunk look each customer up by index (LATERAL, OFFSET 0). By default,
# Postgres reads the entire table once for every thousand customers. A load of twice the customers
# would then take four times as long.

# Staging never goes back (A34): it accepts a row only if its SyncToken is not older. Tokens are
# numeric in every recording. If one is not, the time of the last update decides.
_NEWER = """CASE WHEN staged.sync_token ~ '^[0-9]+$' AND incoming.sync_token ~ '^[0-9]+$'
                 THEN incoming.sync_token::numeric >= staged.sync_token::numeric
                 ELSE incoming.last_updated >= staged.last_updated END"""
_DIFFERS = """(staged.email_key, staged.email_problem, staged.fields_hash, staged.active,
               staged.is_job, staged.is_project, staged.left_out, staged.gone)
              IS DISTINCT FROM (incoming.email_key, incoming.email_problem, incoming.fields_hash,
               incoming.active, incoming.is_job, incoming.is_project, incoming.left_out, false)"""
_MERGE = text(f"""
    WITH page AS (
        SELECT DISTINCT ON (customer_id) * FROM incoming_customers
        ORDER BY customer_id, CASE WHEN sync_token ~ '^[0-9]+$' THEN sync_token::numeric END
                     DESC NULLS LAST, last_updated DESC
    ), judged AS (
        SELECT incoming.customer_id,
               staged.customer_id IS NULL AS is_new,
               staged.customer_id IS NOT NULL AND {_NEWER} AND {_DIFFERS} AS is_changed,
               staged.customer_id IS NOT NULL AND {_NEWER}
                   AND (staged.sync_token, staged.last_updated, staged.payload IS NULL)
                       IS DISTINCT FROM (incoming.sync_token, incoming.last_updated, false)
                   AS is_touched
        FROM page incoming
        LEFT JOIN LATERAL (
            SELECT * FROM ml_connector.customers c
            WHERE c.sync = :sync AND c.customer_id = incoming.customer_id OFFSET 0) staged ON true
    ), written AS (
        INSERT INTO ml_connector.customers AS staged
              (sync, customer_id, customer_no, sync_token, active, is_job, is_project, email_key,
               email_problem, left_out, fields_hash, last_updated, payload, seen_in, dirty)
        SELECT :sync, p.customer_id, p.customer_no, p.sync_token, p.active, p.is_job, p.is_project,
               p.email_key, p.email_problem, p.left_out, p.fields_hash, p.last_updated, p.payload,
               :seen_in, true
        FROM page p JOIN judged USING (customer_id) WHERE is_new OR is_changed OR is_touched
        ON CONFLICT (sync, customer_id) DO UPDATE SET
            sync_token = excluded.sync_token, active = excluded.active, is_job = excluded.is_job,
            is_project = excluded.is_project, gone = false, email_key = excluded.email_key,
            email_problem = excluded.email_problem, left_out = excluded.left_out,
            fields_hash = excluded.fields_hash,
            last_updated = excluded.last_updated, payload = excluded.payload,
            seen_in = greatest(staged.seen_in, excluded.seen_in),
            dirty = staged.dirty OR (
                SELECT is_changed FROM judged WHERE judged.customer_id = excluded.customer_id)
    )
    SELECT count(*) AS read, count(*) FILTER (WHERE is_new) AS new,
           count(*) FILTER (WHERE is_changed) AS changed,
           count(*) FILTER (WHERE is_touched AND NOT is_changed) AS touched
    FROM judged
""")  # noqa: S608 -- the parts are constants of this module
_SEEN = text("""
    UPDATE ml_connector.customers c SET seen_in = :seen_in
    FROM (SELECT seen.ctid FROM incoming_customers i, LATERAL (
              SELECT ctid FROM ml_connector.customers
              WHERE sync = :sync AND customer_id = i.customer_id AND seen_in <> :seen_in
              OFFSET 0) seen OFFSET 0) listed
    WHERE c.ctid = listed.ctid
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """Counts of a staged page: rows read, new, changed in a mapped field, otherwise touched."""

    read: int = 0
    new: int = 0
    changed: int = 0
    touched: int = 0

    def __add__(self, other: "Staged") -> "Staged":
        return Staged(
            read=self.read + other.read,
            new=self.new + other.new,
            changed=self.changed + other.changed,
            touched=self.touched + other.touched,
        )


def identity(sync: str, customer_id: str) -> str:
    """Return the identity that a customer's payload is encrypted for."""
    return f"customers/{sync}/{customer_id}"


class EncryptedCustomer(NamedTuple):
    """A customer and its encrypted staging row."""

    customer: Customer
    row: tuple[Any, ...]


def encrypted(customers: Iterable[Customer], *, sync: str, vault: Vault) -> list[EncryptedCustomer]:
    """Return customers as encrypted staging rows, without using a connection."""
    listed = list(customers)
    payloads = vault.encrypt_each([(each, identity(sync, each.id)) for each in listed])
    return [
        EncryptedCustomer(customer, (*_row(customer, vault), payload))
        for customer, payload in zip(listed, payloads, strict=True)
    ]


def stage(
    connection: Connection,
    page: Sequence[EncryptedCustomer],
    *,
    sync: str,
    vault: Vault,
    seen_in: int = 0,
    unknown: bool = False,
) -> Staged:
    """Merge a page into staging; mark customers dirty that are new or changed in a mapped field.

    ``seen_in`` is the number of a full load, which later identifies the ids it did not list. A
    forgotten person's customer is staged without personal data. ``unknown``: the caller found no
    customer staged a moment ago, so the lookup is skipped.
    """
    lock_sync(connection, sync=sync)
    allowed = redact(connection, [each.customer for each in page], sync=sync, vault=vault)
    rows = _allowed(page, allowed, sync, vault)
    problems.note(connection, sync=sync, unfit={each.id: each.unfit for each in allowed})
    ids = [row[0] for row in rows]
    twice = len(set(ids)) < len(ids)
    if unknown and not twice and copy_new(connection, *_anew(sync, seen_in, rows)):
        return Staged(read=len(rows), new=len(rows))
    staged = set(ids) if twice else known(connection, sync=sync, ids=ids)
    new = [row for row in rows if row[0] not in staged]  # no stored row to compare with
    copy_rows(connection, *_anew(sync, seen_in, new))
    done = Staged(read=len(new), new=len(new))
    if len(new) == len(rows):
        return done
    past = [row for row in rows if row[0] in staged]
    load_temp_table(connection, "incoming_customers", _STAGED, past)
    counted = connection.execute(_MERGE, {"sync": sync, "seen_in": seen_in}).one()
    if seen_in and counted.new < counted.read:
        connection.execute(_SEEN, {"sync": sync, "seen_in": seen_in})
    return done + Staged(**counted._asdict())


def _anew(
    sync: str, seen_in: int, rows: Sequence[tuple[Any, ...]]
) -> tuple[str, Columns, list[tuple[Any, ...]]]:
    columns = {"sync": "text", "seen_in": "int8", **_STAGED}
    return "ml_connector.customers", columns, [(sync, seen_in, *row) for row in rows]


def _allowed(
    page: Sequence[EncryptedCustomer], allowed: Sequence[Customer], sync: str, vault: Vault
) -> list[tuple[Any, ...]]:
    """Return the staging rows of ``page``; those of forgotten people as ``allowed`` has them."""
    pairs = list(zip(page, allowed, strict=True))
    rest = iter(
        encrypted(
            (kept for each, kept in pairs if kept is not each.customer), sync=sync, vault=vault
        )
    )
    return [each.row if kept is each.customer else next(rest).row for each, kept in pairs]


def _row(customer: Customer, vault: Vault) -> tuple[Any, ...]:
    address = customer.addresses[0] if customer.addresses else None
    # Ids are numeric in every recording. Other ids sort last, by their text.
    number = int(customer.id) if customer.id.isdecimal() and len(customer.id) < 19 else 2**62
    return (
        customer.id,
        number,
        customer.sync_token,
        customer.active,
        customer.is_job,
        customer.is_project,
        vault.email_key(address) if address else None,
        customer.email_problem,
        customer.left_out,
        vault.fields_hash(
            [
                customer.merge_fields,
                list(customer.tags or ()),
                *([customer.groups, customer.language] if _has_further(customer) else []),
            ]
        ),
        customer.last_updated,
    )


def _has_further(customer: Customer) -> bool:
    return bool(customer.groups or customer.language)


def decrypted(payload: bytes, *, sync: str, customer_id: str, vault: Vault) -> Customer:
    """Return the customer from the payload of a staged row."""
    return _decoder.decode(vault.decrypt_encoded(payload, identity(sync, customer_id)))


def mark_gone(connection: Connection, *, sync: str, ids: Collection[str]) -> int:
    """Mark customers that QuickBooks merged or deleted; return how many are newly marked."""
    lock_sync(connection, sync=sync)
    unreadable.clear_unreadable(connection, sync=sync, system=unreadable.QUICKBOOKS, records=ids)
    return connection.execute(
        text("""UPDATE ml_connector.customers SET gone = true, dirty = true
                WHERE sync = :sync AND NOT gone AND customer_id = ANY(:ids)"""),
        {"sync": sync, "ids": list(ids)},
    ).rowcount


def mark_merged(connection: Connection, *, sync: str, merged: Mapping[str, str]) -> None:
    """Record the survivor of each merged customer, which inherits the customer's history."""
    if merged:
        connection.execute(
            text("""UPDATE ml_connector.customers SET merged_into = :survivor
                    WHERE sync = :sync AND customer_id = :loser"""),
            [{"sync": sync, "loser": loser, "survivor": s} for loser, s in sorted(merged.items())],
        )


def known(connection: Connection, *, sync: str, ids: Collection[str]) -> set[str]:
    """Return those of ``ids`` that are staged, including customers gone from QuickBooks."""
    rows = connection.execute(
        text("""SELECT found.customer_id
                FROM jsonb_array_elements_text(CAST(:ids AS jsonb)) AS given(id), LATERAL (
                    SELECT customer_id FROM ml_connector.customers
                    WHERE sync = :sync AND customer_id = given.id OFFSET 0) found"""),
        {"sync": sync, "ids": json_array(ids)},
    ).all()
    return {row.customer_id for row in rows}


class WithContact(NamedTuple):
    """A customer's encrypted payload, and the key of its contact."""

    payload: bytes
    email_key: bytes


def with_contact(connection: Connection, *, sync: str, customer_id: str) -> WithContact | None:
    """Return a customer that owns the contact at its address; None without one."""
    row = connection.execute(
        text("""SELECT c.payload, c.email_key FROM ml_connector.customers c
                JOIN ml_connector.contacts k ON k.sync = c.sync AND k.email_key = c.email_key
                WHERE c.sync = :sync AND c.customer_id = :id AND k.owner = c.customer_id
                  AND c.active AND NOT c.gone AND c.payload IS NOT NULL"""),
        {"sync": sync, "id": customer_id},
    ).one_or_none()
    return None if row is None else WithContact(bytes(row.payload), bytes(row.email_key))


def at(connection: Connection, *, sync: str, keys: Collection[bytes]) -> dict[str, bytes]:
    """Return the customers whose contact is at one of ``keys``, or moved there in Mailchimp.

    Maps each customer id to the key that matched.
    """
    rows = connection.execute(
        text("""SELECT customer_id, email_key FROM ml_connector.customers
                WHERE sync = :sync AND email_key = ANY(:keys)
                UNION
                SELECT c.customer_id, k.email_key FROM ml_connector.contacts k
                JOIN ml_connector.customers c ON c.sync = k.sync AND c.email_key = k.alias_of
                WHERE k.sync = :sync AND k.email_key = ANY(:keys)"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    return {row.customer_id: bytes(row.email_key) for row in rows}


def merge_fields_at(
    connection: Connection, *, sync: str, keys: Collection[bytes], vault: Vault
) -> dict[bytes, list[Mapping[str, MergeValue]]]:
    """Return the merge fields that the customers at contacts are to show, by contact."""
    there = at(connection, sync=sync, keys=keys)
    rows = connection.execute(
        text("""SELECT customer_id, payload FROM ml_connector.customers
                WHERE sync = :sync AND customer_id = ANY(:ids)"""),
        {"sync": sync, "ids": list(there)},
    ).all()
    found: dict[bytes, list[Mapping[str, MergeValue]]] = {}
    for id_, payload in rows:
        customer = decrypted(payload, sync=sync, customer_id=id_, vault=vault)
        found.setdefault(there[id_], []).append(customer.merge_fields)
    return found


def any_at(connection: Connection, *, sync: str, keys: Collection[bytes]) -> set[bytes]:
    """Return those of ``keys`` at which a customer is."""
    rows = connection.execute(
        text("""SELECT DISTINCT email_key FROM ml_connector.customers
                WHERE sync = :sync AND email_key = ANY(:keys)"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).scalars()
    return {bytes(key) for key in rows}


def missing_from_load(connection: Connection, *, sync: str, seen_in: int, most: int) -> list[str]:
    """Return up to ``most`` customers that the full load ``seen_in`` has not listed so far."""
    rows = connection.execute(
        text("""SELECT customer_id FROM ml_connector.customers
                WHERE sync = :sync AND NOT gone AND seen_in <> :seen_in AND NOT EXISTS (
                    SELECT 1 FROM ml_connector.unreadable_records u
                    WHERE u.sync = :sync AND u.system = 'quickbooks'
                      AND u.record = customer_id AND u.seen_in = :seen_in) LIMIT :most"""),
        {"sync": sync, "seen_in": seen_in, "most": most},
    ).all()
    return [row.customer_id for row in rows]


def address_keys(connection: Connection, *, sync: str, ids: Collection[str]) -> set[bytes]:
    """Return the keys of customers' own addresses, and of those they are represented under."""
    rows = connection.execute(
        text("""SELECT unnest(ARRAY[email_key, contact_key]) AS key FROM ml_connector.customers
                WHERE sync = :sync AND customer_id = ANY(:ids)"""),
        {"sync": sync, "ids": list(ids)},
    ).all()
    return {bytes(row.key) for row in rows if row.key is not None}


def any_staged(connection: Connection, *, sync: str) -> bool:
    """Return whether any customer was ever staged, gone or not."""
    found = connection.execute(
        text("SELECT EXISTS (SELECT 1 FROM ml_connector.customers WHERE sync = :sync)"),
        {"sync": sync},
    ).scalar_one()
    return bool(found)


def count_known(connection: Connection, *, sync: str, seen_in: int | None = None) -> int:
    """Return how many customers are staged and not gone.

    With ``seen_in``, count only those that this full load has listed.
    """
    seen = "" if seen_in is None else "AND seen_in = :seen_in"
    found = connection.execute(
        text(f"SELECT count(*) FROM ml_connector.customers WHERE sync = :sync AND NOT gone {seen}"),  # noqa: S608
        {"sync": sync, "seen_in": seen_in} if seen_in is not None else {"sync": sync},
    ).scalar_one()
    return int(found)
