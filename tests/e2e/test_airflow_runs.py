"""The daily DAG in a real Airflow: forms, backfill, cleared tasks, a killed worker."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import jwt
import psutil
import pytest
import requests

from tests.e2e.machine import Machine

DAG = "sync_customers__main"
TOKENS = "quickbooks_token__quickbooks_default"
PATIENCE = 180  # seconds


class Airflow:
    """The REST API of a running machine, as its admin, and its sandbox's control API."""

    def __init__(self, machine: Machine) -> None:
        self.url = f"http://127.0.0.1:{machine.ports['AIRFLOW_PORT']}"
        self.quickbooks = f"http://127.0.0.1:{machine.ports['QUICKBOOKS_PORT']}/_sandbox"
        self.mailchimp = f"http://127.0.0.1:{machine.ports['MAILCHIMP_PORT']}/_sandbox"
        self.machine = machine
        self.http = requests.Session()
        passwords = json.loads((machine.home / "airflow_passwords.json").read_text())
        token = self.http.post(
            f"{self.url}/auth/token",
            json={"username": "admin", "password": passwords["admin"]},
            timeout=30,
        )
        self.http.headers["Authorization"] = f"Bearer {token.json()['access_token']}"

    def call(self, method: str, path: str, body: object = None):
        answer = self.http.request(method, f"{self.url}{path}", json=body, timeout=60)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def token_of(self, role: str) -> str:
        """A token as Airflow would give it to a user of another role."""
        secret = (self.machine.home / "jwt_secret").read_text().strip()
        mine = self.http.headers["Authorization"].removeprefix("Bearer ")
        header = jwt.get_unverified_header(mine)
        claims = jwt.decode(mine, options={"verify_signature": False})
        claims |= {"sub": role, "role": role, "jti": str(uuid.uuid4())}
        return jwt.encode(claims, secret, algorithm=header["alg"], headers=header)

    def trigger(self, *, dag_id: str = DAG, **conf) -> str:
        body = {"logical_date": None, "conf": conf}
        return self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"]

    def run(self, run_id: str, dag_id: str = DAG) -> dict:
        return self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")

    def tasks(self, run_id: str) -> list[dict]:
        path = f"/api/v2/dags/{DAG}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        return self.call("GET", path)["task_instances"]

    def finished(self, run_id: str, dag_id: str = DAG) -> str:
        def ended() -> str | None:
            state = self.run(run_id, dag_id)["state"]
            return state if state in ENDED else None

        return wait_for(ended)

    def clear(self, run_id: str, task_ids: list[str]) -> None:
        self.call(
            "POST",
            f"/api/v2/dags/{DAG}/clearTaskInstances",
            {
                "dry_run": False,
                "dag_run_id": run_id,
                "task_ids": task_ids,
                "only_failed": False,
                "reset_dag_runs": True,
            },
        )

    def writes(self) -> list[dict]:
        return requests.get(f"{self.mailchimp}/journal?write=true", timeout=30).json()["calls"]

    def forget_journal(self) -> None:
        requests.delete(f"{self.mailchimp}/journal", timeout=30)

    def edit(self, customer_id: int, **fields) -> None:
        answer = requests.patch(
            f"{self.quickbooks}/customers/{customer_id}", json=fields, timeout=30
        )
        answer.raise_for_status()

    def end_webhooks(self) -> None:
        requests.delete(f"{self.quickbooks}/webhooks", timeout=30).raise_for_status()

    def edit_many(self, count: int, **fields) -> None:
        body = {"count": count, "fields": fields}
        requests.post(f"{self.quickbooks}/customers/edit-many", json=body, timeout=60)

    def add_customer(self, name: str, email: str) -> None:
        body = {"DisplayName": name, "PrimaryEmailAddr": {"Address": email}}
        requests.post(f"{self.quickbooks}/customers", json=body, timeout=30).raise_for_status()

    def question(self, run_id: str) -> dict | None:
        """What the run's approval asks, once it waits."""
        waiting = {
            task["task_id"] for task in self.tasks(run_id) if task["state"] == "awaiting_input"
        }
        return self.call("GET", self._question(run_id)) if "approval" in waiting else None

    def answer(self, run_id: str, option: str) -> None:
        body = {"chosen_options": [option], "params_input": {}}
        self.call("PATCH", self._question(run_id), body)

    def _question(self, run_id: str) -> str:
        run = quote(run_id, safe="")
        return f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/approval/-1/hitlDetails"

    def member(self, email: str) -> dict:
        return requests.get(f"{self.mailchimp}/members/{email}", timeout=30).json()


