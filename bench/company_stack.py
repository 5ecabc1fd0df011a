"""The services of docker-compose.yaml with many companies configured, each at mock servers of its own."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from bench import processor
from bench.company_mocks import Company
from sandbox.ports import free_port
from tests.e2e.compose import AIRFLOW, Stack
from tests.e2e.distributed import keys, wait_for

FIELDS = {
    "FNAME": "GivenName",
    "LNAME": "FamilyName",
    "COMPANY": "CompanyName",
    "PHONE": "PrimaryPhone.FreeFormNumber",
    "ADDRESS": "BillAddr",
}
SLOTS = 2
"""Of each company's two pools, as docs/reference/configuration.md has it."""


@dataclass(frozen=True)
class Companies:
    """A running stack and where its companies' mock servers are."""

    stack: Stack
    mock_servers: str
    mock_servers_pid: int

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return what each company's mock servers were asked, by its name."""
        return dict(requests.get(f"{self.mock_servers}/figures", timeout=300).json())

    def trigger(self, dag_id: str) -> None:
        """Start a run of a DAG."""
        path = f"{self.stack.url(8080)}/api/v2/dags/{dag_id}/dagRuns"
        answer = _signed_in(self.stack).post(path, json={"logical_date": None}, timeout=120)
        answer.raise_for_status()

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time so far of each service, and of everything that it started."""
        heads = {one.name: one.component.process.pid for one in self.stack.containers}
        postmaster = self.stack.folder / "postgres" / "data" / "postmaster.pid"
        heads["postgres"] = int(postmaster.read_text().split()[0])
        heads["mock servers"] = self.mock_servers_pid
        return {name: processor.seconds_of(pid) for name, pid in heads.items()}


@contextmanager
def running(
    companies: Sequence[Company], *, concurrency: int, own_pools: bool
) -> Iterator[Companies]:
    """Start everything, every DAG still paused; nothing is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ml-connector-companies-"))
    given = {**keys(), "WORKER_CONCURRENCY": str(concurrency)}
    stack = Stack(folder, given, profiles={"no proxy"}, patience=600)
    for idle in ("triggerer", "receiver"):  # nothing waits for an approval, and no webhook comes
        stack.services.pop(idle)
    workers = stack.services["worker"]["deploy"]["replicas"]
    syncs = folder / "syncs.yaml"
    for service in stack.services.values():
        if service["image"].startswith(AIRFLOW):
            service["environment"] |= {
                "ML_CONNECTOR_SYNCS": str(syncs),
                # Not more than can run, so that who is queued next is the scheduler's choice.
                "AIRFLOW__CORE__PARALLELISM": str(workers * concurrency),
                # The file takes seconds to parse with hundreds of syncs, and does not change.
                "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
                "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "600",
                "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
            }
    try:
        with _mock_servers(companies) as (url, pid):
            syncs.write_text(yaml.safe_dump({"syncs": _syncs(companies, own_pools=own_pools)}))
            stack.start()
            _put_into_airflow(stack, companies, url, own_pools=own_pools)
            yield Companies(stack, url, pid)
    finally:
        stack.stop()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _mock_servers(companies: Sequence[Company]) -> Iterator[tuple[str, int]]:
    port = free_port()
    command = [sys.executable, "-m", "bench.company_mocks", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(json.dumps([asdict(company) for company in companies]).encode())
        process.stdin.close()
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: _answers(url), seconds=900)
            yield url, process.pid
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    with suppress(requests.ConnectionError):
        return requests.get(f"{url}/figures", timeout=60).ok
    return False


def _syncs(companies: Sequence[Company], *, own_pools: bool) -> dict[str, Any]:
    return {
        company.name: {
            "quickbooks_conn_id": f"quickbooks_{company.name}",
            "mailchimp_conn_id": f"mailchimp_{company.name}",
            **(_pools_of(company) if own_pools else {}),
            "audience_id": company.name,
            "new_contact_status": "subscribed",
            "first_run": "write",
            "fields": FIELDS,
            "tags": ["QuickBooks"],
        }
        for company in companies
    }


def _pools_of(company: Company) -> dict[str, str]:
    return {f"{system}_pool": f"{system}_{company.name}" for system in ("quickbooks", "mailchimp")}


def _signed_in(stack: Stack) -> requests.Session:
    airflow, login = requests.Session(), {"username": "admin", "password": stack.password()}
    answer = airflow.post(f"{stack.url(8080)}/auth/token", json=login, timeout=120)
    airflow.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return airflow


def _put_into_airflow(
    stack: Stack, companies: Sequence[Company], url: str, *, own_pools: bool
) -> None:
    airflow = _signed_in(stack)

    def put(kind: str, entities: Iterable[dict[str, Any]]) -> None:
        create = {"action": "create", "entities": list(entities)}
        address = f"{stack.url(8080)}/api/v2/{kind}"
        answer = airflow.patch(address, json={"actions": [create]}, timeout=300)
        answer.raise_for_status()
        assert not answer.json()["create"]["errors"], answer.text

    put("connections", (each for company in companies for each in _connections(company, url)))
    put("variables", map(_token, companies))
    if own_pools:
        pools = (pool for company in companies for pool in _pools_of(company).values())
        put("pools", ({"name": pool, "slots": SLOTS} for pool in pools))


def _connections(company: Company, url: str) -> Iterator[dict[str, Any]]:
    quickbooks = f"{url}/quickbooks/{company.name}"
    token_url = f"{quickbooks}/oauth2/v1/tokens/bearer"
    yield {
        "connection_id": f"quickbooks_{company.name}",
        "conn_type": "quickbooks",
        "host": quickbooks,
        "login": "sandbox-client",
        "password": "sandbox-secret",
        "extra": json.dumps({"realm_id": company.realm, "token_url": token_url}),
    }
    yield {
        "connection_id": f"mailchimp_{company.name}",
        "conn_type": "mailchimp",
        "host": f"{url}/mailchimp/{company.name}/3.0",
        "password": "sandbox-key-us99",
    }


def _token(company: Company) -> dict[str, Any]:
    """Return the first one, as a person would seed it."""
    token = {"refresh_token": "sandbox-refresh-token", "access_token": ""}
    value = token | {"expires_at": "2000-01-01T00:00:00Z"}
    return {"key": f"quickbooks_token__quickbooks_{company.name}", "value": json.dumps(value)}
