"""Connect QuickBooks, from the consent to a working connection: for the shell and the console."""

import json
from contextlib import closing

from airflow.models.connection import Connection as StoredConnection
from airflow.utils.session import create_session
from sqlalchemy import select

from ml_connector.errors import SettingsError
from ml_connector.quickbooks.authorize import Consent, authorize_url
from ml_connector.store.database import Database
from ml_connector.store.refresh_lock import refresh_lock
from ml_connector_airflow.alerts.delivery import end_alert
from ml_connector_airflow.hooks.quickbooks import QuickBooksHook
from ml_connector_airflow.tasks.tokens import needs_reauth
from ml_connector_airflow.token_variable import TokenVariable
from ml_connector_airflow.typed import realm_in
from ml_connector_airflow.wiring import connection_named, database_url


def consent_page(conn_id: str, *, redirect_uri: str, state: str) -> str:
    """Return the URL of Intuit's consent page.

    Raises ``SettingsError`` without a client id. Raises it as well if the connector's database is
    not configured: ``complete_consent`` needs it, and the user would have to consent again.
    """
    database_url()
    connection = connection_named(conn_id, "add one of type QuickBooks Online")
    if not connection.login:
        raise SettingsError(f"connection {conn_id} lacks the client id (login) of your Intuit app")
    return authorize_url(
        client_id=connection.login,
        redirect_uri=redirect_uri,
        state=state,
        token_url=str(connection.extra_dejson.get("token_url") or ""),
    )


def complete_consent(conn_id: str, consent: Consent, *, redirect_uri: str) -> str:
    """Store the token pair and the company; return the company's name from QuickBooks.

    Takes the refresh lock, so it waits for a refresh in flight with the former pair. That refresh
    would otherwise overwrite the new consent.
    """
    endpoint = QuickBooksHook(conn_id).token_endpoint()
    with closing(Database(database_url(), connections=3)) as database:
        with refresh_lock(database, conn_id):
            TokenVariable(conn_id).save(endpoint.exchange(consent.code, redirect_uri))
            _store_realm(conn_id, consent.realm_id)
        end_alert(database, cause=needs_reauth(conn_id))
        return QuickBooksHook(conn_id).get_client(database=database).company_name()


def _store_realm(conn_id: str, realm_id: str) -> None:
    connection = connection_named(conn_id, "add one of type QuickBooks Online")
    if realm_in(connection.extra_dejson) == realm_id:
        return
    with create_session() as session:
        query = select(StoredConnection).where(StoredConnection.conn_id == conn_id)
        stored = session.scalar(query)
        if stored is None:
            raise SettingsError(
                f"you connected the company {realm_id}; connection {conn_id} comes from the "
                "environment or a secrets backend, so set its realm_id to this number there"
            )
        stored.extra = json.dumps({**stored.extra_dejson, "realm_id": realm_id})
