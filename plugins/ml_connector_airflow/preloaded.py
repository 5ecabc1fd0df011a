"""All that tasks import, imported once in the process that forks them.

A task is a fork. Without this each one imports pandas, psycopg and the HTTP stack by itself, a
second of work and more on one core: the largest part of a webhook's way (docs/webhooks.md).
"""

from ml_connector_airflow import steps, token_steps, webhook_steps
from ml_connector_airflow.hooks import mailchimp, quickbooks
from ml_connector_airflow.sensors import inbox

__all__ = ["inbox", "mailchimp", "quickbooks", "steps", "token_steps", "webhook_steps"]
