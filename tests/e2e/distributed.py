"""A daily sync on the services of docker-compose.yaml; a worker is killed in the middle of it.

Shared by the short version in CI and the long one, ``make distributed``.
"""

import base64
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import psycopg
import requests
import yaml

from local import summary, verify
from local.client import AirflowApi
from local.settings import SANDBOX_AUDIENCE, SHIPPED_SYNCS
from ml_connector.audit import trail
from ml_connector.store.database import Database
from ml_connector.vault import Vault
from sandbox.ports import free_port
from tests.e2e.compose import AIRFLOW, Stack

DAG = "sync_customers__main"
BATCH = f"/3.0/lists/{SANDBOX_AUDIENCE}$"
ENDED = {"success", "failed"}


@dataclass
class Killed:
    """What was seen of a sync whose worker was killed.

    Attributes:
        calls: Batches that Mailchimp had been sent when the worker was killed.
        noticed: Seconds from the kill until Airflow set the task up for another try.
        ended: Seconds from the kill until the run's end.
        states: State of every task, mapped ones with their number, and the tries it took.
    """

    calls: int
    noticed: float
    ended: float
    state: str
    states: dict[str, tuple[str, int]]


class Services(Protocol):
    """The services of docker-compose.yaml, run as processes or as containers."""

    def url(self, port: int) -> str:
        """Where a port of the file is."""

    def database_url(self, name: str = "ml_connector") -> str:
        """A database for psycopg."""

    def password(self) -> str:
        """The password of Airflow's user."""

    def vault(self) -> Vault:
        """What decrypts the connector's tables."""

    def lose(self, hostname: str, pid: int) -> None:
        """SIGKILL the whole container in which a process runs."""


