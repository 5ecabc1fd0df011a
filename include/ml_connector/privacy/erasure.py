"""Erasures: suppress a person, delete all data that keys identify, track the remaining steps.

Everything that keys identify is deleted in one transaction, together with the suppression. From
then on, no source can bring the person back. Data that only decryption identifies (the audit, the
inbox) is erased page by page afterwards (``erased_payloads``). Until then, ``erasures`` keeps the
person's identity, encrypted.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, text

from ml_connector.privacy.payloads import ERASURES
from ml_connector.privacy.person import (
    Person,
    PersonCustomer,
    find_person,
    has_another_customer,
)
from ml_connector.store import batches, customers
from ml_connector.store.database import lock_sync
from ml_connector.store.suppression import SUPPRESSED, redacted_customer
from ml_connector.vault import Vault

REASON = "erasure_request"


class Erasure(NamedTuple):
    """An erasure in progress. ``calling``: the call about to be sent when the last try ended."""

    id: int
    email_key: bytes
    calling: str | None
    person: Person


# ── start: suppress, and delete by key ────────────────────────────────────────────────────────


def syncs(connection: Connection) -> list[str]:
    """Return every sync with customers or contacts, including those removed from the settings."""
    rows = connection.execute(
        text("""SELECT sync FROM ml_connector.customers UNION
                SELECT sync FROM ml_connector.contacts ORDER BY sync""")
    ).all()
    return [row.sync for row in rows]


def begin(connection: Connection, address: str, *, actor: str, vault: Vault) -> Erasure:
    """Suppress the person at an address and delete the data that keys identify; return the erasure.

    Waits for calls in flight about the person. Continues an erasure that was begun before: then
    who only shared the address once is another person, for the erased customers are at none.
    """
    everywhere = syncs(connection)
    for name in everywhere:
        lock_sync(connection, sync=name, at="deciding")
    key = vault.email_key(address)
    before = _open(connection, key, vault)
    formerly = before is None or not before.person.customers
    # Wait for those calls first: the search below must see what they write.
    _wait_for_calls(connection, find_person(connection, address, vault=vault, formerly=formerly))
    for name in everywhere:
        lock_sync(connection, sync=name)
    known = _open(connection, key, vault, lock=True)
    person = find_person(connection, address, vault=vault, formerly=formerly)
    if known is not None:
        person = _together(known.person, person)
    _cover(connection, person, vault)
    if known is not None:
        save(connection, known._replace(person=person), vault=vault)
        return known._replace(person=person)
    id_ = connection.execute(
        text("""INSERT INTO ml_connector.erasures (email_key, actor, payload)
                VALUES (:key, :actor, :payload) RETURNING id"""),
        {"key": key, "actor": actor, "payload": _payload(key, person, vault)},
    ).scalar_one()
    return Erasure(int(id_), key, None, person)


def add_address(connection: Connection, erasure: Erasure, address: str, *, vault: Vault) -> Erasure:
    """Cover an address that a contact of the person was found to have taken in Mailchimp.

    Returns ``erasure`` itself if another customer is at that address: it is then theirs.
    """
    everywhere = syncs(connection)
    for name in everywhere:
        lock_sync(connection, sync=name, at="deciding")
    key = vault.email_key(address)
    moved = Person(keys=(key.hex(),), addresses=(address,))
    _wait_for_calls(connection, moved)
    for name in everywhere:
        lock_sync(connection, sync=name)
    if has_another_customer(connection, key, erasure.person.customers):
        return erasure
    wider = erasure._replace(person=_together(erasure.person, moved))
    _cover(connection, wider.person, vault)
    save(connection, wider, vault=vault)
    return wider


def _cover(connection: Connection, person: Person, vault: Vault) -> None:
    connection.execute(
        text("""INSERT INTO ml_connector.suppressions (email_key, reason)
                SELECT unnest(CAST(:keys AS bytea[])), :reason ON CONFLICT DO NOTHING"""),
        {"keys": person.key_bytes, "reason": REASON},
    )
    _withhold_customers(connection, person.customers, vault)
    _erase_by_key(connection, person)


def _wait_for_calls(connection: Connection, person: Person) -> None:
    pairs = _pairs(person.customers)
    _take_out(connection, person)
    connection.execute(
        text("""SELECT id FROM ml_connector.changes
                WHERE state = 'pending'
                  AND (email_key = ANY(:keys) OR (sync, customer_id) IN (
                       SELECT * FROM unnest(CAST(:syncs AS text[]), CAST(:ids AS text[]))))
                ORDER BY id FOR UPDATE"""),
        {"keys": person.key_bytes, **pairs},
    )
    connection.execute(
        text("""SELECT 1 FROM ml_connector.activity_blocks
                WHERE (sync, customer_id) IN (
                    SELECT * FROM unnest(CAST(:syncs AS text[]), CAST(:ids AS text[])))
                ORDER BY sync, customer_no, customer_id FOR UPDATE"""),
        pairs,
    )


def _take_out(connection: Connection, person: Person) -> None:
    """Take the person's changes out of their batches, so that they can be erased as rows."""
    pairs = _pairs(person.customers)
    batches.take_out_person(
        connection, keys=person.key_bytes, syncs=pairs["syncs"], customer_ids=pairs["ids"]
    )


