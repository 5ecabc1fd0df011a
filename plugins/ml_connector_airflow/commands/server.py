"""Make this process an Airflow server process, so that connections resolve as they do there."""

import os
import re
import socket
import sys
import warnings

from ml_connector.errors import StorageError

DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
PORTS = {"postgresql": 5432, "mysql": 3306}
ONE_SERVER = re.compile(
    r"(?P<kind>postgresql|mysql)(\+\w+)?://([^@/\s]*@)?(?P<host>[A-Za-z0-9_.-]+)(:(?P<port>\d{1,5}))?(/[^@]*)?"
)
"""The URL of a database on one named host. SQLAlchemy's own parser would cost its import."""

PATIENCE = 10.0
"""Seconds to wait for a connection to Airflow's database before Airflow is imported."""


def as_server(*, log_level: str = "WARNING", older: bool = False) -> None:
    """Let connections resolve as they do in Airflow itself: environment, backends, database.

    ``older``: migrate a metadata database of an older Airflow too, instead of leaving it alone.

    Raises:
        StorageError: Airflow's database is unreachable, or of another version.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", log_level)
    _refuse_unreachable(os.environ.get(DATABASE, ""))
    silence_deprecations()
    from ml_connector_airflow.commands.migrate import bring_up_to_date

    bring_up_to_date(older=older)


def _refuse_unreachable(url: str) -> None:
    """Fail at once where nothing listens: the import of Airflow takes seconds before it notices."""
    address = ONE_SERVER.fullmatch(url)
    if address is None:
        return  # several hosts, a socket, or nothing that we read: Airflow says what is wrong
    host, port = address["host"], int(address["port"] or PORTS[address["kind"]])
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StorageError(
            f'Airflow\'s database cannot be used: connection to server at "{host}", port {port} '
            f"failed: {reason}"
        ) from error


def silence_deprecations() -> None:
    """Keep Airflow's own deprecations out of our output; a person's -W or PYTHONWARNINGS wins."""
    if not sys.warnoptions:
        # Airflow shows its deprecations unless options of the interpreter say otherwise.
        sys.warnoptions.append("ignore::DeprecationWarning")
        warnings.simplefilter("ignore", DeprecationWarning)
