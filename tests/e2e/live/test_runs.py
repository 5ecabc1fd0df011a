"""The daily DAG in a real Airflow: forms, backfill, cleared tasks, a killed worker."""

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import psutil
import pytest
import requests

from tests.e2e.airflow import DAG, Airflow, trail, wait_for

TOKENS = "quickbooks_token__quickbooks_default"


def test_the_connection_form_shows_our_own_labelled_fields(airflow):
    forms = {
        form["connection_type"]: form for form in airflow.call("GET", "/ui/connections/hook_meta")
    }
    quickbooks = forms["quickbooks"]
    assert quickbooks["standard_fields"]["login"]["title"] == "Client ID"
    assert quickbooks["extra_fields"]["realm_id"]["schema"]["title"] == "Realm ID"
    assert forms["mailchimp"]["standard_fields"]["password"]["title"] == "API key or OAuth token"


@pytest.mark.parametrize("conn_id", ["quickbooks_default", "mailchimp_default"])
def test_the_test_button_says_that_a_right_connection_works(airflow, conn_id):
    connection = airflow.call("GET", f"/api/v2/connections/{conn_id}")
    body = {
        name: connection[name]
        for name in ("connection_id", "conn_type", "host", "login", "schema", "port", "extra")
    }
    answer = airflow.call("POST", "/api/v2/connections/test", body)
    assert answer["status"] is True, answer["message"]


@pytest.mark.parametrize(
    ("conn_type", "extra", "fix"),
    [
        ("mailchimp", {}, "check the connection's password"),
        ("quickbooks", {"realm_id": "1"}, "client"),
    ],
)
def test_the_test_button_says_what_to_change_in_a_wrong_connection(airflow, conn_type, extra, fix):
    ports = airflow.machine.ports
    port = ports["MAILCHIMP_PORT" if conn_type == "mailchimp" else "QUICKBOOKS_PORT"]
    host = f"http://127.0.0.1:{port}"
    if conn_type == "quickbooks":
        extra = {**extra, "token_url": f"{host}/oauth2/v1/tokens/bearer"}
    answer = airflow.call(
        "POST",
        "/api/v2/connections/test",
        {
            "connection_id": "wrong",
            "conn_type": conn_type,
            "host": f"{host}/3.0" if conn_type == "mailchimp" else host,
            "login": "someone",
            "password": "wrong-us99",
            "extra": json.dumps(extra),
        },
    )
    assert answer["status"] is False
    assert fix in answer["message"]
    assert "wrong-us99" not in answer["message"]


def test_an_admin_sees_the_tokens_masked(airflow):
    shown = airflow.call("GET", f"/api/v2/variables/{TOKENS}")
    value = json.loads(shown["value"])
    assert (value["access_token"], value["refresh_token"]) == ("***", "***")
    assert shown["is_encrypted"] is True


def test_a_viewer_sees_no_token(airflow):
    answer = requests.get(
        f"{airflow.url}/api/v2/variables/{TOKENS}",
        headers={"Authorization": f"Bearer {airflow.token_of('viewer')}"},
        timeout=30,
    )
    if answer.status_code != 403:
        value = json.loads(answer.json()["value"])
        assert (value["access_token"], value["refresh_token"]) == ("***", "***")


def test_the_token_dag_renews_and_tells_when_the_refresh_token_ends(airflow):
    before = requests.get(f"{airflow.quickbooks}/journal?kind=token", timeout=30).json()["calls"]
    run_id = airflow.trigger(dag_id="refresh_quickbooks_tokens")
    assert airflow.finished(run_id, dag_id="refresh_quickbooks_tokens") == "success"
    after = requests.get(f"{airflow.quickbooks}/journal?kind=token", timeout=30).json()["calls"]
    assert len(after) > len(before)
    path = f"/api/v2/dags/refresh_quickbooks_tokens/dagRuns/{quote(run_id, safe='')}"
    told = airflow.call("GET", f"{path}/taskInstances/report/xcomEntries/return_value")["value"]
    (connection,) = json.loads(told) if isinstance(told, str) else told
    assert connection["conn_id"] == "quickbooks_default"
    assert datetime.fromisoformat(connection["refresh_token_ends"]) > datetime.now(UTC)
    assert not {"access_token", "refresh_token"} & connection.keys()


