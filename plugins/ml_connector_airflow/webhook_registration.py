"""The registration of a sync's Mailchimp webhook, with its connection's secrets."""

from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.store import cursors
from ml_connector.store.database import Database
from ml_connector.webhooks.registration import CURSOR, ManualSecrets, Registration
from ml_connector_airflow.webhook_variable import WebhookVariable
from ml_connector_airflow.wiring import connection_named, values_in


def webhook_registration(scope: Scope, client: MailchimpClient, *, base: str) -> Registration:
    """Return the registration of a sync's webhook at ``base``."""
    sync = scope.sync
    keeper = WebhookVariable(sync.mailchimp_conn_id, sync.name)
    return Registration(scope, client, base=base, keeper=keeper, by_hand=_manual_secrets(sync))


def is_registered(sync: Sync, database: Database) -> bool:
    """Return whether this sync's webhook was registered: by us, or by hand and seen since.

    The secret of a connection alone says nothing: audiences without a webhook may share it.
    """
    if WebhookVariable(sync.mailchimp_conn_id, sync.name).load().secret:
        return True
    with database.begin() as connection:
        known = cursors.get(connection, sync=sync.name, name=CURSOR).get("at")
    return bool(known) and has_manual_secret(sync)


def has_manual_secret(sync: Sync) -> bool:
    """Return whether the sync's connection holds the secret of a webhook registered by hand."""
    return bool(_manual_secrets(sync).secrets)


def _manual_secrets(sync: Sync) -> ManualSecrets:
    extra = connection_named(sync.mailchimp_conn_id, "").extra_dejson
    return ManualSecrets(
        secrets=values_in(extra, "webhook_secret"),
        signing_secrets=values_in(extra, "webhook_signing_secret"),
    )
