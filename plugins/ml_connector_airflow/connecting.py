"""Connect an account, from the consent to a working connection: for the shell and the console."""

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

from airflow.models.connection import Connection as StoredConnection
from airflow.utils.session import create_session

from ml_connector.errors import SettingsError
from ml_connector.mailchimp import authorize as mailchimp
from ml_connector.mailchimp.webhooks import SYSTEM as MAILCHIMP
from ml_connector.quickbooks import authorize as quickbooks
from ml_connector.quickbooks.webhooks import SYSTEM as QUICKBOOKS
from ml_connector.store.database import Database
from ml_connector.store.refresh_lock import refresh_lock
from ml_connector.wire.consent import Consent
from ml_connector_airflow.alerts.delivery import end_alert
from ml_connector_airflow.hooks.mailchimp import MailchimpHook
from ml_connector_airflow.hooks.quickbooks import QuickBooksHook
from ml_connector_airflow.tasks.tokens import needs_reauth
from ml_connector_airflow.token_variable import TokenVariable
from ml_connector_airflow.typed import realm_in, without_blanks
from ml_connector_airflow.wiring import connection_named, database_url

PAGES = {QUICKBOOKS: quickbooks.PAGE, MAILCHIMP: mailchimp.PAGE}
_TYPES = {QUICKBOOKS: "QuickBooks Online", MAILCHIMP: "Mailchimp"}


def consent_page(system: str, conn_id: str, *, redirect_uri: str, state: str) -> str:
    """Return the URL of a system's consent page.

    Raises ``SettingsError`` if anything is missing that ``complete_consent`` needs: the user would
    have to consent again.
    """
    database_url()
    connection = connection_named(conn_id, f"add one of type {_TYPES[system]}")
    extra = connection.extra_dejson
    if system == QUICKBOOKS:
        QuickBooksHook(conn_id).token_endpoint()
        url = quickbooks.page_beside(without_blanks(extra.get("token_url")))
    else:
        MailchimpHook(conn_id).authorization_server()
        _require_stored(conn_id)
        url = mailchimp.Endpoints.of(extra).authorize
    client_id = without_blanks(connection.login)
    return PAGES[system].address(
        client_id=client_id, redirect_uri=redirect_uri, state=state, url=url
    )


def complete_consent(system: str, conn_id: str, consent: Consent, *, redirect_uri: str) -> str:
    """Store what a consent grants; return the name of the company or account, as it responds."""
    with closing(Database(database_url(), connections=3)) as database:
        if system == QUICKBOOKS:
            return _connect_company(database, conn_id, consent, redirect_uri)
        return _connect_account(database, conn_id, consent, redirect_uri)


def _connect_company(database: Database, conn_id: str, consent: Consent, redirect_uri: str) -> str:
    """Store the token pair and the company.

    Takes the refresh lock, so it waits for a refresh in flight with the former pair. That refresh
    would otherwise overwrite the new consent.
    """
    endpoint = QuickBooksHook(conn_id).token_endpoint()
    with refresh_lock(database, conn_id):
        TokenVariable(conn_id).save(endpoint.exchange(consent.code, redirect_uri))
        _store_realm(conn_id, consent.realm_id)
    end_alert(database, cause=needs_reauth(conn_id))
    return QuickBooksHook(conn_id).get_client(database=database).company().name


def _connect_account(database: Database, conn_id: str, consent: Consent, redirect_uri: str) -> str:
    """Store the token, and the base URL of the account's data centre."""
    grant = MailchimpHook(conn_id).authorization_server().exchange(consent.code, redirect_uri)

    def put(stored: Any) -> None:
        stored.set_password(grant.access_token)
        stored.host = grant.base_url

    if not _change(conn_id, put):
        raise _not_stored(conn_id)
    end_alert(database, cause=needs_reauth(conn_id))
    return str(MailchimpHook(conn_id).get_client().account().get("account_name") or "")


def _store_realm(conn_id: str, realm_id: str) -> None:
    connection = connection_named(conn_id, f"add one of type {_TYPES[QUICKBOOKS]}")
    if realm_in(connection.extra_dejson) == realm_id:
        return

    def put(stored: Any) -> None:
        stored.extra = json.dumps({**stored.extra_dejson, "realm_id": realm_id})

    if not _change(conn_id, put):
        raise SettingsError(
            f"you connected the company {realm_id}; connection {conn_id} comes from the "
            "environment or a secrets backend, so set its realm_id to this number there"
        )


def _require_stored(conn_id: str) -> None:
    """Raise ``SettingsError`` if a token could not be stored in the connection."""
    if not _change(conn_id, lambda _stored: None):
        raise _not_stored(conn_id)


def _not_stored(conn_id: str) -> SettingsError:
    return SettingsError(
        f"connection {conn_id} comes from the environment or a secrets backend, where no token"
        " can be stored; put an API key there, or add the connection in Airflow instead"
    )


def _change(conn_id: str, put: Callable[[Any], None]) -> bool:
    """Change a connection in Airflow's own database; return False if another one takes effect.

    Airflow reads the environment and a secrets backend first. What they hold is in no row: it has
    no id, even where it equals a stored connection.
    """
    connection_named(conn_id, "add it in Airflow")
    row = getattr(StoredConnection.get_connection_from_secrets(conn_id), "id", None)
    with create_session() as session:
        stored = session.get(StoredConnection, row) if row else None
        if stored is None:
            return False
        put(stored)
        return True
