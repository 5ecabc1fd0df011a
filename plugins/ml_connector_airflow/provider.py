"""What Airflow's provider manager learns about ml-connector: its connection types."""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider description (schema: airflow/provider.yaml.schema.json)."""
    return {
        "package-name": "ml-connector",
        "name": "ml-connector",
        "description": "QuickBooks Online and Mailchimp.",
        "connection-types": [
            {
                "connection-type": "quickbooks",
                "hook-class-name": "ml_connector_airflow.hooks.quickbooks.QuickBooksHook",
            },
            {
                "connection-type": "mailchimp",
                "hook-class-name": "ml_connector_airflow.hooks.mailchimp.MailchimpHook",
            },
        ],
    }