class Distributed:
    """Running services with the mock servers, as their users see them."""

    def __init__(self, stack: Services) -> None:
        self.stack = stack
        self.quickbooks, self.mailchimp = stack.url(9410), stack.url(9420)
        self._password = stack.password()
        self.airflow = AirflowApi(stack.url(8080), password=self._password)
        assert self.airflow.is_up()

    def daily_run(self) -> str:
        """Switch the DAG on; return the run that its schedule starts."""
        wait_for(lambda: self.airflow.has_dag(DAG), seconds=60)
        self.airflow.unpause(DAG)
        return wait_for(lambda: self.airflow.active_run_ids(DAG), seconds=60)[0]

    def warm(self) -> None:
        """Let tasks run as they have in an installation at work: each service's first takes seconds."""
        dags = ("refresh_quickbooks_tokens", "verify_audit")
        for dag in dags:
            wait_for(partial(self.airflow.has_dag, dag), seconds=60)
            self.airflow.unpause(dag)
        for _ in range(3):
            for dag, run in [(dag, self.airflow.trigger(dag)) for dag in dags]:
                wait_for(partial(self._has_ended, dag, run), seconds=120)

    def kill_a_worker_in_the_push(
        self, *, after: int, wait_for_retry: bool, start: Callable[[], str] | None = None
    ) -> Killed:
        """Run the daily sync; lose one of the two workers once Mailchimp had so many batches.

        ``start`` starts the run, where the DAG is on already.
        Every second answer is late by 10 s, so that some writes are made whose answer nobody hears.
        """
        late = {"match": {"method": "POST", "path": BATCH}, "every": 2}
        self.tell("POST", "faults", {**late, "action": {"kind": "delay", "seconds": 10}})
        run = (start or self.daily_run)()
        calls = wait_for(lambda: self.batches() >= after and self.batches(), seconds=300, pause=0.1)
        self.stack.lose(*self._place_of_push(run))
        begun = time.monotonic()
        self.tell("DELETE", "faults")
        # By default Airflow looks for lost tasks every 5 minutes; docker-compose.yaml sets less.
        wait_for(lambda: "up_for_retry" in self.states(run).values(), seconds=120)
        noticed = time.monotonic() - begun
        if not wait_for_retry:
            self._clear_push(run)
        wait_for(lambda: self.airflow.run_state(DAG, run) in ENDED, seconds=600)
        tasks = self.airflow.tasks(DAG, run)
        return Killed(
            calls=calls,
            noticed=noticed,
            ended=time.monotonic() - begun,
            state=self.airflow.run_state(DAG, run),
            states={task.label: (task.state, task.try_number) for task in tasks},
        )

    def states(self, run: str) -> dict[str, str]:
        """State of every task."""
        return {task.label: task.state for task in self.airflow.tasks(DAG, run)}

    def batches(self) -> int:
        """How many batches Mailchimp was sent."""
        return len(self.journal())

    def journal(self) -> list[dict[str, Any]]:
        """The batches that Mailchimp was sent."""
        calls = self.tell("GET", "journal?write=true")["calls"]
        return [call for call in calls if "members" in (call["body"] or {})]

    def differences(self) -> list[str]:
        """Everything in the audience that is not as it should be."""
        facts = summary.read(
            self.stack.database_url(), sync="main", since=datetime(2000, 1, 1, tzinfo=UTC)
        )
        url = f"{self.quickbooks}/_sandbox/customers?limit=1000000"
        customers = requests.get(url, timeout=60).json()
        return verify.differences(
            customers["customers"],
            self.members(),
            decisions=facts.decisions,
            sync=yaml.safe_load(SHIPPED_SYNCS.read_text())["syncs"]["main"],
        )

    def members(self) -> list[dict[str, Any]]:
        """Everyone in the audience."""
        return list(self.tell("GET", "members")["members"])

    def doubled(self, since: str = "") -> list[str]:
        """Contacts with more or less than one row for what they were sent, or a row without its call.

        ``since`` leaves out earlier rows: what Mailchimp's journal no longer has.
        """
        carried: dict[str, set[str]] = {}
        for call in self.journal():
            carried[call["request_id"]] = {
                member["email_address"].lower() for member in call["body"]["members"]
            }
        rows: Counter[str] = Counter()
        wrong = []
        for row in self._audit():
            if row["system"] != "mailchimp" or row["outcome"] != "applied" or row["at"] < since:
                continue
            email = row["after"]["email"].lower()
            rows[email] += 1
            if email not in carried.get(row["request_id"], ()):
                wrong.append(f"the row {row['action']} of {row['customer_id']} names no call")
        sent = set().union(*carried.values())
        wrong += [f"{rows[email]} rows for one contact" for email in sent if rows[email] != 1]
        return wrong

    def _has_ended(self, dag: str, run: str) -> bool:
        return self.airflow.run_state(dag, run) in ENDED

    def _audit(self) -> Iterator[dict[str, Any]]:
        url = self.stack.database_url().replace("postgresql:", "postgresql+psycopg:")
        database = Database(url, connections=1)
        yield from trail.iter_entries(database.begin, vault=self.stack.vault())
        database.close()

    def _place_of_push(self, run: str) -> tuple[str, int]:
        query = (
            "SELECT hostname, pid FROM task_instance "
            "WHERE run_id = %s AND task_id = 'push' AND state = 'running'"
        )
        with psycopg.connect(self.stack.database_url("airflow")) as connection:
            hostname, pid = connection.execute(query, (run,)).fetchall()[0]
        return hostname, pid

    def _clear_push(self, run: str) -> None:
        """Let the failed shard run at once, as a person would, instead of after its minute."""
        url = self.stack.url(8080)
        login = {"username": "admin", "password": self._password}
        token = requests.post(f"{url}/auth/token", json=login, timeout=30).json()["access_token"]
        requests.post(
            f"{url}/api/v2/dags/{DAG}/clearTaskInstances",
            json={
                "dry_run": False,
                "dag_run_id": run,
                "task_ids": ["push"],
                "only_failed": False,
                "reset_dag_runs": True,
            },
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        ).raise_for_status()

    def tell(self, method: str, path: str, body: object = None) -> Any:
        """Call the control API of Mailchimp's mock server."""
        answer = requests.request(
            method, f"{self.mailchimp}/_sandbox/{path}", json=body, timeout=60
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


def keys() -> dict[str, str]:
    """New secrets, as docker-compose.yaml asks for them."""
    return {
        "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "JWT_SECRET": secrets.token_hex(32),
        "API_SECRET_KEY": secrets.token_hex(32),
        "ML_CONNECTOR_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
        "ML_CONNECTOR_INDEX_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
    }


@contextmanager
def distributed(customers: int) -> Iterator[Distributed]:
    """Start everything with keys and ports of its own; nothing is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ml-connector-compose-"))
    given = {
        **keys(),
        "WEBHOOK_SITE": f"http://127.0.0.1:{free_port()}",
        "WORKER_CONCURRENCY": "2",
        "SANDBOX_COMPANY": str(customers),
    }
    stack = Stack(folder, given, profiles={"proxy", "sandbox"})
    for service in stack.services.values():
        if service["image"].startswith(AIRFLOW):
            # There is no person to be asked.
            service.setdefault("environment", {})["ML_CONNECTOR_FIRST_RUN"] = "write"
    try:
        stack.start()
        yield Distributed(stack)
    finally:
        stack.stop()
    shutil.rmtree(folder, ignore_errors=True)


def wait_for(found: Callable[[], Any], *, seconds: float, pause: float = 0.5) -> Any:
    """Return the first true value of ``found()``; raise ``TimeoutError`` after ``seconds``.

    A call that a busy machine did not answer in time is made again.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(requests.Timeout):
            if value := found():
                return value
        time.sleep(pause)
    raise TimeoutError(f"nothing came within {seconds} s")
