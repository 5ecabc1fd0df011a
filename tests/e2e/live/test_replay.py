"""DAG `replay_audit` in a real Airflow: started as its form does, cleared, and started wrongly."""

import time
from datetime import UTC, datetime

import pytest

from tests.e2e.airflow import Airflow, refuse_fakes, trail, trail_of

REPLAY = "replay_audit"


@pytest.fixture
def refused(airflow):
    """The failed row of a customer whom Mailchimp refused as fake and would take by now."""
    name = f"Again{time.time_ns()}"
    airflow.end_webhooks()
    airflow.add_customer(name, f"{name}@example.com")
    assert airflow.finished(airflow.trigger()) == "success"
    (row,) = [row for row in trail_of(airflow, name) if row["outcome"] == "failed"]
    refuse_fakes(airflow, refuse=False)
    airflow.forget_journal()
    yield row
    refuse_fakes(airflow, refuse=True)
    airflow.begin_webhooks()


def replayed(airflow: Airflow, **params) -> str:
    run_id = airflow.trigger(dag_id=REPLAY, **params)
    assert airflow.finished(run_id, REPLAY) == "success"
    return run_id


def applied(airflow: Airflow, row: dict) -> list[dict]:
    rows = [each for each in trail_of(airflow, "Again") if each["outcome"] == "applied"]
    return [each for each in rows if each["customer_id"] == row["customer_id"]]


def test_the_form_says_what_each_field_is_for(airflow):
    params = airflow.call("GET", f"/api/v2/dags/{REPLAY}/details")["params"]
    assert set(params) == {"ids", "failed", "since", "until", "sync", "reason", "dry_run"}
    assert all(param["description"] for param in params.values())


def test_a_start_that_chooses_nothing_fails_at_once_and_writes_nothing(airflow):
    airflow.forget_journal()
    run_id = airflow.trigger(dag_id=REPLAY)
    assert airflow.finished(run_id, REPLAY) == "failed"
    (chosen,) = [task for task in airflow.tasks(run_id, REPLAY) if task["task_id"] == "choose"]
    assert (chosen["state"], chosen["try_number"]) == ("failed", 1)
    assert airflow.writes() == []


def test_rows_chosen_by_id_are_written_once_however_often_the_task_is_cleared(airflow, refused):
    run_id = replayed(airflow, ids=[refused["id"]])
    (row,) = applied(airflow, refused)
    assert (row["origin"], row["run_id"]) == (f"replay:{refused['id']}", run_id)
    assert row["actor"] == "admin"
    written, members = airflow.writes(), airflow.members()
    assert len(written) == 1

    airflow.clear(run_id, ["replay"], REPLAY)
    assert airflow.finished(run_id, REPLAY) == "success"
    tries = [t["try_number"] for t in airflow.tasks(run_id, REPLAY) if t["task_id"] == "replay"]
    assert tries == [2]
    assert airflow.writes() == written
    assert airflow.members() == members
    assert applied(airflow, refused) == [row]


def test_all_failed_rows_of_a_time_a_sync_and_a_reason_are_replayed(airflow, refused):
    run_id = replayed(
        airflow,
        failed=True,
        since=refused["at"],
        until=datetime.now(UTC).isoformat(),
        sync="main",
        reason=refused["reason"],
    )
    (row,) = applied(airflow, refused)
    assert row["origin"] == f"replay:{refused['id']}"
    assert row["after"]["status"] == "subscribed"
    assert {each["origin"] for each in trail(airflow, run_id)} == {row["origin"]}