ENDED = ("success", "failed")


def wait_for(found, seconds: float = PATIENCE):
    """Return the first true value of ``found()``; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.5)
    pytest.fail(f"nothing came within {seconds} s")


@pytest.fixture(scope="module")
def airflow():
    """A machine that stays up, after its first sync."""
    folder = Path(tempfile.mkdtemp(prefix="ml-connector-e2e-"))
    machine = Machine(folder / "state")
    with machine.start() as process:
        output = []
        for line in process.stdout:
            output.append(line)
            if "Ctrl-C stops it" in line:
                break
        assert "Ctrl-C stops it" in output[-1], "".join(output)
        yield Airflow(machine)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


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
    ("conn_type", "extra", "mend"),
    [
        ("mailchimp", {}, "check the connection's password"),
        ("quickbooks", {"realm_id": "1"}, "client"),
    ],
)
def test_the_test_button_says_what_to_change_in_a_wrong_connection(airflow, conn_type, extra, mend):
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
    assert mend in answer["message"]
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


@pytest.mark.parametrize(
    "task_id", ["fetch_customers", "fetch_members", "plan", "push", "archive", "report"]
)
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
    airflow.edit(1, GivenName="Amelia")
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
    assert airflow.member("Birds@Intuit.com")["merge_fields"]["FNAME"] == "Amelia"
    assert airflow.member("Surf@Intuit.com")["merge_fields"]["FNAME"] == "William"
    rows = trail(airflow, run_id)
    assert sorted(row["customer_id"] for row in rows if row["action"] == "update") == ["1", "2"]


def test_a_plan_larger_than_the_guard_waits_for_a_person(airflow):
    """Rejected, the run ends green with nothing written; approved, exactly that plan is written."""
    for number in range(8):
        airflow.add_customer(f"Guarded {number}", f"guarded{number}@guarded-firm.com")
    assert airflow.finished(airflow.trigger()) == "success"
    airflow.end_webhooks()
    airflow.edit_many(30, Active=False)
    airflow.forget_journal()

    run_id = airflow.trigger()
    question = wait_for(lambda: airflow.question(run_id))
    assert "contacts would be archived, 25 are allowed" in question["subject"]
    assert "| archive | inactive |" in question["body"]
    assert "@" not in question["body"]
    airflow.answer(run_id, "Reject")
    assert airflow.finished(run_id) == "success"
    assert airflow.writes() == []

    run_id = airflow.trigger()
    wait_for(lambda: airflow.question(run_id))
    airflow.answer(run_id, "Approve")
    assert airflow.finished(run_id) == "success"
    archived = [call for call in airflow.writes() if call["method"] == "DELETE"]
    assert len(archived) > 25
    choices = [row for row in trail(airflow, run_id) if row["action"] == "large_plan"]
    assert [(row["outcome"], row["actor"]) for row in choices] == [("approved", "admin")]


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


def trail(airflow: Airflow, run_id: str) -> list[dict]:
    """The audit rows of a run."""
    command = Path(sys.prefix) / "bin" / "ml-connector"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "ML_CONNECTOR_HOME": str(airflow.machine.home),
    }
    shown = subprocess.run(
        [command, "audit", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    rows = [json.loads(line) for line in shown.stdout.splitlines() if line.startswith("{")]
    return [row for row in rows if row["run_id"] == run_id]
