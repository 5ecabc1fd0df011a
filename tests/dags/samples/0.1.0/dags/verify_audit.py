"""The audit compared with its seals, daily: whoever changed a row behind our back is told of."""

import pendulum
from airflow.sdk import DAG, task

from ml_connector_airflow import audit_commands
from ml_connector_airflow.defaults import DEFAULT_ARGS

with DAG(
    dag_id="verify_audit",
    description="The audit compared with its seals",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["ml-connector"],
    doc_md=__doc__,
):

    @task
    def verify() -> dict:
        """Compare every row of the audit with its seal."""
        return audit_commands.verify_daily()

    verify()
