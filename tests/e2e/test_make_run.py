"""`make run`, as a person types it: the real Airflow, the embedded Postgres, the sandbox."""

import json
import os
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
import requests

from local.settings import SANDBOX_AUDIENCE
from sandbox.running import bind, running_as_process
from tests.e2e.machine import Machine


@pytest.fixture(scope="module")
def machine():
    folder = Path(tempfile.mkdtemp(prefix="ml-connector-e2e-"))
    machine = Machine(folder / "state")
    tell_lineage(machine)
    yield machine
    shutil.rmtree(folder, ignore_errors=True)


def events(machine: Machine) -> Path:
    """Where the machine's OpenLineage events go, a line each."""
    return machine.home.parent / "events.jsonl"


def tell_lineage(machine: Machine) -> None:
    """Have Airflow's OpenLineage provider, where it is installed, write its events to a file."""
    transport = {"type": "file", "log_file_path": str(events(machine)), "append": True}
    folder = machine.home / "airflow"
    folder.mkdir(parents=True)
    (folder / "airflow.cfg").write_text(f"[openlineage]\ntransport = {json.dumps(transport)}\n")


@pytest.fixture
def dags(tmp_path):
    folder = tmp_path / "dags"
    folder.mkdir()
    return folder


def writes(output: str) -> int:
    return int(re.search(r"^Mailchimp +\d+ +(\d+) ", output, re.MULTILINE)[1])


def changes(output: str) -> int:
    """The sum of the counts in the summary's table of changes."""
    table = output.split("\nChanges", 1)[1].split("\nCustomers", 1)[0]
    return sum(int(line.split()[-1]) for line in table.splitlines()[2:] if line[-1:].isdigit())


def test_the_first_run_makes_the_audience_exactly_right(machine):
    code, output = machine.run()
    assert code == 0, output
    assert "the audience is exactly right" in output
    assert changes(output) == 25, output
    assert re.search(r"^contact .*25$", output, re.MULTILINE), output
    assert re.search(r"^linked .*3$", output, re.MULTILINE), output
    assert re.search(r"^skipped +no_email +1$", output, re.MULTILINE), output
    assert re.search(r"^Airflow +http://127.0.0.1:\d+ .*password \S+\)$", output, re.MULTILINE)
    assert f"Logs     {machine.home}/logs" in output
    assert machine.left_running() == []


def test_openlineage_hears_of_a_company_and_an_audience_and_of_no_person(machine):
    """Of the first run: its DAG's events, the scheduler's and its tasks'."""
    pytest.importorskip("openlineage", reason="comes with `make install-dev`")
    told = events(machine).read_text()
    heard = [json.loads(line) for line in told.splitlines()]
    ended = {one["job"]["name"]: one for one in heard if one["eventType"] == "COMPLETE"}
    assert {"sync_customers__main", "sync_customers__main.push"} <= ended.keys()

    def datasets(side: str) -> dict[str, set[tuple[str, str]]]:
        named = {
            job: {(one["namespace"], one["name"]) for one in event[side]}
            for job, event in ended.items()
        }
        return {job: found for job, found in named.items() if found}

    report = "sync_customers__main.report"
    assert datasets("inputs") == {report: {("quickbooks", "quickbooks_default")}}
    assert datasets("outputs") == {report: {("mailchimp", SANDBOX_AUDIENCE)}}
    with running_as_process(state=machine.home / "sandbox.state") as sandbox:
        customers = requests.get(f"{sandbox.quickbooks_url}/_sandbox/customers", timeout=10)
    people = customers.json()["customers"]
    assert len(people) > 20
    names = {
        person.get(field) or ""
        for person in people
        for field in ("DisplayName", "CompanyName", "FamilyName")
    }
    addresses = {person.get("PrimaryEmailAddr", {}).get("Address") or "" for person in people}
    told = told.lower()
    assert {name for name in names if len(name) > 4 and name.lower() in told} == set()
    assert {address for address in addresses if address and address.lower() in told} == set()


def test_a_second_run_writes_nothing(machine):
    code, output = machine.run()
    assert (code, writes(output), changes(output)) == (0, 0, 0), output


def test_it_writes_only_who_changed_stays_up_until_ctrl_c_and_leaves_no_process_behind(machine):
    """Two customers change between two runs; the sandbox has kept the rest."""
    with running_as_process(state=machine.home / "sandbox.state") as sandbox:
        for number in (1, 4):
            requests.patch(
                f"{sandbox.quickbooks_url}/_sandbox/customers/{number}",
                json={"GivenName": "Changed"},
                timeout=10,
            ).raise_for_status()
    with machine.start() as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C stops it" in line:
                break
        output = "".join(lines)
        assert "everything is up" in output, output
        assert changes(output) == 2, output
        port = machine.ports["AIRFLOW_PORT"]
        health = requests.get(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=10)
        assert health.json()["scheduler"]["status"] == "healthy"
        assert machine.left_running() != []
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.communicate(timeout=60)
    assert machine.left_running() == []


def test_a_killed_run_is_cleared_away_by_the_next(machine):
    with machine.start("ONCE=1") as process:
        for line in process.stdout:
            if "sandbox started" in line:
                break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert machine.left_running() != []
    with bind("127.0.0.1", 0) as taken:
        code, output = machine.run(f"TRIGGERER_LOG_PORT={taken.getsockname()[1]}")
    assert code != 0
    assert "ending what a killed run left behind" in output
    assert machine.left_running() == []


def test_keys_can_be_read_by_their_owner_only(machine):
    names = ("fernet_key", "encryption_keys", "index_key", "airflow_passwords.json", "env")
    assert {(machine.home / name).stat().st_mode & 0o777 for name in names} == {0o600}


def test_a_taken_port_is_one_clear_line(machine):
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        began = time.monotonic()
        code, output = machine.run(f"AIRFLOW_PORT={port}")
    assert code != 0
    assert re.search(rf"^Failed: port {port} is taken; .*AIRFLOW_PORT=", output, re.MULTILINE)
    assert "Traceback" not in output
    assert time.monotonic() - began < 20


def test_a_broken_dag_file_is_named_with_the_reason(machine, dags):
    (dags / "broken.py").write_text("from airflow.sdk import dag\n1 / 0\n")
    code, output = machine.run(f"ML_CONNECTOR_DAGS_FOLDER={dags}")
    assert code != 0
    assert re.search(
        r"^Failed: the DAG file broken.py cannot be read: ZeroDivision", output, re.MULTILINE
    )
    assert machine.left_running() == []


def test_a_failed_task_is_named_with_the_reason_and_its_log(machine, dags):
    (dags / "fails.py").write_text(
        "from airflow.sdk import dag, task\n"
        "@dag(schedule=None)\n"
        "def sync_customers__main():\n"
        "    @task\n"
        "    def push_contacts():\n"
        "        raise RuntimeError('the key is wrong')\n"
        "    push_contacts()\n"
        "sync_customers__main()\n"
    )
    code, output = machine.run(f"ML_CONNECTOR_DAGS_FOLDER={dags}")
    assert code != 0
    found = re.search(
        r"^Failed: task push_contacts failed: RuntimeError: the key is wrong\. Log: (.*)$",
        output,
        re.MULTILINE,
    )
    assert found, output
    assert "the key is wrong" in Path(found[1]).read_text()
