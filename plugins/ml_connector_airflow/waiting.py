"""A sync that has never run waits for both of its accounts, and for the choice of an audience."""

from ml_connector.errors import NotConnected
from ml_connector.settings import Sync
from ml_connector.store import plans
from ml_connector.store.database import Database
from ml_connector_airflow.token_variable import TokenVariable
from ml_connector_airflow.typed import without_blanks
from ml_connector_airflow.wiring import connection_named

NO_CHOICE = "no audience is chosen; run `ml-connector init`, or set audience_id in the settings"


def missing_accounts(sync: Sync) -> list[str]:
    """Return the systems, by name, whose connection has no token or key yet.

    Raises ``SettingsError`` if a connection itself is missing.
    """
    found = []
    connection_named(sync.quickbooks_conn_id, "add one of type QuickBooks Online")
    try:
        TokenVariable(sync.quickbooks_conn_id).load()
    except NotConnected:
        found.append("QuickBooks")
    connection = connection_named(sync.mailchimp_conn_id, "add one of type Mailchimp")
    if not without_blanks(connection.password):
        found.append("Mailchimp")
    return found


def why_waiting(sync: Sync, database: Database) -> str:
    """Return why a sync waits; empty if it may run.

    A sync that has run before does not wait: its lost account is an error.
    """
    missing = missing_accounts(sync)
    if not missing and sync.audience_chosen:
        return ""
    with database.begin() as connection:
        if plans.has_finished(connection, sync=sync.name):
            return ""
    if not missing:
        return NO_CHOICE
    return (
        f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not connected yet; use the"
        " console's Setup page or `ml-connector connect`"
    )
