"""Airflow's own database, for commands that run outside Airflow: there and up to date."""

from pathlib import Path

import airflow
from airflow import settings
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from ml_connector.errors import StorageError

_MIGRATIONS = Path(airflow.__file__).parent / "migrations"


def bring_up_to_date() -> None:
    """Migrate Airflow's database if it is not at this version; raise ``StorageError`` if it is away."""
    try:
        if not _is_current():
            # Loads all of Airflow's API, a second that most commands have no use for.
            from airflow.utils import db

            db.upgradedb()
    except DBAPIError as error:
        first = str(error.orig).strip().split("\n", 1)[0]
        raise StorageError(f"Airflow's database cannot be used: {first}") from error


def _is_current() -> bool:
    """Compare what the database says of itself with the newest of Airflow's migrations."""
    with settings.get_engine().connect() as connection:  # type: ignore[no-untyped-call]
        found = MigrationContext.configure(connection).get_current_heads()
    return set(found) == set(ScriptDirectory(str(_MIGRATIONS)).get_heads())