def _withhold_customers(
    connection: Connection, shown: Iterable[PersonCustomer], vault: Vault
) -> None:
    for each in shown:
        row = connection.execute(
            text("""SELECT sync_token, last_updated, active FROM ml_connector.customers
                    WHERE sync = :sync AND customer_id = :id"""),
            {"sync": each.sync, "id": each.customer_id},
        ).one_or_none()
        if row is None:
            continue
        kept = redacted_customer(
            each.customer_id, row.sync_token, last_updated=row.last_updated, active=row.active
        )
        identity = customers.identity(each.sync, each.customer_id)
        connection.execute(
            text("""UPDATE ml_connector.customers
                    SET forgotten = true, email_key = NULL, contact_key = NULL, dirty = false,
                        email_problem = :why, left_out = NULL, fields_hash = '', payload = :payload,
                        decision = 'skipped', reason = :why, linked_to = NULL,
                        opted_out = false, opted_out_at = NULL
                    WHERE sync = :sync AND customer_id = :id"""),
            {
                "sync": each.sync,
                "id": each.customer_id,
                "why": SUPPRESSED,
                "payload": vault.encrypt(msgspec.to_builtins(kept), identity),
            },
        )


_THEIRS = """(sync, customer_id) IN (
    SELECT * FROM unnest(CAST(:syncs AS text[]), CAST(:ids AS text[])))"""
_ERASE_BY_KEY = (
    """DELETE FROM ml_connector.archive_intents WHERE change_id IN (
           SELECT id FROM ml_connector.changes
           WHERE state = 'pending' AND (email_key = ANY(:keys) OR {theirs}))""",
    # A change stays, so that a run's counts remain correct, but no longer identifies the person.
    """UPDATE ml_connector.changes
       SET email_key = decode(replace(gen_random_uuid()::text, '-', ''), 'hex'),
           decided_hash = NULL, error = NULL,
           state = CASE WHEN state = 'pending' THEN 'superseded' ELSE state END,
           settled_at = coalesce(settled_at, clock_timestamp())
       WHERE email_key = ANY(:keys)
          OR {theirs} AND (decided_hash IS NOT NULL OR error IS NOT NULL OR state = 'pending')""",
    "DELETE FROM ml_connector.contacts WHERE email_key = ANY(:keys)",
    "UPDATE ml_connector.contacts SET alias_of = NULL WHERE alias_of = ANY(:keys)",
    "DELETE FROM ml_connector.observations WHERE email_key = ANY(:keys)",
    "DELETE FROM ml_connector.unreadable_records WHERE email_keys && CAST(:keys AS bytea[])",
    "DELETE FROM ml_connector.former_contacts WHERE email_key = ANY(:keys) OR {theirs}",
    "DELETE FROM ml_connector.member_events WHERE email_key = ANY(:keys)",
    "DELETE FROM ml_connector.activity_blocks WHERE {theirs}",
    # Another person's customer that still shows this contact: the next run writes its own text.
    "UPDATE ml_connector.activity_blocks SET shown_key = '' WHERE shown_key = ANY(:keys)",
    "DELETE FROM ml_connector.write_intents WHERE {theirs}",
)


def _erase_by_key(connection: Connection, person: Person) -> None:
    values = {"keys": person.key_bytes, **_pairs(person.customers)}
    _take_out(connection, person)
    for statement in _ERASE_BY_KEY:
        connection.execute(text(statement.format(theirs=_THEIRS)), values)


def _pairs(shown: Iterable[PersonCustomer]) -> dict[str, list[str]]:
    pairs = [(each.sync, each.customer_id) for each in shown]
    return {"syncs": [sync for sync, _ in pairs], "ids": [id_ for _, id_ in pairs]}


# ── progress ──────────────────────────────────────────────────────────────────────────────────


_OPEN = """SELECT id, email_key, calling, payload FROM ml_connector.erasures
           WHERE finished_at IS NULL AND email_key = :key"""


def _open(
    connection: Connection, key: bytes, vault: Vault, *, lock: bool = False
) -> Erasure | None:
    statement = text(f"{_OPEN} FOR UPDATE" if lock else _OPEN)
    row = connection.execute(statement, {"key": key}).one_or_none()
    if row is None:
        return None
    said = vault.decrypt(row.payload, ERASURES.identity(key))
    return Erasure(row.id, key, row.calling, msgspec.convert(said, Person))


def _together(before: Person, now: Person) -> Person:
    known = {(each.sync, each.customer_id): each for each in now.customers}
    known |= {(each.sync, each.customer_id): each for each in before.customers}
    return Person(
        keys=tuple(dict.fromkeys((*before.keys, *now.keys))),
        addresses=tuple(sorted({*before.addresses, *now.addresses})),
        customers=tuple(known.values()),
        contacts=tuple(dict.fromkeys((*before.contacts, *now.contacts))),
    )


def save(connection: Connection, erasure: Erasure, *, vault: Vault) -> None:
    """Store the progress of an erasure."""
    connection.execute(
        text("""UPDATE ml_connector.erasures SET payload = :payload, calling = :calling
                WHERE id = :id AND finished_at IS NULL"""),
        {
            "id": erasure.id,
            "calling": erasure.calling,
            "payload": _payload(erasure.email_key, erasure.person, vault),
        },
    )


def finish(connection: Connection, erasure: Erasure) -> None:
    """Mark an erasure as complete, and destroy the person's stored identity."""
    connection.execute(
        text("""UPDATE ml_connector.erasures
                SET payload = NULL, calling = NULL, finished_at = clock_timestamp()
                WHERE id = :id"""),
        {"id": erasure.id},
    )


def _payload(key: bytes, person: Person, vault: Vault) -> bytes:
    return vault.encrypt(msgspec.to_builtins(person), ERASURES.identity(key))


def unfinished(connection: Connection) -> list[datetime]:
    """Return when each unfinished erasure was begun, oldest first, in UTC."""
    rows = connection.execute(
        text("""SELECT started_at FROM ml_connector.erasures
                WHERE finished_at IS NULL ORDER BY started_at""")
    ).all()
    return [row.started_at.astimezone(UTC) for row in rows]
