"""Make this process an Airflow server process, so that connections resolve as they do there."""

import importlib
import json
import os
import re
import socket
import sys
import warnings
from typing import NamedTuple

from ml_connector.errors import StorageError

AIRFLOWS = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
CONNECTORS = "AIRFLOW_CONN_ML_CONNECTOR_DB"
BACKEND = "AIRFLOW__SECRETS__BACKEND"
PORTS = {"postgres": 5432, "postgresql": 5432, "mysql": 3306}
ONE_SERVER = re.compile(
    r"(?P<kind>postgres(ql)?|mysql)(\+\w+)?://([^@/\s]*@)?(?P<host>[A-Za-z0-9_.-]+)(:(?P<port>\d{1,5}))?(/[^@]*)?"
)
"""The URL of a database on one named host. SQLAlchemy's own parser would cost its import."""

STARLETTES = "StarletteDeprecationWarning"

PATIENCE = 10.0
"""Seconds to wait for a connection to a database before Airflow is imported."""


class Server(NamedTuple):
    """Where a database listens."""

    host: str
    port: int


def as_server(*, log_level: str = "WARNING", metadata: bool = True, connector: bool = True) -> None:
    """Let connections resolve as they do in Airflow itself: environment, backends, database.

    ``metadata``: the command cannot work without Airflow's own database.
    ``connector``: the command cannot work without the connector's database.

    Raises:
        StorageError: a database is unreachable, or Airflow's is of another version.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", log_level)
    if metadata:
        _refuse_unreachable("Airflow's", server_of(os.environ.get(AIRFLOWS, "")))
    if connector and BACKEND not in os.environ:  # a backend's connections go before ours
        _refuse_unreachable("the connector's", server_of(os.environ.get(CONNECTORS, "")))
    silence_deprecations()
    if metadata:
        from ml_connector_airflow.commands.migrate import require_current_metadata

        require_current_metadata()


def server_of(told: str) -> Server | None:
    """Return the server of a database's URL, or of an Airflow connection as URL or JSON.

    None for several hosts, a socket, and what is neither: Airflow then says what is wrong.
    """
    if told.startswith("{"):
        told = _url_of(told)
    found = ONE_SERVER.fullmatch(told)
    if found is None or "host=" in told:  # an option that goes before the host
        return None
    return Server(found["host"], int(found["port"] or PORTS[found["kind"]]))


def _url_of(connection: str) -> str:
    """Return an Airflow connection in JSON as a URL, as far as ``server_of`` reads one."""
    try:
        given = json.loads(connection)
    except ValueError:
        return ""
    port = f":{given['port']}" if given.get("port") else ""
    options = "?host=" if "host" in str(given.get("extra")) else ""
    return f"{given.get('conn_type')}://{given.get('host')}{port}/{options}"


def _refuse_unreachable(whose: str, server: Server | None) -> None:
    """Fail at once where nothing listens: the import of Airflow takes seconds before it notices."""
    if server is None:
        return
    try:
        socket.create_connection(server, timeout=PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StorageError(
            f'{whose} database cannot be used: connection to server at "{server.host}", port '
            f"{server.port} failed: {reason}"
        ) from error


def silence_deprecations() -> None:
    """Keep the deprecations of Airflow and its libraries out of our output.

    A user's -W or PYTHONWARNINGS takes precedence.
    """
    if sys.warnoptions:
        return
    # Airflow shows its deprecations unless options of the interpreter say otherwise.
    sys.warnoptions.append("ignore::DeprecationWarning")
    warnings.simplefilter("ignore", DeprecationWarning)
    # Starlette's, which are no DeprecationWarning. Airflow's API causes them in each command that
    # loads it. Older versions of Starlette have none.
    if own := getattr(importlib.import_module("starlette.exceptions"), STARLETTES, None):
        warnings.simplefilter("ignore", own)
