"""Provider information for Airflow's provider manager: integrations, connection types, assets."""

from importlib.metadata import version
from typing import Any

PACKAGE = "ml-connector"
_SECRET = {"type": ["string", "null"], "format": "password"}
_TEXT = {"type": ["string", "null"]}


def get_provider_info() -> dict[str, Any]:
    """Return the provider description (schema: airflow/provider_info.schema.json).

    The plugin has an entry point of its own and is not named here: Airflow would load it twice.
    """
    return {
        "package-name": PACKAGE,
        "name": "QuickBooks Online and Mailchimp",
        "description": "Syncs QuickBooks Online customers to a Mailchimp audience and subscriber "
        "activity back.",
        "versions": [version(PACKAGE)],
        "integrations": [_integration(*each) for each in _INTEGRATIONS],
        "hooks": [
            _modules("QuickBooks Online", "hooks.quickbooks"),
            _modules("Mailchimp", "hooks.mailchimp"),
        ],
        "operators": [_modules("Mailchimp", "operators.plan_approval")],
        "sensors": [_modules(system, "sensors.inbox") for system, *_ in _INTEGRATIONS],
        "triggers": [_modules(system, "triggers.inbox") for system, *_ in _INTEGRATIONS],
        "connection-types": [_QUICKBOOKS, _MAILCHIMP],
        "asset-uris": [
            {
                "schemes": ["quickbooks", "mailchimp"],
                "handler": None,
                "to_openlineage_converter": "ml_connector_airflow.lineage.to_openlineage",
            }
        ],
    }


# The vendors' logos are trademarks, so none is shipped.
_INTEGRATIONS = [
    (
        "QuickBooks Online",
        "https://developer.intuit.com/app/developer/qbo/docs/get-started",
        [
            "/docs/how-to/connect.md",
            "/docs/explanation/tokens.md",
            "/docs/how-to/webhooks.md",
            "/docs/reference/activity.md",
        ],
    ),
    (
        "Mailchimp",
        "https://mailchimp.com/developer/marketing/",
        ["/docs/how-to/connect.md", "/docs/explanation/consent.md", "/docs/how-to/webhooks.md"],
    ),
]
"""Name, the vendor's documentation, how-to guides as paths of the repository."""


def _integration(name: str, documentation: str, guides: list[str]) -> dict[str, Any]:
    return {
        "integration-name": name,
        "external-doc-url": documentation,
        "how-to-guide": guides,
        "tags": ["service"],
    }


def _modules(integration: str, module: str) -> dict[str, Any]:
    return {
        "integration-name": integration,
        "python-modules": [f"ml_connector_airflow.{module}"],
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
            "description": "Empty for Mailchimp's own, or the token URL's base.",
        },
        "token_url": {
            "label": "Token URL",
            "schema": _TEXT,
            "description": "Empty for Mailchimp's own.",
        },
        "metadata_url": {
            "label": "Metadata URL",
            "schema": _TEXT,
            "description": "Empty for Mailchimp's own, or the token URL's base.",
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
