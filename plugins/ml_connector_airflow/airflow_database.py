"""Airflow's own database, for commands that run outside Airflow: there and up to date."""

from airflow.utils import db
from sqlalchemy.exc import DBAPIError

from ml_connector.errors import StorageError


def bring_up_to_date() -> None:
    """Migrate Airflow's database if it is not at this version; raise ``StorageError`` if it is away."""
    try:
        try:
            db.check_migrations(timeout=0)  # type: ignore[no-untyped-call]
        except TimeoutError:
            db.upgradedb()
    except DBAPIError as error:
        first = str(error.orig).strip().split("\n", 1)[0]
        raise StorageError(f"Airflow's database cannot be used: {first}") from error
