"""Store the secrets of a sync's Mailchimp webhook in an Airflow Variable of its own.

They are not in the connection, which may come from the environment. Two syncs may also share a
connection, while each audience's webhook has its own signing secret (docs/decisions/0012). Airflow
masks the values by their key names.
"""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from ml_connector.errors import SettingsError, StorageError
from ml_connector.webhooks.secrets import WebhookSecrets
from ml_connector_airflow.token_variable import store_variable, stored_variable


class WebhookVariable:
    """``mailchimp_webhook__<conn_id>__<sync>`` in Airflow's own database."""

    def __init__(self, conn_id: str, sync: str) -> None:
        self.name = f"mailchimp_webhook__{conn_id}__{sync}"

    def load(self) -> WebhookSecrets:
        """Return the secrets; empty ones if there is no such Variable.

        Raises ``StorageError`` if Airflow's database is unavailable, ``SettingsError`` if the value
        is invalid.
        """
        try:
            value = stored_variable(self.name)
        except SQLAlchemyError as error:
            raise StorageError(
                f"Airflow's database cannot be used: {type(error).__name__}"
            ) from error
        return _read(value, self.name) if value else WebhookSecrets()

    def save(self, secrets: WebhookSecrets) -> None:
        """Store the secrets; they are committed on return."""
        kept = {name: getattr(secrets, name) for name in WebhookSecrets.__slots__}
        value = json.dumps({name: value for name, value in kept.items() if value})
        store_variable(self.name, value)

    def delete(self) -> None:
        """Delete the Variable."""
        from airflow.models.variable import Variable

        Variable.delete(self.name)


def _read(value: str, name: str) -> WebhookSecrets:
    try:
        found: Any = json.loads(value)
        secrets = WebhookSecrets(**found)
        secrets.secrets(datetime.now(UTC))
    except (TypeError, ValueError):
        raise SettingsError(
            f"the Variable {name} is not what `ml-connector register-webhooks` stores; delete it "
            "and run that command again"
        ) from None
    return secrets
