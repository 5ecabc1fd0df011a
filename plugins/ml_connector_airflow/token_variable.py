"""Store the rotated QuickBooks tokens in an Airflow Variable: encrypted, masked by key name."""

from airflow.sdk import Variable
from airflow.sdk.exceptions import AirflowRuntimeError

from ml_connector.errors import NotConnected
from ml_connector.quickbooks.tokens import TokenPair


def variable_name(conn_id: str) -> str:
    """Return the name of the connection's token Variable."""
    return f"quickbooks_token__{conn_id}"


class TokenVariable:
    """``TokenVault`` over ``quickbooks_token__<conn_id>``.

    The pair that the connector stored takes precedence over a value from the environment or a
    secrets backend. Such a value would hide every rotation, so it only seeds the first one.
    """

    def __init__(self, conn_id: str) -> None:
        self._name = variable_name(conn_id)

    def load(self) -> TokenPair:
        """Return the pair. Raises ``NotConnected`` if QuickBooks has never been connected."""
        value = stored_variable(self._name) or _seeded(self._name)
        if not value:
            raise NotConnected(
                f"QuickBooks is not connected: there is no Variable {self._name}; "
                "run `ml-connector connect quickbooks`"
            )
        return TokenPair.from_json(value, place=f"Variable {self._name}")

    def save(self, token: TokenPair) -> None:
        """Store the pair in Airflow's database; it is committed on return."""
        store_variable(self._name, token.to_json())


def in_task() -> bool:
    """Return whether this process talks to Airflow through a task's supervisor."""
    from airflow.sdk.execution_time import task_runner

    return getattr(task_runner, "SUPERVISOR_COMMS", None) is not None


def store_variable(name: str, value: str) -> None:
    """Store a value in Airflow's own database; it is committed on return."""
    if in_task():
        Variable.set(name, value)
    else:
        from airflow.models.variable import Variable as ServerVariable

        ServerVariable.set(name, value)


def stored_variable(name: str) -> str | None:
    """Return the value in Airflow's own database, whatever the environment says."""
    if in_task():
        from airflow.sdk.execution_time.secrets.execution_api import ExecutionAPISecretsBackend

        return ExecutionAPISecretsBackend().get_variable(name)
    from airflow.secrets.metastore import MetastoreBackend

    return MetastoreBackend().get_variable(name)


def _seeded(name: str) -> str | None:
    try:
        value = Variable.get(name)
    except AirflowRuntimeError:
        return None
    return str(value) if value else None
