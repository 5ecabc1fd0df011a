"""The registration of a sync's Mailchimp webhook, with its connection's secrets."""

from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.webhooks.registration import ManualSecrets, Registration
from ml_connector_airflow.webhook_variable import WebhookVariable
from ml_connector_airflow.wiring import connection_named, values_in


def webhook_registration(scope: Scope, client: MailchimpClient, *, base: str) -> Registration:
    """Return the registration of a sync's webhook at ``base``."""
    sync = scope.sync
    keeper = WebhookVariable(sync.mailchimp_conn_id, sync.name)
    return Registration(scope, client, base=base, keeper=keeper, by_hand=_manual_secrets(sync))


def is_registered(sync: Sync) -> bool:
    """Return whether this sync's webhook was registered, by us or by hand."""
    keeper = WebhookVariable(sync.mailchimp_conn_id, sync.name)
    return bool(keeper.load().secret or _manual_secrets(sync).secrets)


def _manual_secrets(sync: Sync) -> ManualSecrets:
    extra = connection_named(sync.mailchimp_conn_id, "").extra_dejson
    return ManualSecrets(
        secrets=values_in(extra, "webhook_secret"),
        signing_secrets=values_in(extra, "webhook_signing_secret"),
    )
