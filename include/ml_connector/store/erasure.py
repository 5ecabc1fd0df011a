"""A person's traces in the store: found by what is known of their address, and destroyed.

What can be told from keys goes in one transaction, together with the suppression, so that from then
on nothing brings the person back. What can only be told by opening payloads (the audit, the inbox)
goes page by page afterwards; ``erasures`` keeps until then, sealed, whom it is about.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection, text

from ml_connector.model import Customer
from ml_connector.store import audit_rewrites, contacts, customers, inbox, member_events, sealed
from ml_connector.store.database import take_turn
from ml_connector.store.sealed import AUDIT, CUSTOMERS, ERASURES, INBOX
from ml_connector.store.suppression import SUPPRESSED, nameless
from ml_connector.vault import Vault

REASON = "erasure_request"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A customer of the person's: what it may still show of them in QuickBooks."""

    sync: str
    customer_id: str
    attachment_id: str = ""
    attaching: bool = False
    cleared: bool = False


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Whom an erasure is about. ``keys``: of every address, in hexadecimal; ``addresses`` in plain."""

    keys: tuple[str, ...]
    addresses: tuple[str, ...]
    customers: tuple[Shown, ...] = ()

    @property
    def key_bytes(self) -> list[bytes]:
        """The keys as the tables have them."""
        return [bytes.fromhex(key) for key in self.keys]


class Erasure(NamedTuple):
    """An erasure under way. ``calling``: the call that was about to leave when it last ended."""

    id: int
    email_key: bytes
    calling: str | None
    person: Person


# ── whom it is about ──────────────────────────────────────────────────────────────────────────


def look(connection: Connection, address: str, *, vault: Vault) -> Person:
    """Return what is known of the person at a normalised address.

    Theirs are the customers at it or, where nobody is, those who were at it once, and who was
    merged into these; and the addresses that these were represented under, or that their contact moved to in Mailchimp, as far as no
    other customer is there.
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
                    WHERE email_key = :key AND NOT EXISTS (SELECT 1 FROM here))
                    UNION SELECT l.sync, l.customer_id FROM theirs t
                    JOIN ml_connector.customers l
                      ON l.sync = t.sync AND l.merged_into = t.customer_id AND l.gone
                )
                SELECT c.sync, c.customer_id, b.attachment_id,
                       coalesce(b.attaching, false) AS attaching
                FROM theirs JOIN ml_connector.customers c USING (sync, customer_id)
                LEFT JOIN ml_connector.activity_blocks b USING (sync, customer_id)
                ORDER BY c.sync, c.customer_no"""),
        {"key": key},
    ).all()
    shown = tuple(
        Shown(
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
    )


def _other_keys(connection: Connection, key: bytes, shown: Sequence[Shown]) -> list[bytes]:
    rows = connection.execute(
        text("""
        WITH mine AS (
            SELECT * FROM unnest(CAST(:syncs AS text[]), CAST(:ids AS text[])) AS m(sync, customer_id)
        ), direct AS (
            SELECT c.sync, unnest(ARRAY[c.email_key, c.contact_key]) AS email_key
            FROM ml_connector.customers c JOIN mine USING (sync, customer_id)
            UNION SELECT a.sync, a.email_key
            FROM ml_connector.audit a JOIN mine USING (sync, customer_id)
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
    """Return the addresses behind keys, from contacts, from moves in Mailchimp and from the audit."""
    found: set[str] = set()
    rows = connection.execute(
        text("""SELECT sync, email_key, payload FROM ml_connector.contacts
                WHERE email_key = ANY(:keys) AND payload IS NOT NULL"""),
        {"keys": list(keys)},
    ).all()
    for row in rows:
        said = vault.open(row.payload, contacts.identity(row.sync, bytes(row.email_key)))
        found.add(str(said.get("email") or ""))
    rows = connection.execute(
        text("""SELECT sync, email_key, kind, payload FROM ml_connector.member_events
                WHERE email_key = ANY(:keys) AND kind = 'address_changed' AND payload IS NOT NULL"""),
        {"keys": list(keys)},
    ).all()
    for row in rows:
        identity = member_events.identity(row.sync, bytes(row.email_key), row.kind)
        found.add(str(vault.open(row.payload, identity).get("email") or ""))
    rows = connection.execute(
        text("""SELECT DISTINCT ON (email_key) email_key, seal_id, after FROM ml_connector.audit
                WHERE email_key = ANY(:keys) AND after IS NOT NULL AND system = 'mailchimp'
                ORDER BY email_key, id DESC"""),
        {"keys": list(keys)},
    ).all()
    for row in rows:
        said = vault.open(row.after, AUDIT[1].identity(row.seal_id))
        found.add(str(said.get("email") or "") if isinstance(said, dict) else "")
    plain = {address.strip().lower() for address in found if address}
    return {address for address in plain if vault.email_key(address) in set(keys)}


# ── the beginning: suppressed, and gone wherever a key tells ──────────────────────────────────


def syncs(connection: Connection) -> list[str]:
    """Return every sync that has customers or contacts, also those no longer in the settings."""
    rows = connection.execute(
        text("""SELECT sync FROM ml_connector.customers UNION
                SELECT sync FROM ml_connector.contacts ORDER BY sync""")
    ).all()
    return [row.sync for row in rows]


def begin(connection: Connection, address: str, *, actor: str, vault: Vault) -> Erasure:
    """Suppress the person at an address and destroy what keys lead to; return whom it is about.

    Waits for calls about them that are on the wire. An erasure that was begun before is gone on with.
    """
    everywhere = syncs(connection)
    for name in everywhere:
        take_turn(connection, sync=name, at="deciding")
    # What those calls write is to be seen, so nobody is looked for before they have ended.
    _wait_for_calls(connection, look(connection, address, vault=vault))
    for name in everywhere:
        take_turn(connection, sync=name)
    key = vault.email_key(address)
    known = _open(connection, key, vault)
    person = look(connection, address, vault=vault)
    if known is not None:
        person = _together(known.person, person)
    connection.execute(
        text("""INSERT INTO ml_connector.suppressions (email_key, reason)
                SELECT unnest(CAST(:keys AS bytea[])), :reason ON CONFLICT DO NOTHING"""),
        {"keys": person.key_bytes, "reason": REASON},
    )
    _withhold_customers(connection, person.customers, vault)
    _erase_by_key(connection, person)
    if known is not None:
        keep(connection, known._replace(person=person), vault=vault)
        return known._replace(person=person)
    id_ = connection.execute(
        text("""INSERT INTO ml_connector.erasures (email_key, actor, payload)
                VALUES (:key, :actor, :payload) RETURNING id"""),
        {"key": key, "actor": actor, "payload": _payload(key, person, vault)},
    ).scalar_one()
    return Erasure(int(id_), key, None, person)


def _wait_for_calls(connection: Connection, person: Person) -> None:
    pairs = _pairs(person.customers)
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


def _withhold_customers(connection: Connection, shown: Iterable[Shown], vault: Vault) -> None:
    for each in shown:
        row = connection.execute(
            text("""SELECT sync_token, last_updated, active FROM ml_connector.customers
                    WHERE sync = :sync AND customer_id = :id"""),
            {"sync": each.sync, "id": each.customer_id},
        ).one_or_none()
        if row is None:
            continue
        kept = nameless(
            each.customer_id, row.sync_token, last_updated=row.last_updated, active=row.active
        )
        identity = customers.identity(each.sync, each.customer_id)
        connection.execute(
            text("""UPDATE ml_connector.customers
                    SET forgotten = true, email_key = NULL, contact_key = NULL, dirty = false,
                        email_problem = :why, left_out = NULL, fields_hash = '', payload = :payload,
                        decision = 'skipped', reason = :why, linked_to = NULL
                    WHERE sync = :sync AND customer_id = :id"""),
            {
                "sync": each.sync,
                "id": each.customer_id,
                "why": SUPPRESSED,
                "payload": vault.seal(msgspec.to_builtins(kept), identity),
            },
        )


_THEIRS = """(sync, customer_id) IN (
    SELECT * FROM unnest(CAST(:syncs AS text[]), CAST(:ids AS text[])))"""
_ERASE_BY_KEY = (
    """DELETE FROM ml_connector.archive_intents WHERE change_id IN (
           SELECT id FROM ml_connector.changes
           WHERE state = 'pending' AND (email_key = ANY(:keys) OR {theirs}))""",
    # A change stays, so that a run's counts remain right; whose it was is not told any more.
    """UPDATE ml_connector.changes
       SET email_key = decode(replace(gen_random_uuid()::text, '-', ''), 'hex'),
           decided_hash = NULL, error = NULL,
           state = CASE WHEN state = 'pending' THEN 'superseded' ELSE state END,
           settled_at = coalesce(settled_at, clock_timestamp())
       WHERE email_key = ANY(:keys)
          OR {theirs} AND (decided_hash IS NOT NULL OR error IS NOT NULL OR state = 'pending')""",
    "DELETE FROM ml_connector.contacts WHERE email_key = ANY(:keys)",
    "UPDATE ml_connector.contacts SET alias_of = NULL WHERE alias_of = ANY(:keys)",
    "DELETE FROM ml_connector.member_events WHERE email_key = ANY(:keys)",
    "DELETE FROM ml_connector.activity_blocks WHERE {theirs}",
    # Somebody else's customer that still shows this contact: the next run shows what is its own.
    "UPDATE ml_connector.activity_blocks SET shown_key = '' WHERE shown_key = ANY(:keys)",
    "DELETE FROM ml_connector.write_intents WHERE {theirs}",
)


def _erase_by_key(connection: Connection, person: Person) -> None:
    values = {"keys": person.key_bytes, **_pairs(person.customers)}
    for statement in _ERASE_BY_KEY:
        connection.execute(text(statement.format(theirs=_THEIRS)), values)


def _pairs(shown: Iterable[Shown]) -> dict[str, list[str]]:
    pairs = [(each.sync, each.customer_id) for each in shown]
    return {"syncs": [sync for sync, _ in pairs], "ids": [id_ for _, id_ in pairs]}


# ── what is under way ─────────────────────────────────────────────────────────────────────────


def _open(connection: Connection, key: bytes, vault: Vault) -> Erasure | None:
    row = connection.execute(
        text("""SELECT id, email_key, calling, payload FROM ml_connector.erasures
                WHERE finished_at IS NULL AND email_key = :key FOR UPDATE"""),
        {"key": key},
    ).one_or_none()
    if row is None:
        return None
    said = vault.open(row.payload, ERASURES.identity(key))
    return Erasure(row.id, key, row.calling, msgspec.convert(said, Person))


def _together(before: Person, now: Person) -> Person:
    known = {(each.sync, each.customer_id): each for each in now.customers}
    known |= {(each.sync, each.customer_id): each for each in before.customers}
    return Person(
        keys=tuple(dict.fromkeys((*before.keys, *now.keys))),
        addresses=tuple(sorted({*before.addresses, *now.addresses})),
        customers=tuple(known.values()),
    )


def keep(connection: Connection, erasure: Erasure, *, vault: Vault) -> None:
    """Store how far an erasure came."""
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
    """Store that an erasure is complete; whom it was about is destroyed."""
    connection.execute(
        text("""UPDATE ml_connector.erasures
                SET payload = NULL, calling = NULL, finished_at = clock_timestamp()
                WHERE id = :id"""),
        {"id": erasure.id},
    )


def _payload(key: bytes, person: Person, vault: Vault) -> bytes:
    return vault.seal(msgspec.to_builtins(person), ERASURES.identity(key))


# ── what only payloads tell ───────────────────────────────────────────────────────────────────


def erase_audit(connection: Connection, person: Person, *, vault: Vault, after: int) -> int | None:
    """Destroy what the next page of sealed audit rows after ``after`` says of the person.

    Returns where to go on; None at the end.
    """
    rows = connection.execute(
        text("""SELECT a.id, a.at, a.sync, a.customer_id, a.email_key, a.seal_id, a.before, a.after
                FROM ml_connector.audit a JOIN ml_connector.audit_seals s ON s.audit_id = a.id
                WHERE a.id > :after AND a.action <> 'forget'
                  AND (a.before IS NOT NULL OR a.after IS NOT NULL OR a.email_key IS NOT NULL
                       OR a.error IS NOT NULL)
                ORDER BY a.id LIMIT :page"""),
        {"after": after, "page": sealed.PAGE},
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
            _tells(vault.open_encoded(payload, column.identity(row.seal_id)), person)
            for column, payload in zip(AUDIT, (row.before, row.after), strict=True)
            if payload
        )
    ]
    audit_rewrites.erase(connection, theirs, vault=vault)
    return int(rows[-1].id)


