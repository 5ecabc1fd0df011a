"""Refresh the tokens of every QuickBooks connection, whether or not syncs run."""

import pendulum
from airflow.sdk import DAG, TriggerRule

from ml_connector_airflow.dag_docs import doc
from ml_connector_airflow.defaults import DAG_DEFAULTS, SHORT_TIMEOUT
from ml_connector_airflow.retries import task
from ml_connector_airflow.tasks import tokens, watches

NAMES = "{{ task.op_kwargs['conn_ids'] | join(', ') | truncate(120) }}"

with DAG(
    dag_id="refresh_quickbooks_tokens",
    dag_display_name="Refresh QuickBooks tokens",
    description="Refresh QuickBooks tokens before they expire",
    schedule=tokens.EVERY,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    doc_md=doc("refresh_quickbooks_tokens"),
    **DAG_DEFAULTS,
):

    @task(pool="quickbooks_api", map_index_template=NAMES, execution_timeout=SHORT_TIMEOUT)
    def refresh(conn_ids: list[str]) -> list[dict]:
        """Refresh connections whose turn it is. Alert before a refresh token ends."""
        return tokens.refresh_tokens(conn_ids)

    @task(trigger_rule=TriggerRule.ALL_DONE, execution_timeout=SHORT_TIMEOUT)
    def report(refreshed: list) -> list:
        """Return which refresh tokens end first."""
        return tokens.report(list(refreshed))

    @task(trigger_rule=TriggerRule.ALL_DONE, execution_timeout=SHORT_TIMEOUT)
    def watch() -> dict:
        """Alert on silent syncs, webhooks that do not arrive, and limits that are near."""
        return watches.watch()

    report(refresh.expand(conn_ids=tokens.connection_groups())) >> watch()
