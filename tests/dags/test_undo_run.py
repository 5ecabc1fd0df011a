"""The DAG that undoes a run, as Airflow loads it."""


def test_the_trigger_form_asks_for_the_run(bag):
    params = bag.dags["undo_run"].params
    assert params.dump() == {"run": None, "dry_run": False, "approved": False, "sync": None}
    assert params.get_param("sync").schema["enum"] == [None, "main"]


def test_an_undo_is_planned_approved_written_and_reported(bag):
    dag = bag.dags["undo_run"]
    order = {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
    assert order == {
        "plan": ["approval", "report", "write"],
        "approval": ["write"],
        "write": ["report"],
        "report": [],
    }
    assert dag.schedule is None
    assert {dag.get_task(name).pool for name in ("plan", "write")} == {"mailchimp_api"}


def test_the_approval_learns_the_sync_from_the_plan(bag):
    approval = bag.dags["undo_run"].get_task("approval")
    assert "sync" in approval.template_fields


def test_the_question_says_what_rejecting_an_undo_means(bag):
    approval = bag.dags["undo_run"].get_task("approval")
    assert approval.rejected == "what the run wrote stays unchanged"
