"""Make this process an Airflow server process, so that connections resolve as they do there."""

import os
import socket
import sys
import warnings
from urllib.parse import urlsplit

from ml_connector.errors import StorageError

DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
PORTS = {"postgresql": 5432, "mysql": 3306}
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
    address = urlsplit(url)
    usual = PORTS.get(address.scheme.partition("+")[0])
    try:
        host, port = address.hostname, address.port or usual
    except ValueError:
        return  # several hosts, which the driver understands
    if not usual or not host or "," in host:
        return
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError as error:
        reason = error.strerror or str(error)
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
