"""Cursors of a sync: watermarks, and the settings they were taken under."""

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, text

from ml_connector.errors import SettingsError
from ml_connector.vault import Vault


def get(connection: Connection, *, sync: str, name: str) -> dict[str, Any]:
    """Return the cursor, or an empty dict."""
    found = connection.execute(
        text("SELECT value FROM ml_connector.cursors WHERE sync = :sync AND name = :name"),
        {"sync": sync, "name": name},
    ).scalar_one_or_none()
    return dict(found or {})


def put(connection: Connection, *, sync: str, name: str, value: dict[str, Any]) -> None:
    """Store the cursor."""
    connection.execute(
        text("""INSERT INTO ml_connector.cursors (sync, name, value)
                VALUES (:sync, :name, CAST(:value AS jsonb))
                ON CONFLICT (sync, name) DO UPDATE SET value = excluded.value"""),
        {"sync": sync, "name": name, "value": json.dumps(value)},
    )


def prune(connection: Connection, *, sync: str, prefix: str, keep: Collection[str]) -> None:
    """Delete the cursors whose name starts with ``prefix``, except ``keep``."""
    connection.execute(
        text("""DELETE FROM ml_connector.cursors
                WHERE sync = :sync AND starts_with(name, :prefix) AND NOT name = ANY(:keep)"""),
        {"sync": sync, "prefix": prefix, "keep": list(keep)},
    )


def check_index_key(connection: Connection, vault: Vault) -> None:
    """Raise ``SettingsError`` if this process uses another index key than the database.

    The first call stores the key's fingerprint. With another key every contact would look new, so
    nothing may run.
    """
    kept = get(connection, sync="", name="index_key").get("fingerprint")
    if kept is None:
        put(connection, sync="", name="index_key", value={"fingerprint": vault.index_fingerprint})
    elif kept != vault.index_fingerprint:
        raise SettingsError(
            "ML_CONNECTOR_INDEX_KEY is not the key this database was filled with; set the key "
            "that the other machines use (on one machine: keep the folder ML_CONNECTOR_HOME)"
        )
