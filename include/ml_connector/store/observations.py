"""Observations: what a contact showed when it was last read, where that differs from what we sent.

Most contacts show what we sent them, so most have no row. Our next write ends the difference.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, text

from ml_connector.store.database import bytea_array, load_temp_table
from ml_connector.vault import Vault


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What a member was seen to show of what a sync writes: its mapped merge fields with a value.

    ``since``: for fields that differ from what was last sent, the time when a person changed them
    (ISO 8601); ``""`` for a value that was there before us. ``restore``: fields for which a user
    asked that QuickBooks' value comes back. Tags are in ``contacts.seen_tags``.
    """

    merge_fields: Mapping[str, Any]
    since: Mapping[str, str] = {}
    restore: Sequence[str] = ()

    @property
    def shown(self) -> frozenset[str]:
        """Return the fields that have a value."""
        return frozenset(self.merge_fields)

    @property
    def adopted(self) -> list[str]:
        """Return the fields whose value was there before us."""
        return [tag for tag, time in self.since.items() if not time]


def stored(
    connection: Connection, *, sync: str, keys: Collection[bytes], vault: Vault
) -> dict[bytes, Observation]:
    """Return the stored observations of contacts, by key."""
    if not keys:
        return {}
    rows = connection.execute(
        text("""SELECT email_key, payload FROM ml_connector.observations
                WHERE sync = :sync AND email_key = ANY(:keys)"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    return {
        bytes(key): decrypted(payload, sync=sync, email_key=bytes(key), vault=vault)
        for key, payload in rows
    }


PAGE = 1000
"""Observations read at a time."""


def pages(connection: Connection, *, sync: str, vault: Vault) -> Iterator[dict[bytes, Observation]]:
    """Yield all observations of a sync by key, a page at a time."""
    after = b""
    while True:
        keys = connection.execute(
            text("""SELECT email_key FROM ml_connector.observations
                    WHERE sync = :sync AND email_key > :after ORDER BY email_key LIMIT :page"""),
            {"sync": sync, "after": after, "page": PAGE},
        ).scalars()
        page = [bytes(key) for key in keys]
        if not page:
            return
        yield stored(connection, sync=sync, keys=page, vault=vault)
        after = page[-1]


def identity(sync: str, email_key: bytes) -> str:
    """Return the identity that an observation is encrypted for."""
    return f"observations/{sync}/{bytes(email_key).hex()}"


def record(
    connection: Connection,
    observed: Mapping[bytes, Observation],
    *,
    sync: str,
    at: datetime,
    vault: Vault,
) -> None:
    """Store what contacts were observed to show at the time ``at``."""
    if not observed:
        return
    payloads = vault.encrypt_each(
        [(msgspec.to_builtins(each), identity(sync, key)) for key, each in observed.items()]
    )
    load_temp_table(
        connection,
        "observed_now",
        {"email_key": "bytea", "payload": "bytea"},
        zip(observed, payloads, strict=True),
    )
    connection.execute(
        text("""INSERT INTO ml_connector.observations (sync, email_key, observed_at, payload)
                SELECT :sync, email_key, :at, payload FROM observed_now ORDER BY email_key
                ON CONFLICT (sync, email_key) DO UPDATE
                SET observed_at = excluded.observed_at, payload = excluded.payload"""),
        {"sync": sync, "at": at},
    )


def clear(connection: Connection, *, sync: str, keys: Collection[bytes]) -> None:
    """Delete the observations of contacts that show what we sent, or have left the audience."""
    if keys and _any(connection, sync):
        connection.execute(
            text("""DELETE FROM ml_connector.observations
                    WHERE sync = :sync AND email_key = ANY(:keys)"""),
            {"sync": sync, "keys": bytea_array(keys)},
        )


def count_differing(connection: Connection, *, sync: str) -> int:
    """Return how many contacts showed other values when last seen."""
    found = connection.execute(
        text("SELECT count(*) FROM ml_connector.observations WHERE sync = :sync"), {"sync": sync}
    )
    return int(found.scalar_one())


def drop_strangers(connection: Connection, *, sync: str) -> None:
    """Delete the observations of members who are no customers: nothing was sent to them."""
    if _any(connection, sync):
        connection.execute(
            text("""DELETE FROM ml_connector.observations o
                    WHERE o.sync = :sync
                      AND NOT EXISTS (SELECT 1 FROM ml_connector.customers c
                                      WHERE c.sync = :sync AND c.email_key = o.email_key)
                      AND NOT EXISTS (SELECT 1 FROM ml_connector.contacts k
                                      WHERE k.sync = :sync AND k.email_key = o.email_key
                                        AND (k.owner IS NOT NULL OR k.alias_of IS NOT NULL
                                             OR k.payload IS NOT NULL))"""),
            {"sync": sync},
        )


def _any(connection: Connection, sync: str) -> bool:
    found = connection.execute(
        text("SELECT EXISTS (SELECT 1 FROM ml_connector.observations WHERE sync = :sync)"),
        {"sync": sync},
    )
    return bool(found.scalar_one())


class Unobserved(NamedTuple):
    """A member that a pending change adopts, and of whom nothing but the status is known."""

    email_key: bytes
    contact_id: str


def unobserved(
    connection: Connection, *, plan_id: int, shard: int, most: int, ours: bool = False
) -> list[Unobserved]:
    """Return up to ``most`` members that a shard is about to write for the first time.

    ``ours``: contacts that it also wrote before.
    """
    rows = connection.execute(
        text("""SELECT k.email_key, k.contact_id FROM ml_connector.all_changes c
                JOIN ml_connector.contacts k ON k.sync = c.sync AND k.email_key = c.email_key
                WHERE c.plan_id = :plan_id AND c.shard = :shard AND c.state = 'pending'
                  AND k.contact_id IS NOT NULL
                  AND (c.kind = 'update' AND c.status IS NULL AND k.payload IS NULL
                       AND NOT EXISTS (SELECT 1 FROM ml_connector.observations o
                                       WHERE o.sync = c.sync AND o.email_key = c.email_key)
                       OR :ours AND k.payload IS NOT NULL AND c.kind IN ('update', 'restore'))
                LIMIT :most"""),
        {"plan_id": plan_id, "shard": shard, "most": most, "ours": ours},
    ).all()
    return [Unobserved(bytes(row.email_key), row.contact_id) for row in rows]


def decrypted(payload: bytes, *, sync: str, email_key: bytes, vault: Vault) -> Observation:
    """Return a stored observation."""
    return msgspec.convert(vault.decrypt(payload, identity(sync, email_key)), Observation)
