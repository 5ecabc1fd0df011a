"""The DAG that replays audit rows, as Airflow loads it."""


def test_the_trigger_form_offers_ids_or_all_failed_ones_of_a_time_sync_and_reason(bag):
    params = bag.dags["replay_audit"].params
    assert params.dump() == {
        "ids": [],
        "failed": False,
        "since": None,
        "until": None,
        "sync": None,
        "reason": None,
        "dry_run": False,
    }
    assert params.get_param("sync").schema["enum"] == [None, "main"]
    assert all(params.get_param(name).description for name in params.dump())


def test_rows_are_chosen_replayed_by_sync_and_sealed(bag):
    dag = bag.dags["replay_audit"]
    order = {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
    assert order == {"choose": ["replay"], "replay": ["seal"], "seal": []}
    assert dag.schedule is None
    assert dag.get_task("replay").pool == "mailchimp_api"
