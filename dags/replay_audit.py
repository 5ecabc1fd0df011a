"""Evaluate the records behind audit rows again, by hand."""

import pendulum
from airflow.sdk import DAG, TriggerRule

from ml_connector_airflow import forms
from ml_connector_airflow.dag_docs import doc
from ml_connector_airflow.defaults import DAG_DEFAULTS
from ml_connector_airflow.retries import task
from ml_connector_airflow.tasks import replay as replay_tasks

with DAG(
    dag_id="replay_audit",
    dag_display_name="Replay audit rows",
    description="Evaluate the records behind audit rows again, with today's data",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params=forms.replay_audit(),
    render_template_as_native_obj=True,
    doc_md=doc("replay_audit"),
    **DAG_DEFAULTS,
):

    @task
    def choose(params: dict) -> list[dict]:
        """Select the rows and group them by sync."""
        return replay_tasks.choose(params)

    @task(pool="mailchimp_api", map_index_template="{{ task.op_kwargs['sync'] }}")
    def replay(sync: str, ids: list[int]) -> dict:
        """Read the records behind one sync's rows, decide, and write what is left to write."""
        return replay_tasks.replay(sync, ids)

    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def seal() -> dict:
        """Seal the audit."""
        return replay_tasks.seal()

    replay.expand_kwargs(choose()) >> seal()