def erase_inbox(
    connection: Connection, person: Person, *, vault: Vault, after: tuple[Any, ...] | None
) -> tuple[Any, ...] | None:
    """As ``erase_audit`` for the next page of webhooks."""
    rows = sealed.next_page(connection, INBOX, after=after)
    if not rows:
        return None
    theirs = {
        row.id: row.dedupe_key for row in rows if _tells(sealed.opened(INBOX, row, vault), person)
    }
    inbox.erase(connection, theirs, vault=vault)
    return INBOX.keys_of(rows[-1])


def erase_second_addresses(
    connection: Connection, person: Person, *, vault: Vault, after: tuple[Any, ...] | None
) -> tuple[Any, ...] | None:
    """As ``erase_audit`` for the next page of customers who list the address behind another."""
    rows = sealed.next_page(connection, CUSTOMERS, after=after, locking="FOR UPDATE")
    if not rows:
        return None
    gone = set(person.addresses)
    for row in rows:
        encoded = sealed.opened(CUSTOMERS, row, vault)
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
                "payload": vault.seal(kept, CUSTOMERS.identity_of(row)),
            },
        )
    return CUSTOMERS.keys_of(rows[-1])


def _tells(encoded: bytes, person: Person) -> bool:
    """Tell whether JSON names one of the person's addresses, as it is or in a URL's form."""
    lower = encoded.lower()
    return any(
        each in lower
        for address in person.addresses
        for each in (address.encode(), quote(address).lower().encode())
    )


def unfinished(connection: Connection) -> list[datetime]:
    """Return when the erasures were begun that did not come to an end, oldest first, in UTC."""
    rows = connection.execute(
        text("""SELECT started_at FROM ml_connector.erasures
                WHERE finished_at IS NULL ORDER BY started_at""")
    ).all()
    return [row.started_at.astimezone(UTC) for row in rows]
