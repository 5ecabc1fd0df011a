"""QuickBooks hook: a connection to a client of one company.

login = client id; password = client secret; host = API base URL (empty: production); extra:
``realm_id``, ``token_url`` (empty: Intuit's), ``webhook_verifier_token``. The rotated tokens are in
the Variable ``quickbooks_token__<conn_id>``.
"""

from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from airflow.sdk import Connection

from ml_connector.errors import ConnectorError, NeedsReauth, SettingsError
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.protocol import PRODUCTION_URL
from ml_connector.quickbooks.tokens import TokenEndpoint, TokenManager
from ml_connector.wire.retries import Retries
from ml_connector.wire.transport import ReadOnly, RequestsTransport
from ml_connector_airflow.hooks.session import SessionHook
from ml_connector_airflow.token_variable import TokenVariable
from ml_connector_airflow.typed import realm_in, without_blanks

if TYPE_CHECKING:
    from ml_connector.store.database import Database

TOKEN_TIMEOUT = (10.0, 60.0)
"""Connect and read timeouts in seconds, shorter than the wait for the refresh lock. Waiters
outlast a slow holder."""


class QuickBooksHook(SessionHook):
    """Hook with one purpose: ``get_client(...)``."""

    conn_name_attr = "quickbooks_conn_id"
    default_conn_name = "quickbooks_default"
    conn_type = "quickbooks"
    hook_name = "QuickBooks Online"

    def __init__(self, quickbooks_conn_id: str = default_conn_name) -> None:
        super().__init__(http_conn_id=quickbooks_conn_id)
        self.quickbooks_conn_id = quickbooks_conn_id

    def get_client(
        self,
        *,
        database: "Database",
        pace: Callable[[], None] = lambda: None,
        pace_batch: Callable[[], None] = lambda: None,
        calls: Counter[str] | None = None,
        retries: Retries | None = None,
        custom_fields: Collection[str] = (),
        read_only: bool = False,
    ) -> QuickBooksClient:
        """Return a client that reads customers with these custom fields. Raises ``SettingsError`` if the connection has no realm id."""
        connection: Connection = self.get_connection(self.quickbooks_conn_id)
        realm = realm_in(connection.extra_dejson)
        if not realm.isdecimal():
            raise SettingsError(
                f"connection {self.quickbooks_conn_id} has no realm_id (the company's number, digits "
                "only); put it into the connection's Realm ID field"
            )
        transport = RequestsTransport(self.get_conn(), system="QuickBooks")
        return QuickBooksClient(
            transport=ReadOnly(transport) if read_only else transport,
            base_url=(without_blanks(connection.host) or PRODUCTION_URL).rstrip("/"),
            realm_id=realm,
            tokens=self.token_manager(database),
            pace=pace,
            pace_batch=pace_batch,
            retries=retries or Retries(),
            calls=calls if calls is not None else Counter(),
            custom_fields=custom_fields,
        )

    def token_manager(self, database: "Database") -> TokenManager:
        """Return the token manager: the only way to an access token of this connection."""
        # Imported here: Airflow imports the hook for the connection form too, and psycopg takes 0.1
        # s.
        from ml_connector.store.refresh_lock import refresh_lock

        return TokenManager(
            vault=TokenVariable(self.quickbooks_conn_id),
            lock=partial(refresh_lock, database, self.quickbooks_conn_id),
            endpoint=self.token_endpoint(),
        )

    def token_endpoint(self) -> TokenEndpoint:
        """Return the token endpoint with this connection's client id and secret.

        Raises ``SettingsError`` if either is missing.
        """
        connection: Connection = self.get_connection(self.quickbooks_conn_id)
        client_id = without_blanks(connection.login)
        client_secret = without_blanks(connection.password)
        if not client_id or not client_secret:
            raise SettingsError(
                f"connection {self.quickbooks_conn_id} lacks the client id (login) or the client "
                "secret (password) of your Intuit app"
            )
        transport = RequestsTransport(
            self.get_conn(), system="QuickBooks", timeout=TOKEN_TIMEOUT, connections=1
        )
        token_url = without_blanks(connection.extra_dejson.get("token_url"))
        return TokenEndpoint(transport, token_url, client_id, client_secret)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether Intuit accepts the client id and secret, with a message or the fix.

        Airflow tests under a made-up connection id. The tokens are stored by connection id, so they
        are out of reach here. The test redeems a made-up token instead: Intuit refuses it as a
        token only if it knows the client. ``ml-connector check`` also tests the company.
        """
        try:
            self.token_endpoint().redeem("connection-test")
        except NeedsReauth:
            return True, (
                "Intuit accepts the client id and secret. `ml-connector check` also tries the "
                "stored token on the company."
            )
        except ConnectorError as error:
            return False, str(error)
        return False, "the token URL hands out tokens for anything; is it Intuit's?"
