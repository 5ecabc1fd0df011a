"""Airflow's own database, for commands that run outside Airflow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import airflow
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from ml_connector.errors import StorageError
from ml_connector_airflow.compat import metadata_engine

_MIGRATIONS = Path(airflow.__file__).parent / "migrations"


@contextmanager
def airflows_database() -> Iterator[None]:
    """Translate failures of Airflow's database.

    Raises:
        StorageError: it is away, or ended a transaction, as after a deadlock.
    """
    try:
        yield
    except DBAPIError as error:
        first = str(error.orig).strip().split("\n", 1)[0]
        raise StorageError(f"Airflow's database cannot be used: {first}") from error


def require_current_metadata() -> None:
    """Check that Airflow's database is of this version; make an empty SQLite file, as of a new home.

    Airflow's database is Airflow's to migrate, above all on a managed service.

    Raises:
        StorageError: it is away, empty, or of another version.
    """
    with airflows_database():
        engine = metadata_engine()
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_heads()
        if set(found) == set(ScriptDirectory(str(_MIGRATIONS)).get_heads()):
            return
        if found or engine.dialect.name != "sqlite":
            raise StorageError(
                f"Airflow's database is {'of another version than this Airflow' if found else 'empty'};"
                " run `airflow db migrate`, unless it is the wrong one: AIRFLOW_HOME and "
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN say which"
            )
        from airflow.utils import db

        db.upgradedb()
