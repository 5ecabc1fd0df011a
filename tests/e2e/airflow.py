"""A running machine as its users see it: Airflow's REST API, the sandbox's controls, the audit."""

import base64
import json
import os
import shlex
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import jwt
import psycopg
import pytest
import requests

from local.settings import Ports, sandbox_credentials
from ml_connector.audit.trail import iter_entries
from ml_connector.store.database import Database
from ml_connector.vault import Vault
from tests.e2e.machine import Machine

VERIFIER = sandbox_credentials(Ports()).verifier_token
REALM = sandbox_credentials(Ports()).realm_id
DAG = "sync_customers__main"
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

    @property
    def receiver(self) -> str:
        """Where QuickBooks sends its webhooks."""
        return f"{self.url}/ml-connector/webhooks/quickbooks"

    @property
    def database_url(self) -> str:
        """The connector's own database, as `make run` tells shells."""
        lines = (self.machine.home / "env").read_text().splitlines()
        values = dict(line.split("=", 1) for line in lines)
        return shlex.split(values["ML_CONNECTOR_DATABASE_URL"])[0]

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

    def tasks(self, run_id: str, dag_id: str = DAG) -> list[dict]:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        return self.call("GET", path)["task_instances"]

    def finished(self, run_id: str, dag_id: str = DAG) -> str:
        def ended() -> str | None:
            state = self.run(run_id, dag_id)["state"]
            return state if state in ENDED else None

        return wait_for(ended)

    def clear(self, run_id: str, task_ids: list[str], dag_id: str = DAG) -> None:
        self.call(
            "POST",
            f"/api/v2/dags/{dag_id}/clearTaskInstances",
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

    def reads(self) -> list[dict]:
        """What was queried at QuickBooks."""
        calls = requests.get(f"{self.quickbooks}/journal?kind=api", timeout=30).json()["calls"]
        return [call for call in calls if call["path"].endswith("/query")]

    def forget_journal(self) -> None:
        for mock_app in (self.mailchimp, self.quickbooks):
            requests.delete(f"{mock_app}/journal", timeout=30)

    def edit(self, customer_id: int, **fields) -> None:
        answer = requests.patch(
            f"{self.quickbooks}/customers/{customer_id}", json=fields, timeout=30
        )
        answer.raise_for_status()

    def end_webhooks(self) -> None:
        requests.delete(f"{self.quickbooks}/webhooks", timeout=30).raise_for_status()

    def begin_webhooks(self) -> None:
        body = {
            "url": self.receiver,
            "verifier_token": VERIFIER,
        }
        requests.put(f"{self.quickbooks}/webhooks", json=body, timeout=30).raise_for_status()

    def active_customers(self) -> list[str]:
        found = requests.get(f"{self.quickbooks}/customers", timeout=30).json()["customers"]
        return [customer["Id"] for customer in found if customer.get("Active", True)]

    def edit_many(self, ids: list[str], **fields) -> None:
        body = {"ids": ids, "fields": fields}
        url = f"{self.quickbooks}/customers/edit-many"
        requests.post(url, json=body, timeout=60).raise_for_status()

    def add_customer(self, name: str, email: str) -> str:
        body = {"DisplayName": name, "PrimaryEmailAddr": {"Address": email}}
        answer = requests.post(f"{self.quickbooks}/customers", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()["Id"]

    def question(self, run_id: str) -> dict | None:
        """What the run's approval asks, once it waits."""
        waiting = {
            task["task_id"] for task in self.tasks(run_id) if task["state"] == "awaiting_input"
        }
        return self.call("GET", self._question(run_id)) if "approval" in waiting else None

    def answer_from_old_page(self, run_id: str) -> None:
        """Approve what a browser tab has shown since before the run decided anew."""
        body = {"chosen_options": ["Approve"], "params_input": {"shown": "1:of-before"}}
        self.call("PATCH", self._question(run_id), body)

    def decide(self, run_id: str, option: str) -> str:
        """Answer as often as the run asks, until it has ended; return how it ended.

        An answer within a second of the question can be lost: the executor's word that the
        question was put then looks to the scheduler like a task that died (apache/airflow#72716),
        and its next try asks anew.
        """

        def ended() -> str | None:
            if self.question(run_id):
                body = {"chosen_options": [option], "params_input": {}}
                self.call("PATCH", self._question(run_id), body)
            state = self.run(run_id)["state"]
            return state if state in ENDED else None

        return wait_for(ended)

    def _question(self, run_id: str) -> str:
        run = quote(run_id, safe="")
        return f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/approval/-1/hitlDetails"

    def members(self) -> list[dict]:
        return requests.get(f"{self.mailchimp}/members", timeout=60).json()["members"]

    def member(self, email: str) -> dict:
        return requests.get(f"{self.mailchimp}/members/{email}", timeout=30).json()


ENDED = ("success", "failed")


def our_database(airflow: Airflow) -> str:
    """The connector's database for psycopg and libpq."""
    return airflow.database_url.replace("postgresql+psycopg://", "postgresql://")


def airflow_database(airflow: Airflow) -> str:
    """The other database on the same server."""
    ours = our_database(airflow)
    server, _, mine = ours.rpartition("/")
    with psycopg.connect(ours) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")
        (other,) = {name for (name,) in rows} - {"postgres", mine.split("?")[0]}
    return f"{server}/{other}"


@contextmanager
def staying_up() -> Iterator[Airflow]:
    """A machine of its own that stays up, after its first sync."""
    folder = Path(tempfile.mkdtemp(prefix="ml-connector-e2e-"))
    with running(Machine(folder / "state")) as airflow:
        yield airflow
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(
    machine: Machine, *arguments: str, say: Callable[[str], object] = lambda _: None
) -> Iterator[Airflow]:
    """Run `make run` on a machine, up to its first sync; ``say`` gets each line that it prints."""
    with machine.start(*arguments) as process:
        try:
            output = []
            for line in process.stdout:
                output.append(line)
                say(line)
                if "Ctrl-C stops it" in line:
                    break
            assert "Ctrl-C stops it" in output[-1], "".join(output)
            yield Airflow(machine)
        finally:  # also one that took too long to come up
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.communicate(timeout=60)


def wait_for(found, seconds: float = PATIENCE):
    """Return the first true value of ``found()``; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.2)
    pytest.fail(f"nothing came within {seconds} s")


def trail(airflow: Airflow, run_id: str = "") -> list[dict]:
    """The audit rows of a run, or all of them, as `ml-connector audit --json` prints them."""
    home = airflow.machine.home
    keys = [(home / name).read_text().split(",") for name in ("encryption_keys", "index_key")]
    opened, (index,) = ([base64.b64decode(key) for key in each] for each in keys)
    vault = Vault(encryption_keys=opened, index_key=index)
    url = airflow.database_url.replace("postgresql:", "postgresql+psycopg:")
    with closing(Database(url, connections=1)) as database:
        rows = list(iter_entries(database.begin, vault=vault))
    return [row for row in rows if not run_id or row["run_id"] == run_id]


def trail_of(airflow: Airflow, name: str) -> list[dict]:
    """The audit rows of the customers whose name has ``name`` in it."""
    customers = requests.get(f"{airflow.quickbooks}/customers?name={name}", timeout=30).json()
    ids = {customer["Id"] for customer in customers["customers"]}
    return [row for row in trail(airflow) if row["customer_id"] in ids]


def refuse_fakes(airflow: Airflow, *, refuse: bool) -> None:
    """Let the mock server of Mailchimp refuse addresses that look fake, as it does at first, or not."""
    settings = {"refuse_fake_domains": refuse}
    requests.put(f"{airflow.mailchimp}/settings", json=settings, timeout=30).raise_for_status()
