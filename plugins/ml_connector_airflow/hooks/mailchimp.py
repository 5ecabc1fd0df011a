"""Mailchimp hook: a connection to a client of one audience.

password = API key or OAuth token; host = API base URL up to and including ``/3.0`` (empty: from the
key's suffix); login and extra ``client_secret`` = the Mailchimp app's, for OAuth only; extra:
``webhook_secret``, ``webhook_signing_secret``, and ``authorize_url``, ``token_url``,
``metadata_url`` (empty: Mailchimp's own).
"""

from collections import Counter
from collections.abc import Sequence

from airflow.sdk import Connection

from ml_connector.errors import ConnectorError, NotConnected, SettingsError
from ml_connector.mailchimp import protocol
from ml_connector.mailchimp.authorize import AuthorizationServer, Endpoints
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.wire.retries import Retries
from ml_connector.wire.transport import ReadOnly, RequestsTransport
from ml_connector_airflow.hooks.session import SessionHook
from ml_connector_airflow.typed import without_blanks

TOKEN_TIMEOUT = (10.0, 60.0)
"""Connect and read timeouts in seconds."""


class MailchimpHook(SessionHook):
    """Hook with one purpose: ``get_client(audience_id)``."""

    conn_name_attr = "mailchimp_conn_id"
    default_conn_name = "mailchimp_default"
    conn_type = "mailchimp"
    hook_name = "Mailchimp"

    def __init__(self, mailchimp_conn_id: str = default_conn_name) -> None:
        super().__init__(http_conn_id=mailchimp_conn_id)
        self.mailchimp_conn_id = mailchimp_conn_id

    def get_client(
        self,
        audience_id: str = "",
        *,
        calls: Counter[str] | None = None,
        retries: Retries | None = None,
        member_fields: Sequence[str] = (),
        pages_at_a_time: int = 1,
        read_only: bool = False,
    ) -> MailchimpClient:
        """Return a client that lists these parts of members too, and reads pages in parallel.

        Raises ``NotConnected`` if the connection has no password.
        """
        connection: Connection = self.get_connection(self.mailchimp_conn_id)
        key = without_blanks(connection.password)
        if not key:
            raise NotConnected(
                f"Mailchimp is not connected: connection {self.mailchimp_conn_id} has no password;"
                " run `ml-connector connect mailchimp`, or put an API key there",
                system="mailchimp",
            )
        transport = RequestsTransport(self.get_conn(), system="Mailchimp")
        return MailchimpClient(
            transport=ReadOnly(transport) if read_only else transport,
            base_url=protocol.base_url_of(key, without_blanks(connection.host)),
            audience_id=audience_id,
            auth=protocol.auth_headers(key),
            pace=lambda: None,  # Mailchimp limits connections, not calls: the pool enforces it
            retries=retries or Retries(),
            calls=calls if calls is not None else Counter(),
            member_fields=member_fields,
            pages_at_a_time=pages_at_a_time,
        )

    def authorization_server(self) -> AuthorizationServer:
        """Return the authorization server with this connection's client id and secret.

        Raises ``SettingsError`` if either is missing.
        """
        connection: Connection = self.get_connection(self.mailchimp_conn_id)
        extra = connection.extra_dejson
        client_id = without_blanks(connection.login)
        client_secret = without_blanks(extra.get("client_secret"))
        if not client_id or not client_secret:
            raise SettingsError(
                f"connection {self.mailchimp_conn_id} lacks the client id (login) or the client"
                " secret (extra client_secret) of your Mailchimp app"
            )
        transport = RequestsTransport(
            self.get_conn(), system="Mailchimp", timeout=TOKEN_TIMEOUT, connections=1
        )
        return AuthorizationServer(transport, Endpoints.of(extra), client_id, client_secret)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the key and data centre are right, with the account's name or the fix."""
        try:
            client = self.get_client(retries=Retries(tries=1))
            name = client.account().get("account_name", "")
        except ConnectorError as error:
            return False, str(error)
        return True, f"Connected to the Mailchimp account {name!r}."
