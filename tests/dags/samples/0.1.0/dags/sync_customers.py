"""Customers of QuickBooks into the Mailchimp audience, daily: one DAG for every configured sync."""

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param, TriggerRule, task

from ml_connector.settings import Sync
from ml_connector_airflow import steps
from ml_connector_airflow.configured import syncs_to_load
from ml_connector_airflow.defaults import DEFAULT_ARGS
from ml_connector_airflow.operators.plan_approval import PlanApproval

PARAMS = {
    "full_sync": Param(False, type="boolean", description="Read everything, not just changes."),
    "approved": Param(
        False, type="boolean", description="Go on even if the plan is larger than the guard allows."
    ),
    "preview": Param(False, type="boolean", description="Store the plan; write nothing."),
    "customer_ids": Param(
        [], type="array", items={"type": "string"}, description="Only these QuickBooks ids."
    ),
}


def sync_dag(sync: Sync) -> DAG:
    """Return the daily DAG of one sync."""
    company = Asset(f"quickbooks://{sync.quickbooks_conn_id}")
    audience = Asset(f"mailchimp://{sync.audience_id}")
    with DAG(
        dag_id=f"sync_customers__{sync.name}",
        description=f"QuickBooks customers to Mailchimp audience {sync.audience_id}",
        schedule=CronDataIntervalTimetable(sync.schedule, timezone=sync.timezone),
        start_date=pendulum.datetime(2026, 1, 1, tz=sync.timezone),
        catchup=False,
        max_active_runs=1,
        params=PARAMS,
        render_template_as_native_obj=True,
        default_args=DEFAULT_ARGS,
        tags=["ml-connector"],
        doc_md=__doc__,
    ) as dag:

        @task(pool=sync.quickbooks_pool)
        def fetch_customers(params: dict) -> dict:
            """Stage what QuickBooks has."""
            return steps.fetch_customers(
                sync.name, full_sync=params["full_sync"], customer_ids=params["customer_ids"]
            )

        @task(pool=sync.mailchimp_pool)
        def fetch_members(params: dict) -> int:
            """Read what changed in the audience."""
            return steps.fetch_members(sync.name, full_sync=params["full_sync"])

        @task(pool=sync.mailchimp_pool)
        def plan(params: dict) -> list[int]:
            """Decide what has to change; nothing is written yet."""
            return steps.make_plan(
                sync.name, preview=params["preview"], customer_ids=params["customer_ids"]
            )

        # An answer given at once may be lost to the scheduler: soon asked again.
        approval = PlanApproval(
            task_id="approval", sync=sync.name, retry_delay=timedelta(seconds=10)
        )

        @task(pool=sync.mailchimp_pool, map_index_template="shard {{ task.op_kwargs['shard'] }}")
        def push(shard: int) -> dict:
            """Create, update and restore contacts."""
            return steps.push_shard(sync.name, shard)

        @task(pool=sync.mailchimp_pool, trigger_rule=TriggerRule.NONE_FAILED)
        def archive() -> dict:
            """Archive contacts that no customer owns any more."""
            return steps.archive_contacts(sync.name)

        @task(pool=sync.mailchimp_pool, trigger_rule=TriggerRule.NONE_FAILED)
        def fetch_activity(params: dict) -> list[dict]:
            """Read what campaigns report, and queue what QuickBooks is to show."""
            return steps.fetch_activity(
                sync.name, preview=params["preview"], full_sync=params["full_sync"]
            )

        @task(pool=sync.quickbooks_pool, map_index_template="shard {{ task.op_kwargs['shard'] }}")
        def write_activity(shard: int, shards: int) -> dict:
            """Show on the QuickBooks customers what members did."""
            return steps.write_activity(sync.name, shard, shards)

        @task(inlets=[company], outlets=[audience], trigger_rule=TriggerRule.NONE_FAILED)
        def report() -> dict:
            """Sum up the run."""
            return steps.make_report(sync.name)

        activity = fetch_activity()
        [fetch_customers(), fetch_members()] >> plan() >> approval
        push.expand(shard=approval.output) >> archive() >> activity
        write_activity.expand_kwargs(activity) >> report()
    return dag


for _sync in syncs_to_load():
    globals()[f"sync_customers__{_sync.name}"] = sync_dag(_sync)
