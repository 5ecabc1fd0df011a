"""Process the webhook inbox within seconds: one run for each batch of events."""

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from ml_connector_airflow.dag_docs import doc
from ml_connector_airflow.defaults import DAG_DEFAULTS, DEFAULT_ARGS, SHORT_TIMEOUT
from ml_connector_airflow.retries import task
from ml_connector_airflow.sensors.inbox import InboxSensor
from ml_connector_airflow.tasks import webhooks

FIRST = {"default_args": {**DEFAULT_ARGS, "priority_weight": 1000}}  # before any daily run's

with DAG(
    dag_id="process_webhooks",
    dag_display_name="Process webhooks",
    description="Process webhook events of QuickBooks and Mailchimp as they arrive",
    schedule="@continuous",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    doc_md=doc("process_webhooks"),
    **{**DAG_DEFAULTS, **FIRST},
):

    @task(pool="webhooks", execution_timeout=SHORT_TIMEOUT)
    def process() -> dict:
        """Process every event that is due, in every sync it concerns."""
        return webhooks.process_webhooks()

    # A triggerer that goes down may fail a sensor that has nothing wrong: soon tried again.
    # It waits for as long as no event comes, in the triggerer and not on a worker.
    wait = InboxSensor(
        task_id="wait", retry_delay=timedelta(seconds=10), execution_timeout=timedelta(days=366)
    )
    wait >> process()
