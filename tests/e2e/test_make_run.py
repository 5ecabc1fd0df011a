"""`make run`, as a person types it: the real Airflow, the embedded Postgres, the sandbox.

Whole starts take most of the time, so there are few, and several tests look at each:
the first run, one that stays up, one after a killed run, one whose sync fails.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from local.settings import SANDBOX_AUDIENCE
from sandbox.running import bind
from tests.e2e.airflow import DAG, Airflow, trail
from tests.e2e.machine import PATIENCE, REPOSITORY, Machine

FAILING = """
from airflow.sdk import dag, task
@dag(schedule=None)
def sync_customers__main():
    @task
    def push_contacts():
        raise RuntimeError('the key is wrong')
    push_contacts()
sync_customers__main()
"""


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


@dataclass(frozen=True)
class Stayed:
    """A run that stayed up, the second in its state folder, until Ctrl-C.

    Attributes:
        output: What it printed until it was up.
        customers: Every customer of the sandbox, which keeps them between runs.
        edited: Rows of the audit after two customers were edited and the DAG ran again.
        preview: What `ml-connector preview` printed after a third customer was edited.
        synced: What `ml-connector sync` printed after that.
        init: What `ml-connector init` printed for another settings file.
        runs: Who triggered the DAG's runs.
        scheduler: State of the scheduler by Airflow's health endpoint.
        running: The processes while it was up.
        left: The processes after Ctrl-C.
    """

    output: str
    customers: list[dict]
    edited: list[dict]
    preview: str
    synced: str
    init: str
    runs: set[str]
    scheduler: str
    running: list[str]
    left: list[str]


@pytest.fixture(scope="module")
def first(machine) -> tuple[int, str]:
    """Exit code and output of the first run."""
    return machine.run()


@pytest.fixture(scope="module")
def stayed(machine, first) -> Stayed:
    """The second run."""
    with machine.start() as process:
        lines = list(until(process.stdout, "Ctrl-C stops it"))
        airflow = Airflow(machine)
        airflow.end_webhooks()  # they would carry the edits over before the run does
        for number in (1, 4):
            airflow.edit(number, GivenName="Changed")
        run_id = airflow.trigger()
        assert airflow.finished(run_id) == "success"
        edited = trail(airflow, run_id)
        airflow.edit(5, GivenName="Changed")
        preview, synced = typed(machine, "preview"), typed(machine, "sync")
        other = machine.home / "other.yaml"
        init = typed(machine, "init", "--file", str(other), "--yes", "--consent", "pending")
        runs = airflow.call("GET", f"/api/v2/dags/{DAG}/dagRuns")["dag_runs"]
        customers = requests.get(f"{airflow.quickbooks}/customers", timeout=10).json()
        health = airflow.call("GET", "/api/v2/monitor/health")
        running = machine.left_running()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.communicate(timeout=60)
    return Stayed(
        output="".join(lines),
        customers=customers["customers"],
        edited=edited,
        preview=preview,
        synced=synced,
        init=init,
        runs={run["triggered_by"] for run in runs},
        scheduler=health["scheduler"]["status"],
        running=running,
        left=machine.left_running(),
    )


def typed(machine: Machine, *words: str) -> str:
    """Type a command in a shell beside the running machine; return what it printed."""
    done = subprocess.run(
        [Path(sys.prefix) / "bin" / "ml-connector", *words],
        env={name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        | {"ML_CONNECTOR_HOME": str(machine.home)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Cleared:
    """A run that was killed, and what the next one, with a broken DAG file, said and left."""

    left_by_the_killed: list[str]
    code: int
    output: str
    left: list[str]


@pytest.fixture(scope="module")
def cleared(machine, stayed, tmp_path_factory) -> Cleared:
    """Kill a run half way, and start another."""
    with machine.start("ONCE=1") as process:
        list(until(process.stdout, "sandbox started"))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    left = machine.left_running()
    dags = tmp_path_factory.mktemp("dags")
    (dags / "broken.py").write_text("from airflow.sdk import dag\n1 / 0\n")
    code, output = machine.run(f"ML_CONNECTOR_DAGS_FOLDER={dags}")
    return Cleared(left_by_the_killed=left, code=code, output=output, left=machine.left_running())


def until(lines, text: str) -> Iterator[str]:
    """Yield lines up to the first that has the text."""
    for line in lines:
        yield line
        if text in line:
            return


def writes(output: str) -> int:
    return int(re.search(r"^Mailchimp +\d+ +(\d+) ", output, re.MULTILINE)[1])


def changes(output: str) -> int:
    """The sum of the counts in the summary's table of changes."""
    table = output.split("\nChanges", 1)[1].split("\nCustomers", 1)[0]
    return sum(int(line.split()[-1]) for line in table.splitlines()[2:] if line[-1:].isdigit())


