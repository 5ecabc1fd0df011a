"""Migrate the connector's schema. Safe to run at any time, and concurrently."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from ml_connector.store.database import Database
from ml_connector.wire.retries import Retries

SCHEMA = "ml_connector"
_LOCK = 6_117_001  # arbitrary advisory lock id: serialises concurrent migrations


def upgrade(url: str) -> None:
    """Create or update the tables at ``url`` in one transaction.

    Touches the connector's schema only. Restarts the transaction if it had to give way to active
    runs. Raises ``StorageError`` if the database is unavailable, ``SettingsError`` if it is not UTF8.
    """
    database = Database(url, connections=1)
    try:
        Retries().call(lambda: _upgrade(database))
    finally:
        database.close()


def _upgrade(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # Where the schema is there, as deploy/database_roles.sql makes it, its owner need not have
        # the right to create one: IF NOT EXISTS asks for it all the same.
        if not connection.scalar(
            text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": SCHEMA}
        ):
            connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
