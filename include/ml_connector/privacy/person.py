"""Identify the person an erasure covers: the keys, addresses and customers behind an address."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, text

from ml_connector.privacy.payloads import AUDIT
from ml_connector.store import contacts, member_events
from ml_connector.store.database import bytea_array
from ml_connector.vault import Vault


class PersonCustomer(msgspec.Struct, frozen=True, kw_only=True):
    """A customer of the person, and what it may still show of them in QuickBooks."""

    sync: str
    customer_id: str
    attachment_id: str = ""
    attaching: bool = False
    cleared: bool = False


class PersonContact(msgspec.Struct, frozen=True, kw_only=True):
    """A contact of the person by its id, which stays when the address changes in Mailchimp."""

    sync: str
    contact_id: str


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """The person an erasure covers.

    ``keys`` are the blind indexes of all addresses, in hexadecimal. ``addresses`` are in plain
    text.
    """

    keys: tuple[str, ...]
    addresses: tuple[str, ...]
    customers: tuple[PersonCustomer, ...] = ()
    contacts: tuple[PersonContact, ...] = ()

    @property
    def key_bytes(self) -> list[bytes]:
        """Return the keys as the tables store them."""
        return [bytes.fromhex(key) for key in self.keys]


def find_person(
    connection: Connection, address: str, *, vault: Vault, formerly: bool = True
) -> Person:
    """Return the keys, addresses and customers of the person at a normalised address.

    Their customers are those at the address or, if there are none and with ``formerly``, those
    formerly at it. Customers that were merged into these also belong to the person. Their
    addresses are those the customers were represented under, and those their contact moved to in
    Mailchimp. An address with another customer is left out.
    """
    key = vault.email_key(address)
    ids = connection.execute(
        text("""WITH RECURSIVE here AS (
                    SELECT c.sync, c.customer_id FROM ml_connector.customers c
                    WHERE c.email_key = :key OR c.contact_key = :key
                       OR EXISTS (SELECT 1 FROM ml_connector.contacts k
                                  WHERE k.sync = c.sync AND k.email_key = :key
                                    AND k.alias_of = c.email_key)
                ), theirs AS (
                    (SELECT * FROM here
                    UNION SELECT sync, customer_id FROM ml_connector.audit
                    WHERE email_key = :key AND :formerly AND NOT EXISTS (SELECT 1 FROM here)
                    UNION SELECT sync, customer_id FROM ml_connector.former_contacts
                    WHERE email_key = :key AND :formerly AND NOT EXISTS (SELECT 1 FROM here))
                    UNION SELECT l.sync, l.customer_id FROM theirs t
                    JOIN ml_connector.customers l
                      ON l.sync = t.sync AND l.merged_into = t.customer_id AND l.gone
                )
                SELECT c.sync, c.customer_id, b.attachment_id,
                       coalesce(b.attaching, false) AS attaching
                FROM theirs JOIN ml_connector.customers c USING (sync, customer_id)
                LEFT JOIN ml_connector.activity_blocks b USING (sync, customer_id)
                ORDER BY c.sync, c.customer_no"""),
        {"key": key, "formerly": formerly},
    ).all()
    shown = tuple(
        PersonCustomer(
            sync=row.sync,
            customer_id=row.customer_id,
            attachment_id=row.attachment_id or "",
            attaching=row.attaching,
        )
        for row in ids
    )
    keys = [key, *_other_keys(connection, key, shown)]
    addresses = {address, *_addresses(connection, keys, vault)}
    return Person(
        keys=tuple(each.hex() for each in keys),
        addresses=tuple(sorted(addresses)),
        customers=shown,
        contacts=_contacts(connection, keys),
    )


def has_another_customer(
    connection: Connection, key: bytes, shown: Sequence[PersonCustomer]
) -> bool:
    """Return whether a customer other than ``shown`` is at an address."""
    rows = connection.execute(
        text("""SELECT sync, customer_id FROM ml_connector.customers
                WHERE email_key = :key OR contact_key = :key"""),
        {"key": key},
    ).all()
    mine = {(each.sync, each.customer_id) for each in shown}
    return any((row.sync, row.customer_id) not in mine for row in rows)


def _contacts(connection: Connection, keys: Sequence[bytes]) -> tuple[PersonContact, ...]:
    rows = connection.execute(
        text("""SELECT DISTINCT sync, contact_id FROM ml_connector.contacts
                WHERE email_key = ANY(:keys) AND contact_id IS NOT NULL ORDER BY sync, contact_id"""),
        {"keys": bytea_array(keys)},
    ).all()
    return tuple(PersonContact(sync=row.sync, contact_id=row.contact_id) for row in rows)


def _other_keys(connection: Connection, key: bytes, shown: Sequence[PersonCustomer]) -> list[bytes]:
    rows = connection.execute(
        text("""
        WITH mine AS (
            SELECT * FROM unnest(CAST(:syncs AS text[]), CAST(:ids AS text[])) AS m(sync, customer_id)
        ), direct AS (
            SELECT c.sync, unnest(ARRAY[c.email_key, c.contact_key]) AS email_key
            FROM ml_connector.customers c JOIN mine USING (sync, customer_id)
            UNION SELECT a.sync, a.email_key
            FROM ml_connector.audit a JOIN mine USING (sync, customer_id)
            UNION SELECT f.sync, f.email_key
            FROM ml_connector.former_contacts f JOIN mine USING (sync, customer_id)
            UNION SELECT k.sync, k.email_key
            FROM ml_connector.contacts k JOIN mine m ON m.sync = k.sync AND m.customer_id = k.owner
            UNION SELECT sync, CAST(:key AS bytea) FROM ml_connector.contacts WHERE email_key = :key
        ), every AS (
            SELECT email_key FROM direct
            UNION SELECT k.email_key FROM ml_connector.contacts k
            JOIN direct d ON d.sync = k.sync AND d.email_key = k.alias_of
            UNION SELECT k.alias_of FROM ml_connector.contacts k
            JOIN direct d ON d.sync = k.sync AND d.email_key = k.email_key
        )
        SELECT DISTINCT e.email_key FROM every e
        WHERE e.email_key IS NOT NULL AND e.email_key <> :key AND NOT EXISTS (
            SELECT 1 FROM ml_connector.customers o
            WHERE (o.email_key = e.email_key OR o.contact_key = e.email_key)
              AND NOT EXISTS (SELECT 1 FROM mine m
                              WHERE m.sync = o.sync AND m.customer_id = o.customer_id))"""),
        {
            "key": key,
            "syncs": [each.sync for each in shown],
            "ids": [each.customer_id for each in shown],
        },
    ).all()
    return [bytes(row.email_key) for row in rows]


def _addresses(connection: Connection, keys: Sequence[bytes], vault: Vault) -> set[str]:
    """Return the addresses behind keys: from contacts, moves in Mailchimp and the audit."""
    found: set[str] = set()
    rows = connection.execute(
        text("""SELECT sync, email_key, payload FROM ml_connector.contacts
                WHERE email_key = ANY(:keys) AND payload IS NOT NULL"""),
        {"keys": bytea_array(keys)},
    ).all()
    for row in rows:
        said = vault.decrypt(row.payload, contacts.identity(row.sync, bytes(row.email_key)))
        found.add(str(said.get("email") or ""))
    rows = connection.execute(
        text("""SELECT sync, email_key, kind, payload FROM ml_connector.member_events
                WHERE email_key = ANY(:keys) AND kind = 'address_changed' AND payload IS NOT NULL"""),
        {"keys": bytea_array(keys)},
    ).all()
    for row in rows:
        identity = member_events.identity(row.sync, bytes(row.email_key), row.kind)
        found.add(str(vault.decrypt(row.payload, identity).get("email") or ""))
    rows = connection.execute(
        text("""SELECT DISTINCT ON (email_key) email_key, seal_id, after FROM ml_connector.audit
                WHERE email_key = ANY(:keys) AND after IS NOT NULL AND system = 'mailchimp'
                ORDER BY email_key, id DESC"""),
        {"keys": bytea_array(keys)},
    ).all()
    for row in rows:
        said = vault.decrypt(row.after, AUDIT[1].identity(row.seal_id))
        found.add(str(said.get("email") or "") if isinstance(said, dict) else "")
    plain = {address.strip().lower() for address in found if address}
    return {address for address in plain if vault.email_key(address) in set(keys)}
