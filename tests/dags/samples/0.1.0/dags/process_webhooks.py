"""What webhooks tell of, worked off within seconds: one run for every batch of events."""

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, task

from ml_connector_airflow import webhook_steps
from ml_connector_airflow.defaults import DEFAULT_ARGS
from ml_connector_airflow.sensors.inbox import InboxSensor

with DAG(
    dag_id="process_webhooks",
    description="Webhooks of QuickBooks and Mailchimp, worked off as they come",
    schedule="@continuous",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "priority_weight": 1000},  # before any daily run's
    tags=["ml-connector"],
    doc_md=__doc__,
):

    @task(pool="webhooks")
    def process() -> dict:
        """Work off every event that is due, in every sync it concerns."""
        return webhook_steps.process_webhooks()

    # A triggerer that goes down may fail a sensor that has nothing wrong: soon tried again.
    wait = InboxSensor(task_id="wait", retry_delay=timedelta(seconds=10))
    wait >> process()
