"""The DAG of webhooks, as Airflow loads it."""

import pytest

DAG = "process_webhooks"


@pytest.fixture
def dag(bag):
    return bag.dags[DAG]


def test_it_runs_all_the_time_and_one_run_at_a_time(dag):
    assert type(dag.timetable).__name__ == "ContinuousTimetable"
    assert (dag.max_active_runs, dag.catchup) == (1, False)


def test_the_sensor_waits_in_the_triggerer_from_the_start_and_carries_nothing(dag):
    wait = dag.get_task("wait")
    assert wait.start_from_trigger is True
    assert wait.start_trigger_args.trigger_kwargs == {}
    assert dag.get_task("process").upstream_task_ids == {"wait"}


def test_a_sensor_that_was_failed_by_mistake_is_back_within_seconds(dag):
    wait = dag.get_task("wait")
    assert wait.retries > 0
    assert wait.retry_delay.total_seconds() <= 10
