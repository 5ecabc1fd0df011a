"""Runs that people start in the console, in a real Airflow and a real browser."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect

from ml_connector.console.access import PREFIX
from tests.e2e.airflow import DAG, ENDED, Airflow, refuse_fakes, trail_of, wait_for
from tests.e2e.live.browser import browsing, console_in
from tests.e2e.live.test_console_access import asked
from tests.e2e.live.test_guard import answered, many_leave

PATIENCE = 240_000  # milliseconds: a run of a busy machine


@pytest.fixture
def still(airflow):
    """No webhooks, which would start work of their own; all customers active again."""
    airflow.end_webhooks()
    active = airflow.active_customers()
    yield
    airflow.edit_many(active, Active=True)
    assert airflow.finished(airflow.trigger()) == "success"
    airflow.begin_webhooks()


def runs(airflow: Airflow) -> dict[str, str]:
    """The states of the latest runs by id."""
    path = f"/api/v2/dags/{DAG}/dagRuns?order_by=-id&limit=50"
    return {run["dag_run_id"]: run["state"] for run in airflow.call("GET", path)["dag_runs"]}


def test_a_double_click_starts_one_run_and_a_paused_dag_says_so(airflow, still):
    before = runs(airflow)

    def press(_: int) -> int:
        return asked(airflow, "user", "POST", f"{PREFIX}/main/run?preview=1").status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(press, range(4))) == [200, 409, 409, 409]
    (run_id,) = runs(airflow).keys() - before.keys()
    assert airflow.finished(run_id) == "success"
    airflow.call("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": True})
    try:
        refused = asked(airflow, "user", "POST", f"{PREFIX}/main/run")
        assert refused.status_code == 409
        assert "is paused. Switch it on in Airflow, then try again." in refused.text
    finally:
        airflow.call("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": False})


def test_a_sync_is_previewed_started_followed_and_approved_in_the_console(airflow, still):
    many_leave(airflow, "Walked")
    before = runs(airflow)
    with browsing(airflow) as opened:
        frame = console_in(opened.page(), airflow)
        frame.get_by_role("button", name="Preview").click()
        expect(frame.locator("#run")).to_contain_text("Preview under way", timeout=PATIENCE)
        expect(frame.locator("h1")).to_contain_text("Preview, plan", timeout=PATIENCE)
        assert airflow.writes() == []

        frame.get_by_role("link", name="Overview").click()
        frame.get_by_role("button", name="Sync now").click()
        expect(frame.locator("#run")).to_contain_text("Waits for approval", timeout=PATIENCE)
        frame.locator("#run").get_by_role("link", name=re.compile(r"^plan \d+$")).click()
        frame.get_by_role("button", name="Approve").click()
        frame.get_by_role("dialog").get_by_role("button", name="Approve").click()
        expect(frame.locator(".title .badges")).to_contain_text("finished", timeout=PATIENCE)
        assert opened.trouble == []
    started = runs(airflow).keys() - before.keys()
    assert len(started) == 2
    assert [answer for run in started for answer in answered(airflow, run)] == [
        ("approved", "admin")
    ]
    assert [call for call in airflow.writes() if call["method"] == "DELETE"]


def test_failed_customers_are_retried_from_the_list(airflow, still):
    airflow.add_customer("Retried One", "retried@example.com")  # refused as fake, for now
    assert airflow.finished(airflow.trigger()) == "success"
    refuse_fakes(airflow, refuse=False)
    with browsing(airflow) as opened:
        frame = console_in(opened.page(), airflow)
        frame.get_by_role("link", name="Customers", exact=True).click()
        frame.get_by_role("link", name="Retry failed ones").click()
        frame.get_by_role("button", name=re.compile(r"^Retry \d+ customers?$")).click()
        expect(frame.get_by_role("status")).to_contain_text("due again", timeout=PATIENCE)
        assert opened.trouble == []
    wait_for(lambda: [row for row in trail_of(airflow, "Retried") if row["outcome"] == "applied"])
    wait_for(lambda: all(state in ENDED for state in runs(airflow).values()))
    refuse_fakes(airflow, refuse=True)
