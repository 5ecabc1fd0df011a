"""Observations: what a contact showed when it was last read, where that differs from what we sent.

Most contacts show what we sent them, so most have no row. Our next write ends the difference.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from ml_connector.store.database import bytea_array, load_temp_table
from ml_connector.vault import Vault


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """A member as read from Mailchimp: its mapped merge fields and the tags that we may set."""

    merge_fields: Mapping[str, Any]
    tags: tuple[str, ...] = ()


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
    """Delete the observations of contacts that a write of ours has just changed."""
    any_row = text("SELECT EXISTS (SELECT 1 FROM ml_connector.observations WHERE sync = :sync)")
    if keys and connection.execute(any_row, {"sync": sync}).scalar_one():
        connection.execute(
            text("""DELETE FROM ml_connector.observations
                    WHERE sync = :sync AND email_key = ANY(:keys)"""),
            {"sync": sync, "keys": bytea_array(keys)},
        )


def decrypted(payload: bytes, *, sync: str, email_key: bytes, vault: Vault) -> Observation:
    """Return a stored observation."""
    return msgspec.convert(vault.decrypt(payload, identity(sync, email_key)), Observation)
