"""Defaults of every DAG and task: retries, alerts, summary line, priority."""

from datetime import timedelta
from typing import Any

from ml_connector_airflow.alerts.callbacks import task_failed
from ml_connector_airflow.compat import policy_argument
from ml_connector_airflow.retries import POLICY, RETRIES, RETRY_DELAY
from ml_connector_airflow.summary import summarise, summarise_failure

EXECUTION_TIMEOUT = timedelta(hours=12)
"""A task that works for longer is ended and retried. It resumes from what is stored. The longest
known, 40,000 single calls under Mailchimp's older contract, takes two hours."""

SHORT_TIMEOUT = timedelta(hours=1)
"""For tasks that end after minutes by themselves."""

DEFAULT_ARGS: dict[str, Any] = {
    "execution_timeout": EXECUTION_TIMEOUT,
    "retries": RETRIES,
    "retry_delay": RETRY_DELAY,
    **policy_argument(POLICY),
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
