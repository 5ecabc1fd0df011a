"""Mailchimp hook: a connection to a client of one audience.

password = API key or OAuth token; host = API base URL up to and including ``/3.0`` (empty: from the
key's suffix); extra: ``webhook_secret``, ``webhook_signing_secret``.
"""

from collections import Counter
from collections.abc import Sequence

from airflow.sdk import Connection

from ml_connector.errors import ConnectorError, SettingsError
from ml_connector.mailchimp import protocol
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.wire.retries import Retries
from ml_connector.wire.transport import ReadOnly, RequestsTransport
from ml_connector_airflow.hooks.session import SessionHook


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
        read_only: bool = False,
    ) -> MailchimpClient:
        """Return a client that lists these parts of members too.

        Raises ``SettingsError`` if the connection has no password.
        """
        connection: Connection = self.get_connection(self.mailchimp_conn_id)
        key = connection.password or ""
        if not key:
            raise SettingsError(
                f"connection {self.mailchimp_conn_id} has no password; put the Mailchimp API key there"
            )
        transport = RequestsTransport(self.get_conn(), system="Mailchimp")
        return MailchimpClient(
            transport=ReadOnly(transport) if read_only else transport,
            base_url=protocol.base_url_of(key, connection.host or ""),
            audience_id=audience_id,
            auth=protocol.auth_headers(key),
            pace=lambda: None,  # Mailchimp limits connections, not calls: the pool enforces it
            retries=retries or Retries(),
            calls=calls if calls is not None else Counter(),
            member_fields=member_fields,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the key and data centre are right, with the account's name or the fix."""
        try:
            client = self.get_client(retries=Retries(tries=1))
            name = client.account().get("account_name", "")
        except ConnectorError as error:
            return False, str(error)
        return True, f"Connected to the Mailchimp account {name!r}."
