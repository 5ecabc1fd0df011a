"""All that tasks and DAG files import, imported once in the process that forks for them.

A task is a fork. Without this each one imports pandas, psycopg and the HTTP stack by itself, a
second of work and more on one core: the largest part of a webhook's way (docs/webhooks.md). A DAG
file is parsed in a fork as well.
"""

from ml_connector.store import refresh_lock
from ml_connector_airflow import dag_docs, forms, lineage
from ml_connector_airflow.hooks import mailchimp, quickbooks
from ml_connector_airflow.operators import plan_approval
from ml_connector_airflow.sensors import inbox
from ml_connector_airflow.tasks import audit, replay, sync, tokens, watches, webhooks

__all__ = [
    "audit",
    "dag_docs",
    "forms",
    "inbox",
    "lineage",
    "mailchimp",
    "plan_approval",
    "quickbooks",
    "refresh_lock",
    "replay",
    "sync",
    "tokens",
    "watches",
    "webhooks",
]
