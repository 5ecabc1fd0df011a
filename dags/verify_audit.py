"""Compare every audit row with its seal, daily."""

import pendulum
from airflow.sdk import DAG

from ml_connector_airflow.dag_docs import doc
from ml_connector_airflow.defaults import DAG_DEFAULTS
from ml_connector_airflow.retries import task
from ml_connector_airflow.tasks import audit

with DAG(
    dag_id="verify_audit",
    dag_display_name="Verify the audit",
    description="Compare every audit row with its seal",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    doc_md=doc("verify_audit"),
    **DAG_DEFAULTS,
):

    @task
    def verify() -> dict:
        """Compare every audit row with its seal."""
        return audit.verify_daily()

    verify()
