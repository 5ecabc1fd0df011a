"""The audit verified by its DAG, and the lines that end a task's log, in a live Airflow."""

from pathlib import Path

from tests.e2e.airflow import Airflow


def log_of(airflow: Airflow, dag_id: str, run_id: str, task_id: str) -> str:
    """The log of a task's last try."""
    folder = Path(airflow.machine.home) / "logs"
    found = sorted(folder.rglob(f"dag_id={dag_id}/run_id={run_id}/task_id={task_id}/**/*.log"))
    return found[-1].read_text(encoding="utf-8")


def test_the_audit_is_verified_by_a_dag_of_its_own_whose_log_ends_with_counts(airflow):
    run_id = airflow.trigger(dag_id="verify_audit")
    assert airflow.finished(run_id, dag_id="verify_audit") == "success"
    said = log_of(airflow, "verify_audit", run_id, "verify")
    assert said.index("audit_verified") < said.index("task_summary")
    assert '"sound":' in said


def test_the_log_of_a_task_that_failed_ends_with_the_kind_of_its_error(airflow):
    run_id = airflow.trigger(dag_id="replay_audit")  # nothing is chosen
    assert airflow.finished(run_id, dag_id="replay_audit") == "failed"
    said = log_of(airflow, "replay_audit", run_id, "choose")
    (summary,) = [line for line in said.splitlines() if "task_summary" in line]
    assert '"error":"SettingsError"' in summary.replace(" ", "")
    # The alert is ended by a run that ends well.
    fixed = airflow.trigger(dag_id="replay_audit", failed=True, dry_run=True)
    assert airflow.finished(fixed, dag_id="replay_audit") == "success"
