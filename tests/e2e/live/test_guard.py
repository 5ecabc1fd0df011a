"""A plan larger than the guard allows, in a real Airflow."""

import pytest

from tests.e2e.airflow import trail, wait_for


@pytest.fixture
def quiet(airflow):
    """No webhooks, which would carry edits over before a run does; all customers active again."""
    airflow.end_webhooks()
    active = airflow.active_customers()
    yield
    airflow.edit_many(active, Active=True)
    assert airflow.finished(airflow.trigger()) == "success"
    airflow.begin_webhooks()


def test_a_plan_larger_than_the_guard_waits_for_a_person(airflow, quiet):
    """Rejected, the run ends green with nothing written; approved, exactly that plan is written."""
    for number in range(8):
        airflow.add_customer(f"Guarded {number}", f"guarded{number}@guarded-firm.com")
    assert airflow.finished(airflow.trigger()) == "success"
    airflow.edit_many(airflow.active_customers()[:30], Active=False)
    airflow.forget_journal()

    run_id = airflow.trigger()
    question = wait_for(lambda: airflow.question(run_id))
    assert "contacts would be archived, 25 are allowed" in question["subject"]
    assert "| archive | inactive |" in question["body"]
    assert "@" not in question["body"]
    assert airflow.decide(run_id, "Reject") == "success"
    assert airflow.writes() == []

    run_id = airflow.trigger()
    wait_for(lambda: airflow.question(run_id))
    assert airflow.decide(run_id, "Approve") == "success"
    archived = [call for call in airflow.writes() if call["method"] == "DELETE"]
    assert len(archived) > 25
    choices = [row for row in trail(airflow, run_id) if row["action"] == "large_plan"]
    assert [(row["outcome"], row["actor"]) for row in choices] == [("approved", "admin")]
