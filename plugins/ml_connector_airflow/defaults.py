"""Defaults of every DAG and task: retries, alerts, summary line, priority."""

from typing import Any

from ml_connector_airflow.alerts.callbacks import task_failed
from ml_connector_airflow.retries import POLICY, RETRIES, RETRY_DELAY
from ml_connector_airflow.summary import summarise, summarise_failure

DEFAULT_ARGS: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay": RETRY_DELAY,
    "retry_policy": POLICY,
    "on_failure_callback": [task_failed, summarise_failure],
    "on_retry_callback": summarise_failure,
    "post_execute": summarise,
    # If runs wait for workers, running ones finish first. By Airflow's own rule every run would
    # start before the first one ends.
    "weight_rule": "upstream",
}
"""For ``default_args`` of a DAG; Airflow copies it."""

DAG_DEFAULTS: dict[str, Any] = {
    "catchup": False,
    "max_active_runs": 1,
    "default_args": DEFAULT_ARGS,
    "tags": ["ml-connector"],
}
"""For every DAG. Runs of one DAG never overlap, and a missed day is not caught up: each run reads
everything that changed since the last one."""
