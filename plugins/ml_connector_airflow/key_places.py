"""The keys in Airflow: Variables that a secrets backend has.

A Variable may also be in Airflow's own database. That protects little: the token that opens
QuickBooks is next to it, and often the data itself. ``check`` warns of it.
"""

from typing import Any

from ml_connector.errors import StorageError
from ml_connector.secret_source import Secret

VARIABLES = {
    "ML_CONNECTOR_ENCRYPTION_KEYS": "ml_connector_secret_encryption_keys",
    "ML_CONNECTOR_INDEX_KEY": "ml_connector_secret_index_key",
}
"""The keys by their environment variable. Airflow masks a Variable whose name says ``secret``."""


def variable_key(name: str) -> Secret | None:
    """Return a key from the first of Airflow's backends that has its Variable.

    Not by ``Variable.get``: that takes a backend that does not respond for one without the key.
    Raises ``StorageError`` if a backend fails.
    """
    variable = VARIABLES.get(name)
    if variable is None:
        return None
    for backend in _backends():
        if text := _get(backend, variable):
            return Secret(text, f"Variable {variable} ({type(backend).__name__})")
    return None


def keys_in_airflows_database() -> list[str]:
    """Return which of the Variables Airflow's own database holds, in use or not."""
    from airflow.secrets.metastore import MetastoreBackend

    backend = MetastoreBackend()
    return [variable for variable in VARIABLES.values() if _get(backend, variable)]


def _backends() -> list[Any]:
    from ml_connector_airflow.token_variable import in_task

    if in_task():
        from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

        return list(ensure_secrets_backend_loaded())
    from airflow.configuration import ensure_secrets_loaded

    return list(ensure_secrets_loaded())


def _get(backend: Any, variable: str) -> str | None:
    try:
        found: str | None = backend.get_variable(variable)
    except Exception as error:  # noqa: BLE001 - a third-party plugin raises classes of its own
        # Its text may name accounts, addresses or a statement.
        raise StorageError(
            f"secrets backend {type(backend).__name__}: Variable {variable} cannot be read"
            f" ({type(error).__name__}). Check the backend and this process's access to it"
        ) from None
    return found
