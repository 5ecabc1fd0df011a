"""Sync QuickBooks customers to a Mailchimp audience, daily: one DAG for each configured sync."""

import pendulum
from airflow.sdk import DAG, TriggerRule

from ml_connector.settings import Sync
from ml_connector_airflow import forms
from ml_connector_airflow.compat import CronDataIntervalTimetable
from ml_connector_airflow.configured import syncs_to_load
from ml_connector_airflow.dag_docs import doc
from ml_connector_airflow.defaults import DAG_DEFAULTS
from ml_connector_airflow.lineage import assets
from ml_connector_airflow.operators.plan_approval import PlanApproval
from ml_connector_airflow.retries import task
from ml_connector_airflow.tasks import sync as sync_tasks


def sync_dag(sync: Sync) -> DAG:
    """Return the daily DAG of one sync."""
    with DAG(
        dag_id=f"sync_customers__{sync.name}",
        dag_display_name=f"Sync customers: {sync.name}",
        description=f"QuickBooks customers to Mailchimp audience {sync.audience_id}",
        schedule=CronDataIntervalTimetable(sync.schedule, timezone=sync.timezone),
        start_date=pendulum.datetime(2026, 1, 1, tz=sync.timezone),
        params=forms.SYNC_CUSTOMERS,
        render_template_as_native_obj=True,
        doc_md=doc("sync_customers"),
        **DAG_DEFAULTS,
    ) as dag:

        @task(pool=sync.quickbooks_pool)
        def fetch_customers(params: dict) -> dict:
            """Read the customers that changed in QuickBooks."""
            return sync_tasks.fetch_customers(sync.name, params)

        @task(pool=sync.mailchimp_pool)
        def plan(params: dict) -> list[int]:
            """Read the members that changed in the audience, then decide. Write nothing."""
            return sync_tasks.make_plan(sync.name, params)

        approval = PlanApproval(task_id="approval", sync=sync.name)

        @task(pool=sync.mailchimp_pool, map_index_template="shard {{ task.op_kwargs['shard'] }}")
        def push(shard: int) -> dict:
            """Create, update and restore contacts."""
            return sync_tasks.push_shard(sync.name, shard)

        @task(pool=sync.mailchimp_pool, trigger_rule=TriggerRule.ALL_DONE)
        def archive() -> dict:
            """Archive orphaned contacts."""
            return sync_tasks.archive_contacts(sync.name, sync_tasks.approved())

        @task(pool=sync.mailchimp_pool, trigger_rule=TriggerRule.ALL_DONE)
        def fetch_activity(params: dict) -> list[dict]:
            """Read campaign reports and queue subscriber activity for QuickBooks."""
            return sync_tasks.fetch_activity(sync.name, params, sync_tasks.approved())

        @task(pool=sync.quickbooks_pool, map_index_template="shard {{ task.op_kwargs['shard'] }}")
        def write_activity(shard: int, shards: int) -> dict:
            """Show subscriber activity on the QuickBooks customers."""
            return sync_tasks.write_activity(sync.name, shard, shards)

        @task(**assets(sync), trigger_rule=TriggerRule.ALL_DONE)
        def report() -> dict:
            """Sum up the run."""
            return sync_tasks.make_report(sync.name)

        activity = fetch_activity()
        fetch_customers() >> plan() >> approval
        push.expand(shard=approval.output) >> archive() >> activity
        write_activity.expand_kwargs(activity) >> report()
    return dag


for _sync in syncs_to_load():
    globals()[f"sync_customers__{_sync.name}"] = sync_dag(_sync)
