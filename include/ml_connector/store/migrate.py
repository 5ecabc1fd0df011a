"""Brings the connector's schema up to date. Safe to run at any time, from several places at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from ml_connector.store.database import Database
from ml_connector.store.tables import SCHEMA
from ml_connector.wire.retries import Retries

_LOCK = 6_117_001  # any number that is ours: serialises concurrent migrations


def upgrade(url: str) -> None:
    """Create or update the tables at ``url``; raise ``StorageError`` if the database is away.

    One transaction, begun again if it had to give way to runs that are at work.
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
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
