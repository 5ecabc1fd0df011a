"""Rows of the audit evaluated again against the state of today, by hand."""

import pendulum
from airflow.sdk import DAG, Param, TriggerRule, task

from ml_connector.settings import load_syncs
from ml_connector_airflow import replay_steps
from ml_connector_airflow.defaults import DEFAULT_ARGS

PARAMS = {
    "ids": Param([], type="array", items={"type": "integer"}, description="Ids of audit rows."),
    "failed": Param(False, type="boolean", description="All failed rows that fit what follows."),
    "since": Param(
        None, type=["null", "string"], format="date-time", description="Written then or later."
    ),
    "until": Param(
        None, type=["null", "string"], format="date-time", description="Written before."
    ),
    "sync": Param(
        None, type=["null", "string"], enum=[None, *load_syncs()], description="Only this sync."
    ),
    "reason": Param(
        None, type=["null", "string"], description="Only this reason, as the audit says it."
    ),
    "dry_run": Param(False, type="boolean", description="Count the rows in the log, no more."),
}

with DAG(
    dag_id="replay_audit",
    description="Audit rows evaluated again against the state of today",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    render_template_as_native_obj=True,
    default_args=DEFAULT_ARGS,
    tags=["ml-connector"],
    doc_md=__doc__,
):

    @task
    def choose(params: dict) -> list[dict]:
        """Choose the rows, by sync."""
        return replay_steps.choose(params)

    @task(pool="mailchimp_api", map_index_template="{{ task.op_kwargs['sync'] }}")
    def replay(sync: str, ids: list[int]) -> dict:
        """Read the records behind one sync's rows, decide, and write what is left to write."""
        return replay_steps.replay(sync, ids)

    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def seal() -> dict:
        """Seal the audit."""
        return replay_steps.seal()

    replay.expand_kwargs(choose()) >> seal()