def test_a_backfill_of_the_last_seven_days_writes_nothing(airflow):
    airflow.forget_journal()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    backfill = airflow.call(
        "POST",
        "/api/v2/backfills",
        {
            "dag_id": DAG,
            "from_date": (today - timedelta(days=8)).isoformat(),
            "to_date": (today - timedelta(days=1)).isoformat(),
            "reprocess_behavior": "completed",
            "max_active_runs": 1,
            "dag_run_conf": {},
            "run_backwards": False,
        },
    )
    wait_for(
        lambda: airflow.call("GET", f"/api/v2/backfills/{backfill['id']}")["completed_at"], 400
    )
    runs = airflow.call("GET", f"/api/v2/dags/{DAG}/dagRuns?limit=100")["dag_runs"]
    backfilled = [run["state"] for run in runs if run["run_type"] == "backfill"]
    assert len(backfilled) >= 7
    assert set(backfilled) == {"success"}
    assert airflow.writes() == []


@pytest.mark.parametrize("task_id", ["fetch_customers", "plan", "push", "archive", "report"])
def test_clearing_any_task_of_a_finished_run_writes_nothing(airflow, task_id):
    runs = airflow.call("GET", f"/api/v2/dags/{DAG}/dagRuns?limit=100&order_by=start_date")
    first = runs["dag_runs"][0]["dag_run_id"]
    airflow.forget_journal()
    airflow.clear(first, [task_id])
    assert airflow.finished(first) == "success"
    assert airflow.writes() == []


def test_a_worker_killed_in_the_middle_of_a_push_loses_and_doubles_nothing(airflow):
    """SIGKILL while the batch is on the wire, after Mailchimp applied it; then clear the task."""
    airflow.end_webhooks()  # they would carry the edits over before the run does
    airflow.edit(1, GivenName="Amy Lou")
    airflow.edit(2, GivenName="William")
    airflow.forget_journal()
    rule = {
        "match": {"method": "POST", "path": "/3.0/lists/[^/]+$"},
        "times": 1,
        "action": {"kind": "delay", "seconds": 60},
    }
    requests.post(f"{airflow.mailchimp}/faults", json=rule, timeout=30).raise_for_status()
    run_id = airflow.trigger()
    victim = wait_for(lambda: running_push(airflow, run_id))
    wait_for(lambda: airflow.member("Surf@Intuit.com")["merge_fields"]["FNAME"] == "William")
    os.kill(victim, signal.SIGKILL)
    wait_for(
        lambda: [
            task
            for task in airflow.tasks(run_id)
            if task["task_id"] == "push" and task["state"] in ("up_for_retry", "failed")
        ]
    )
    requests.delete(f"{airflow.mailchimp}/faults", timeout=30)
    airflow.clear(run_id, ["push"])
    assert airflow.finished(run_id) == "success"
    airflow.begin_webhooks()
    assert airflow.member("Birds@Intuit.com")["merge_fields"]["FNAME"] == "Amy Lou"
    assert airflow.member("Surf@Intuit.com")["merge_fields"]["FNAME"] == "William"
    rows = trail(airflow, run_id)
    updates = [(row["outcome"], row["customer_id"]) for row in rows if row["action"] == "update"]
    heard_of = [("applied", "1"), ("applied", "2")]
    assert sorted(updates) == [*heard_of, ("unheard", "1"), ("unheard", "2")]


def running_push(airflow: Airflow, run_id: str) -> int | None:
    """The id of the process that runs the run's push task (Airflow names it by the task's id)."""
    titles = {
        f"airflow worker -- {task['id']}"
        for task in airflow.tasks(run_id)
        if task["task_id"] == "push" and task["state"] == "running"
    }
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or ()).strip() in titles:
            return process.pid
    return None
