"""Erase personal data that only payloads identify: decrypt them page by page."""

import base64
import binascii
from typing import Any
from urllib.parse import quote, unquote_plus

import msgspec
from sqlalchemy import Connection, text

from ml_connector.audit import rewrites
from ml_connector.model import Customer
from ml_connector.privacy import payloads
from ml_connector.privacy.payloads import AUDIT, CUSTOMERS, INBOX
from ml_connector.privacy.person import Person
from ml_connector.rules.addresses import addresses_in
from ml_connector.store import contacts
from ml_connector.store.database import Database
from ml_connector.vault import Vault
from ml_connector.webhooks import inbox


def erase_audit(connection: Connection, person: Person, *, vault: Vault, after: int) -> int | None:
    """Erase the person from the next page of audit rows after ``after``.

    Returns the id to continue from, None at the end.
    """
    rows = connection.execute(
        text("""SELECT a.id, a.at, a.sync, a.customer_id, a.email_key, a.seal_id, a.before, a.after
                FROM ml_connector.audit a
                WHERE a.id > :after AND a.action <> 'forget'
                  AND (a.before IS NOT NULL OR a.after IS NOT NULL OR a.email_key IS NOT NULL
                       OR a.error IS NOT NULL)
                ORDER BY a.id LIMIT :page"""),
        {"after": after, "page": payloads.PAGE},
    ).all()
    if not rows:
        return None
    keys = set(person.key_bytes)
    ids = {(each.sync, each.customer_id) for each in person.customers}
    theirs = [
        row.id
        for row in rows
        if (row.email_key and bytes(row.email_key) in keys)
        or (row.sync, row.customer_id) in ids
        or any(
            _tells(vault.decrypt_encoded(payload, column.identity(row.seal_id)), person)
            for column, payload in zip(AUDIT, (row.before, row.after), strict=True)
            if payload
        )
    ]
    rewrites.erase(connection, theirs, vault=vault)
    return int(rows[-1].id)


def erase_inbox(
    connection: Connection, person: Person, *, vault: Vault, after: tuple[Any, ...] | None
) -> tuple[Any, ...] | None:
    """Erase the person from the next page of webhook events, as ``erase_audit`` does."""
    rows = payloads.next_page(connection, INBOX, after=after)
    if not rows:
        return None
    theirs = {
        row.id: row.dedupe_key
        for row in rows
        if _tells(payloads.decrypted(INBOX, row, vault), person)
    }
    inbox.erase(connection, theirs, vault=vault)
    return INBOX.keys_of(rows[-1])


def erase_second_addresses(
    connection: Connection, person: Person, *, vault: Vault, after: tuple[Any, ...] | None
) -> tuple[Any, ...] | None:
    """Remove the person's addresses from the next page of customers that list them second.

    Pages as ``erase_audit`` does.
    """
    rows = payloads.next_page(connection, CUSTOMERS, after=after, locking="FOR UPDATE")
    if not rows:
        return None
    gone = set(person.addresses)
    for row in rows:
        encoded = payloads.decrypted(CUSTOMERS, row, vault)
        if not _tells(encoded, person):
            continue
        said = msgspec.json.decode(encoded, type=Customer)
        left = tuple(each for each in said.addresses if each not in gone)
        if left == said.addresses:
            continue
        kept = msgspec.to_builtins(said) | {"addresses": left}
        connection.execute(
            text("""UPDATE ml_connector.customers SET payload = :payload
                    WHERE sync = :sync AND customer_id = :id"""),
            {
                "sync": row.sync,
                "id": row.customer_id,
                "payload": vault.encrypt(kept, CUSTOMERS.identity_of(row)),
            },
        )
    return CUSTOMERS.keys_of(rows[-1])


UNWORKED = "system = 'mailchimp' AND state IN ('ignored', 'quarantined', 'dead')"
"""SQL condition for the Mailchimp events that no worker processes."""


def erase_suppressed(database: Database, vault: Vault, *, page: int = payloads.PAGE) -> int:
    """Erase forgotten people from webhook events that arrived later; return how many events.

    Reads ``page`` events at a time. Covers only events that no worker processes. For the others, the worker that processes the event
    detects the suppression.
    """
    erased, after = 0, None
    while True:
        with database.begin() as connection:
            if not contacts.any_suppressed(connection):
                return erased
            rows = payloads.next_page(connection, INBOX, after=after, where=UNWORKED, page=page)
            if not rows:
                return erased
            named = {
                row.id: {
                    vault.email_key(address)
                    for address in addresses_in(_words(payloads.decrypted(INBOX, row, vault)))
                }
                for row in rows
            }
            out = contacts.suppressed(connection, keys=set().union(*named.values()))
            theirs = {row.id: row.dedupe_key for row in rows if out & named[row.id]}
            inbox.erase(connection, theirs, vault=vault)
        erased += len(theirs)
        after = INBOX.keys_of(rows[-1])


def _tells(encoded: bytes, person: Person) -> bool:
    """Return whether JSON contains one of the person's addresses, in any form."""
    lower = encoded.lower()
    if any(
        each in lower
        for address in person.addresses
        for each in (address.encode(), quote(address).lower().encode())
    ):
        return True
    # A domain in another script, or a body stored as received: more expensive to check.
    dearer = not encoded.isascii() or _BODY in encoded
    return dearer and not addresses_in(_words(encoded)).isdisjoint(person.addresses)


_BODY = b'{"body":'


def _words(encoded: bytes) -> str:
    """Return the JSON text, as it is and as form data, with an unreadable body decoded."""
    said = [encoded.decode(errors="replace")]
    if encoded.startswith(_BODY):
        body = msgspec.json.decode(encoded)["body"]
        try:
            said.append(base64.b64decode(str(body), validate=True).decode(errors="replace"))
        except binascii.Error:  # a form may have a field named body
            said.append(str(body))
    return "\n".join([*said, *(unquote_plus(each) for each in said)])
