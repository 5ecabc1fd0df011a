"""A plan larger than the guard allows, in a real Airflow."""

import psycopg
import pytest
from playwright.sync_api import expect

from ml_connector.console import words
from tests.e2e.airflow import ENDED, airflow_database, trail, wait_for
from tests.e2e.live.browser import browsing, console_in

PATIENCE = 30_000  # milliseconds


@pytest.fixture
def quiet(airflow):
    """No webhooks, which would carry edits over before a run does; all customers active again."""
    airflow.end_webhooks()
    active = airflow.active_customers()
    yield
    airflow.edit_many(active, Active=True)
    assert airflow.finished(airflow.trigger()) == "success"
    airflow.begin_webhooks()


def many_leave(airflow, name: str) -> None:
    """More customers are made inactive than the guard lets go."""
    for number in range(8):
        airflow.add_customer(f"{name} {number}", f"{name}{number}@guarded-firm.com")
    assert airflow.finished(airflow.trigger()) == "success"
    airflow.edit_many(airflow.active_customers()[:30], Active=False)
    airflow.forget_journal()


def answered(airflow, run_id) -> list[tuple[str, str]]:
    choices = [row for row in trail(airflow, run_id) if row["action"] == "large_plan"]
    return [(row["outcome"], row["actor"]) for row in choices]


def left_alone(airflow, run_id) -> str:
    """How the run ends as if 20 hours were over: the wait's end, as Airflow keeps it, is now past.

    As often as it asks, like an answer (see ``decide``).
    """

    def ended() -> str | None:
        with psycopg.connect(airflow_database(airflow)) as connection:
            connection.execute(
                "UPDATE task_instance SET trigger_timeout = now() - interval '1 s'"
                " WHERE run_id = %s AND task_id = 'approval' AND state = 'awaiting_input'",
                [run_id],
            )
        state = airflow.run(run_id)["state"]
        return state if state in ENDED else None

    return wait_for(ended)


def test_a_plan_larger_than_the_guard_waits_for_a_person(airflow, quiet):
    """Rejected, the run ends green with nothing written; approved, exactly that plan is written."""
    many_leave(airflow, "Guarded")

    run_id = airflow.trigger()
    question = wait_for(lambda: airflow.question(run_id))
    assert "contacts would be archived, 25 are allowed" in question["subject"]
    assert f"| {words.KIND['archive']} | {words.reason('inactive')} |" in question["body"]
    assert "@" not in question["body"]
    airflow.answer_from_old_page(run_id)
    asked = wait_for(lambda: airflow.question(run_id))
    assert (asked["body"], asked["response_received"]) == (question["body"], False)
    assert airflow.decide(run_id, "Reject") == "success"
    assert airflow.writes() == []
    assert answered(airflow, run_id) == [("rejected", "admin")]

    run_id = airflow.trigger()
    wait_for(lambda: airflow.question(run_id))
    assert airflow.decide(run_id, "Approve") == "success"
    archived = [call for call in airflow.writes() if call["method"] == "DELETE"]
    assert len(archived) > 25
    assert answered(airflow, run_id) == [("approved", "admin")]


def test_a_plan_is_approved_and_undone_on_its_page_in_the_console(airflow, quiet):
    many_leave(airflow, "Reviewed")
    run_id = airflow.trigger()
    wait_for(lambda: airflow.question(run_id))
    with browsing(airflow) as opened:
        frame = console_in(opened.page(), airflow)
        frame.get_by_role("link", name="Review").click()
        frame.get_by_role("button", name="Approve").click()
        frame.get_by_role("dialog").get_by_role("button", name="Approve").click()
        expect(frame.locator("#answered")).to_contain_text("Approval sent", timeout=PATIENCE)
        assert airflow.finished(run_id) == "success"
        assert answered(airflow, run_id) == [("approved", "admin")]
        archived = [call for call in airflow.writes() if call["method"] == "DELETE"]
        assert len(archived) > 25

        frame.locator("p.crumbs a").click()
        frame.locator("td.n a").first.click()
        frame.get_by_role("button", name="Undo this run").click()
        frame.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        expect(frame.locator("#undone")).to_be_empty()
        frame.get_by_role("button", name="Preview the undo").click()
        expect(frame.locator("#undone")).to_contain_text("has started", timeout=PATIENCE)
        assert opened.trouble == []


def test_a_plan_that_nobody_answers_ends_green_with_nothing_written(airflow, quiet):
    many_leave(airflow, "Unanswered")
    run_id = airflow.trigger()
    wait_for(lambda: airflow.question(run_id))
    assert left_alone(airflow, run_id) == "success"
    assert airflow.writes() == []
    assert [outcome for outcome, _ in answered(airflow, run_id)] == ["unanswered"]
