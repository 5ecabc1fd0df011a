"""What every task of ours has: its retries, the alert when it fails for good, its summary line."""

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
    # Where runs wait for workers, those that are under way come to their end first. Airflow's own
    # rule lets every run begin before the first one ends.
    "weight_rule": "upstream",
}
"""For ``default_args`` of a DAG; Airflow copies it."""