def test_the_first_run_makes_the_audience_exactly_right(machine, first):
    code, output = first
    assert code == 0, output
    assert "the audience is exactly right" in output
    assert changes(output) == 25, output
    assert re.search(r"^contact .*25$", output, re.MULTILINE), output
    assert re.search(r"^linked .*3$", output, re.MULTILINE), output
    assert re.search(r"^skipped +no_email +1$", output, re.MULTILINE), output
    assert re.search(r"^Airflow +http://127.0.0.1:\d+ .*password \S+\)$", output, re.MULTILINE)
    assert f"Logs     {machine.home}/logs" in output
    assert machine.left_running() == []


def test_first_sync_shows_what_the_first_run_prints(first):
    page = (REPOSITORY / "docs/tutorials/first-sync.md").read_text()
    (shown,) = re.findall(r"```\n(Changes\n.*?)```", page, re.DOTALL)

    def rows(printed: str) -> list[list[str]]:
        return [line.split() for line in printed.splitlines() if line.strip()]

    def but_reads(row: list[str]) -> list[str]:
        """A busy machine polls more often."""
        return [*row[:1], *row[2:]] if row[0] in ("QuickBooks", "Mailchimp") else row

    printed = [but_reads(row) for row in rows(first[1])]
    missing = [row for row in map(but_reads, rows(shown)) if row not in printed]
    assert not missing, first[1]


def test_openlineage_hears_of_a_company_and_an_audience_and_of_no_person(machine, stayed):
    """Of both runs: its DAG's events, the scheduler's and its tasks'."""
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
    people = stayed.customers
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


def test_a_second_run_writes_nothing(stayed):
    assert (writes(stayed.output), changes(stayed.output)) == (0, 0), stayed.output
    assert "Failed" not in stayed.output


def test_a_run_writes_only_who_changed(stayed):
    """Two customers were edited; the sandbox has kept the rest."""
    written = [(row["action"], row["customer_id"], row["outcome"]) for row in stayed.edited]
    assert sorted(written) == [("update", "1", "applied"), ("update", "4", "applied")]


def test_commands_beside_a_scheduler_have_it_run_the_dag(stayed):
    """A run in the command's process would meet the scheduler's in the same rows."""
    update = re.compile(r"update +.* fields_changed +.* (\S+) +.* 1 ")
    assert "Would change" in stayed.preview
    assert update.search(stayed.preview)[1] == "preview", stayed.preview
    assert update.search(stayed.synced)[1] == "applied", stayed.synced
    assert {"cli", "rest_api"} <= stayed.runs
    assert "test" not in stayed.runs


def test_a_file_that_the_scheduler_does_not_use_is_not_rehearsed_by_its_settings(stayed):
    assert "Not rehearsed: Airflow's scheduler uses other settings" in stayed.init
    assert "a rehearsal can only read" not in stayed.init


def test_it_stays_up_until_ctrl_c_and_leaves_no_process_behind(stayed):
    assert "everything is up" in stayed.output, stayed.output
    assert stayed.scheduler == "healthy"
    assert stayed.running != []
    assert stayed.left == []


def test_a_killed_run_is_cleared_away_by_the_next(cleared):
    assert cleared.left_by_the_killed != []
    assert cleared.code != 0
    assert "ending what a killed run left behind" in cleared.output
    assert cleared.left == []


def test_keys_can_be_read_by_their_owner_only(machine, first):
    names = ("fernet_key", "encryption_keys", "index_key", "airflow_passwords.json", "env")
    assert {(machine.home / name).stat().st_mode & 0o777 for name in names} == {0o600}


def test_a_taken_port_is_one_clear_line_before_anything_starts(machine, first):
    started = {file.name: file.stat().st_mtime_ns for file in (machine.home / "logs").iterdir()}
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        code, output = machine.run(f"AIRFLOW_PORT={port}")
    assert code != 0
    assert re.search(rf"^Failed: port {port} is taken; .*AIRFLOW_PORT=", output, re.MULTILINE)
    assert "Traceback" not in output
    after = {file.name: file.stat().st_mtime_ns for file in (machine.home / "logs").iterdir()}
    assert after == started


def test_a_broken_dag_file_is_named_with_the_reason(cleared):
    assert cleared.code != 0
    assert re.search(
        r"^Failed: the DAG file broken.py cannot be read: ZeroDivision",
        cleared.output,
        re.MULTILINE,
    )
    assert cleared.left == []


def test_a_failed_task_is_named_with_the_reason_and_its_log(machine, cleared, tmp_path):
    """Without forks, as on macOS."""
    (tmp_path / "fails.py").write_text(FAILING)
    code, output = machine.run(f"ML_CONNECTOR_DAGS_FOLDER={tmp_path}", "ML_CONNECTOR_FORK=0")
    assert code != 0
    found = re.search(
        r"^Failed: task push_contacts failed: RuntimeError: the key is wrong\. Log: (.*)$",
        output,
        re.MULTILINE,
    )
    assert found, output
    assert "the key is wrong" in Path(found[1]).read_text()
