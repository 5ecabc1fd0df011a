"""Access and refresh tokens of every QuickBooks connection, kept alive whether or not syncs run."""

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, TriggerRule, task

from ml_connector.settings import quickbooks_connections
from ml_connector_airflow import alerting, token_steps
from ml_connector_airflow.defaults import DEFAULT_ARGS

with DAG(
    dag_id="refresh_quickbooks_tokens",
    description="Renew QuickBooks' tokens before they end",
    schedule=timedelta(minutes=50),  # an access token lives an hour
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["ml-connector"],
    doc_md=__doc__,
):

    @task(pool="quickbooks_api", map_index_template="{{ task.op_kwargs['conn_id'] }}")
    def refresh(conn_id: str) -> dict:
        """Renew one connection's tokens; warn when its refresh token is about to end."""
        return token_steps.refresh_token(conn_id)

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def report(refreshed: list) -> list:
        """Say what was refreshed and when each refresh token ends."""
        return token_steps.report(list(refreshed))

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def watch() -> dict:
        """Look for syncs that are silent and for events that were given up."""
        return alerting.watch()

    report(refresh.expand(conn_id=quickbooks_connections())) >> watch()
