"""Airflow's own database, for commands that run outside Airflow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import airflow
from airflow import settings
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from ml_connector.errors import StorageError

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


def bring_up_to_date(*, older: bool = False) -> None:
    """Make Airflow's database if it is empty; bring an ``older`` one to this version if told so.

    Raises:
        StorageError: it is away, or of another version, as of an Airflow in use.
    """
    with airflows_database():
        with settings.get_engine().connect() as connection:  # type: ignore[no-untyped-call]
            found = MigrationContext.configure(connection).get_current_heads()
        current = set(found) == set(ScriptDirectory(str(_MIGRATIONS)).get_heads())
        if current and not older:
            return
        if found and not older:
            raise StorageError(
                "Airflow's database is of another version than this Airflow; give "
                "`ml-connector migrate` (or `airflow db migrate`), unless it is the wrong one: "
                "AIRFLOW_HOME and AIRFLOW__DATABASE__SQL_ALCHEMY_CONN say which"
            )
        # Looks at the tables of an auth manager as well, and loads all of Airflow's API for it: a
        # second that most commands have no use for.
        from airflow.utils import db

        try:
            db.check_migrations(timeout=0)  # type: ignore[no-untyped-call]
        except TimeoutError:
            db.upgradedb()
