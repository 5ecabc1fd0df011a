"""Undo a run, by hand: write back the state before it."""

import pendulum
from airflow.sdk import DAG, TriggerRule

from ml_connector_airflow import forms
from ml_connector_airflow.dag_docs import doc
from ml_connector_airflow.defaults import DAG_DEFAULTS
from ml_connector_airflow.operators.plan_approval import PlanApproval
from ml_connector_airflow.retries import task
from ml_connector_airflow.tasks import undo as undo_tasks

with DAG(
    dag_id="undo_run",
    dag_display_name="Undo a run",
    description="Write back what the contacts of a run showed before it",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    params=forms.undo_run(),
    render_template_as_native_obj=True,
    doc_md=doc("undo_run"),
    **DAG_DEFAULTS,
):

    @task(pool="mailchimp_api")
    def plan(params: dict) -> str:
        """Compare the audience with what the run left. Write nothing; return the sync's name."""
        return undo_tasks.plan(params)

    @task(pool="mailchimp_api")
    def write(sync: str) -> dict:
        """Write back, archive and restore."""
        return undo_tasks.write(sync)

    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def report(sync: str) -> dict:
        """Sum up the undo and seal the audit."""
        return undo_tasks.report(sync)

    planned = plan()
    approval = PlanApproval(
        task_id="approval", sync=planned, rejected="what the run wrote stays unchanged"
    )
    approval >> write(planned) >> report(planned)
