"""Provider information for Airflow's provider manager: connection types and assets."""

from typing import Any

_SECRET = {"type": ["string", "null"], "format": "password"}
_TEXT = {"type": ["string", "null"]}


def get_provider_info() -> dict[str, Any]:
    """Return the provider description (schema: airflow/provider.yaml.schema.json)."""
    return {
        "package-name": "ml-connector",
        "name": "ml-connector",
        "description": "QuickBooks Online and Mailchimp.",
        "connection-types": [_QUICKBOOKS, _MAILCHIMP],
        "asset-uris": [
            {
                "schemes": ["quickbooks", "mailchimp"],
                "handler": None,
                "to_openlineage_converter": "ml_connector_airflow.lineage.to_openlineage",
            }
        ],
    }


_QUICKBOOKS = {
    "connection-type": "quickbooks",
    "hook-class-name": "ml_connector_airflow.hooks.quickbooks.QuickBooksHook",
    "hook-name": "QuickBooks Online",
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "port"],
        "relabeling": {
            "login": "Client ID",
            "password": "Client secret",
            "host": "API base URL (empty = production)",
        },
        "placeholders": {"host": "https://quickbooks.api.intuit.com"},
    },
    "conn-fields": {
        "realm_id": {
            "label": "Realm ID",
            "schema": _TEXT,
            "description": "The company's number, as Intuit shows it when you connect.",
        },
        "token_url": {
            "label": "Token URL",
            "schema": _TEXT,
            "description": "Empty for Intuit's own.",
        },
        "webhook_verifier_token": {
            "label": "Webhook verifier token",
            "schema": _SECRET,
            "description": "From the app's webhooks page; signs what QuickBooks sends.",
        },
    },
}

_MAILCHIMP = {
    "connection-type": "mailchimp",
    "hook-class-name": "ml_connector_airflow.hooks.mailchimp.MailchimpHook",
    "hook-name": "Mailchimp",
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "port"],
        "relabeling": {
            "login": "Client ID (for Connect Mailchimp only)",
            "password": "API key or OAuth token",
            "host": "API base URL (empty = from the key)",
        },
        "placeholders": {"host": "https://us19.api.mailchimp.com/3.0"},
    },
    "conn-fields": {
        "client_secret": {
            "label": "Client secret (for Connect Mailchimp only)",
            "schema": _SECRET,
            "description": "From your app in Mailchimp, as the client ID.",
        },
        "authorize_url": {
            "label": "Authorize URL",
            "schema": _TEXT,
            "description": "Empty for Mailchimp's own, or beside the token URL.",
        },
        "token_url": {
            "label": "Token URL",
            "schema": _TEXT,
            "description": "Empty for Mailchimp's own.",
        },
        "metadata_url": {
            "label": "Metadata URL",
            "schema": _TEXT,
            "description": "Empty for Mailchimp's own, or beside the token URL.",
        },
        "webhook_secret": {
            "label": "Webhook secret",
            "schema": _SECRET,
            "description": "An unguessable word in the webhook's URL.",
        },
        "webhook_signing_secret": {
            "label": "Webhook signing secret",
            "schema": _SECRET,
            "description": "Mailchimp shows it once, when the webhook is created.",
        },
    },
}
