"""Contact ownership where several syncs feed one audience: the first sync to take it owns it.

Each sync stores its own view of the audience. A contact owned by another sync is looked up there,
and counts only while that sync reads the same audience.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from ml_connector.store.contacts import identity
from ml_connector.store.database import bytea_array
from ml_connector.vault import Vault

OWNED_ELSEWHERE = "owned_by_another_sync"

_READS = """JOIN ml_connector.cursors r ON r.sync = k.sync AND r.name = 'members'
                                     AND r.value->>'audience' = :audience"""
# A decided write counts as made: its sync was first.
_OWNED = f"""
    SELECT k.email_key, k.sync FROM ml_connector.contacts k {_READS}
    WHERE k.sync = ANY(:others) AND k.owner IS NOT NULL
      AND k.status NOT IN ('archived', 'forgotten', 'absent', 'moved')
    UNION
    SELECT k.email_key, k.sync FROM ml_connector.all_changes k {_READS}
    WHERE k.sync = ANY(:others) AND k.state = 'pending' AND k.kind <> 'archive'"""  # noqa: S608 -- constants of this module


class Owned(NamedTuple):
    """A contact that another sync owns."""

    email_key: bytes
    sync: str


class Archived(NamedTuple):
    """A contact that another sync archived, and its status before."""

    email_key: bytes
    previous_status: str | None


def owned(
    connection: Connection, *, audience: str, others: Collection[str], keys: Collection[bytes]
) -> list[Owned]:
    """Return those contacts under ``keys`` that the syncs ``others`` own."""
    rows = connection.execute(
        text(f"SELECT * FROM ({_OWNED}) owned WHERE email_key = ANY(:keys)"),  # noqa: S608
        {"audience": audience, "others": list(others), "keys": bytea_array(keys)},
    ).all()
    return [Owned(bytes(row.email_key), row.sync) for row in rows]


def archived(
    connection: Connection, *, audience: str, others: Collection[str], keys: Collection[bytes]
) -> list[Archived]:
    """Return those contacts under ``keys`` that the syncs ``others`` archived."""
    rows = connection.execute(
        text(f"""SELECT k.email_key, k.previous_status FROM ml_connector.contacts k {_READS}
                 WHERE k.sync = ANY(:others) AND k.email_key = ANY(:keys)
                   AND k.status = 'archived' AND k.archived_by = 'us'"""),  # noqa: S608
        {"audience": audience, "others": list(others), "keys": bytea_array(keys)},
    ).all()
    return [Archived(bytes(row.email_key), row.previous_status) for row in rows]


def leftover_tags(
    connection: Connection, *, others: Collection[str], keys: Collection[bytes], vault: Vault
) -> dict[bytes, list[str]]:
    """Return the tags that ``others`` left on contacts they released or archived."""
    rows = connection.execute(
        text("""SELECT sync, email_key, payload FROM ml_connector.contacts
                WHERE sync = ANY(:others) AND email_key = ANY(:keys) AND payload IS NOT NULL
                  AND (owner IS NULL OR status = 'archived') ORDER BY sync"""),
        {"others": list(others), "keys": bytea_array(keys)},
    ).all()
    left: dict[bytes, list[str]] = defaultdict(list)
    for row in rows:
        key = bytes(row.email_key)
        left[key] += vault.decrypt(row.payload, identity(row.sync, key)).get("tags", [])
    return dict(left)


def readers(connection: Connection, *, sync: str, audience: str) -> list[str]:
    """Return the other syncs that read an audience, those that left the settings included."""
    rows = connection.execute(
        text("""SELECT sync FROM ml_connector.cursors
                WHERE name = 'members' AND sync <> :sync AND value->>'audience' = :audience
                ORDER BY sync"""),
        {"sync": sync, "audience": audience},
    ).scalars()
    return list(rows)


def sent_by_others(
    connection: Connection, *, others: Collection[str], keys: Collection[bytes], vault: Vault
) -> dict[bytes, list[Mapping[str, Any]]]:
    """Return the merge fields that ``others`` last sent to contacts, by key."""
    sent: dict[bytes, list[Mapping[str, Any]]] = defaultdict(list)
    if not others or not keys:
        return sent
    rows = connection.execute(
        text("""SELECT sync, email_key, payload FROM ml_connector.contacts
                WHERE sync = ANY(:others) AND email_key = ANY(:keys) AND payload IS NOT NULL
                ORDER BY sync"""),
        {"others": list(others), "keys": bytea_array(keys)},
    ).all()
    for row in rows:
        key = bytes(row.email_key)
        payload = vault.decrypt(row.payload, identity(row.sync, key))
        sent[key].append(payload.get("merge_fields", {}))
    return sent


def waiting_elsewhere(
    connection: Connection, *, others: Collection[str], keys: Collection[bytes]
) -> set[bytes]:
    """Return those of ``keys`` where ``others`` skip a customer while another sync owns it.

    A customer of ``others`` there becomes a contact once we release the address.
    """
    rows = connection.execute(
        text("""SELECT email_key FROM ml_connector.customers
                WHERE sync = ANY(:others) AND email_key = ANY(:keys) AND reason = :reason
                  AND active AND NOT gone"""),
        {"others": list(others), "keys": bytea_array(keys), "reason": OWNED_ELSEWHERE},
    ).all()
    return {bytes(row.email_key) for row in rows}


def mark_released(
    connection: Connection, *, sync: str, audience: str, others: Collection[str]
) -> None:
    """Mark customers for a new decision whose contact another sync has released."""
    connection.execute(
        text(f"""UPDATE ml_connector.customers c SET dirty = true
                 WHERE c.sync = :sync AND c.reason = :reason AND NOT c.dirty
                   AND c.email_key NOT IN (SELECT email_key FROM ({_OWNED}) owned)"""),  # noqa: S608
        {"sync": sync, "reason": OWNED_ELSEWHERE, "audience": audience, "others": list(others)},
    )
