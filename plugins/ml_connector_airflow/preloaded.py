"""Import once, in the process that forks, what every task and every DAG file needs.

A task is a fork, and so is the parsing of a DAG file. Without this each one imports pandas, psycopg,
the HTTP stack and Airflow's decorators by itself: most of the time from a webhook to its contact
(docs/explanation/performance.md). A test compares the list with what a fork still imports.
"""

import importlib
from contextlib import suppress

from ml_connector.store import refresh_lock
from ml_connector_airflow import configured, dag_docs, defaults, forms, lineage
from ml_connector_airflow.hooks import mailchimp, quickbooks
from ml_connector_airflow.operators import plan_approval
from ml_connector_airflow.sensors import inbox
from ml_connector_airflow.tasks import audit, replay, sync, tokens, undo, watches, webhooks

AIRFLOW = (
    "airflow.providers.common.compat.assets",
    "airflow.providers.common.io.assets.file",
    "airflow.providers.common.io.version_compat",
    "airflow.providers.postgres.assets.postgres",
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
    "airflow.sdk.bases.decorator",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.decorators.condition",
    "airflow.sdk.definitions.decorators.setup_teardown",
    "airflow.version",
    "jinja2.ext",
)
"""What Airflow imports for the first task or DAG file of a process."""

for _module in AIRFLOW:
    with suppress(ImportError):  # another version of Airflow may have it elsewhere
        importlib.import_module(_module)

__all__ = [
    "audit",
    "configured",
    "dag_docs",
    "defaults",
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
    "undo",
    "watches",
    "webhooks",
]
