"""Nothing that is secret or personal is anywhere it should not be.

Looked at is what the runs of `driven`, and every test before, have left: logs, dumps of both
databases, and what Airflow's REST API tells its admin of runs, tasks, XComs, rendered templates,
triggers, connections and variables.
"""

import base64
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import psycopg
import pytest
import requests
from cryptography.fernet import Fernet

from local.postgres import binaries
from local.settings import Ports, sandbox_credentials
from tests.e2e.airflow import Airflow, airflow_database, our_database, trail_of, wait_for

LAST = True
"""Run after the other tests of this folder (conftest.py): more to look at, and nothing else differs."""

SHORTEST = 8
PAGE = 100
ROW = re.compile(r"^COPY (\S+) .*?;\n(.*?)^\\\.$", re.MULTILINE | re.DOTALL)


def forms(word: str) -> set[str]:
    """A word as it may be written somewhere."""
    written = {word, quote(word), quote(word, safe=""), quote_plus(word), word.encode().hex()}
    for shift in range(3):  # wherever it begins in what was encoded
        coded = base64.b64encode(b"\0" * shift + word.encode()).decode()
        written.add(coded[-(-shift * 8 // 6) + (shift > 0) : -4])
    return {form.lower() for form in written if len(form) >= SHORTEST}


@pytest.fixture(scope="module")
def driven(airflow: Airflow) -> Airflow:
    """A machine on which every way of handling a person and a key has been taken once."""
    name, refused = f"Leak{time.time_ns()}", f"Fake{time.time_ns()}"
    customer = airflow.add_customer(name, f"{name.lower()}@leaks-watched.com")
    airflow.end_webhooks()
    airflow.add_customer(refused, f"{refused.lower()}@example.com")  # Mailchimp refuses it
    assert airflow.finished(airflow.trigger()) == "success"
    airflow.begin_webhooks()
    assert [row for row in trail_of(airflow, refused) if row["outcome"] == "failed"]
    # Webhooks of both systems, and what they write to the other one.
    airflow.edit(int(customer), GivenName="Renamed")
    email = f"{name.lower()}@leaks-watched.com"
    wait_for(lambda: airflow.member(email)["merge_fields"]["FNAME"] == "Renamed")
    url = f"{airflow.mailchimp}/members/{email}/unsubscribe"
    requests.post(url, json={}, timeout=30).raise_for_status()
    wait_for(lambda: [row for row in trail_of(airflow, name) if row["action"] == "write_notes"])
    for dag_id in ("refresh_quickbooks_tokens", "verify_audit"):
        assert airflow.finished(airflow.trigger(dag_id=dag_id), dag_id) == "success"
    failing = airflow.trigger(dag_id="replay_audit")  # nothing is chosen
    assert airflow.finished(failing, "replay_audit") == "failed"
    return airflow


@pytest.fixture(scope="module")
def secrets(driven: Airflow, airflow: Airflow) -> dict[str, str]:
    """Everything planted, by name: keys of this machine, of both mock servers, and their tokens."""
    given = sandbox_credentials(Ports())
    home = airflow.machine.home
    files = ("fernet_key", "jwt_secret", "api_secret_key", "encryption_keys", "index_key")
    planted = {name: (home / name).read_text().strip() for name in files}
    planted |= {
        "client secret": given.client_secret,
        "first refresh token": given.refresh_token,
        "verifier token": given.verifier_token,
        "Mailchimp key": given.mailchimp_key,
        "webhook secret": given.webhook_secret,
        "admin's password": json.loads((home / "airflow_passwords.json").read_text())["admin"],
        "database password": airflow.database_url.split(":")[2].split("@")[0],
    }
    issued = requests.get(f"{airflow.quickbooks}/tokens", timeout=30).json()["families"]
    tokens = {token for each in issued for token in (each["refresh_token"], *each["replaced"])}
    planted |= {f"token {number}": token for number, token in enumerate(sorted(tokens))}
    kept = variables(airflow, planted["fernet_key"])
    assert {"access_token", "refresh_token", "secret"} <= {name for _, name in kept}
    return planted | {f"{key} {name}": value for (key, name), value in kept.items()}


def variables(airflow: Airflow, fernet_key: str) -> dict[tuple[str, str], str]:
    """What Airflow's Variables hold: rotated tokens, and the secrets of Mailchimp's webhook."""
    with psycopg.connect(airflow_database(airflow)) as connection:
        rows = connection.execute("SELECT key, val FROM variable").fetchall()
    opened = {key: json.loads(Fernet(fernet_key).decrypt(sealed.encode())) for key, sealed in rows}
    return {
        (key, name): value
        for key, document in opened.items()
        for name, value in document.items()
        if ("token" in name or "secret" in name) and len(value) >= SHORTEST
    }


@pytest.fixture(scope="module")
def people(driven: Airflow, airflow: Airflow) -> set[str]:
    """Every address that a customer or member has."""
    customers = requests.get(f"{airflow.quickbooks}/customers", timeout=60).json()["customers"]
    listed = [each.get("PrimaryEmailAddr", {}).get("Address", "") for each in customers]
    listed += [member["email_address"] for member in airflow.members()]
    found = {part.strip() for each in listed for part in re.split("[,;]", each) if "@" in part}
    assert len(found) > 20
    return found


@pytest.fixture(scope="module")
def places(driven: Airflow, airflow: Airflow) -> dict[str, str]:
    """All that is looked at, in lower case, by where it was found."""
    found = dict(logs(airflow.machine.home / "logs"))
    found |= dict(databases(airflow))
    found |= dict(answers(airflow))
    return found


def logs(folder: Path) -> Iterator[tuple[str, str]]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 10
    for file in files:
        yield f"log {file.relative_to(folder)}", file.read_text(errors="replace").lower()


def databases(airflow: Airflow) -> Iterator[tuple[str, str]]:
    for name, url in (("ours", our_database(airflow)), ("airflow", airflow_database(airflow))):
        command = [binaries() / "pg_dump", "--data-only", url]
        dump = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        for table, body in ROW.findall(dump.stdout):
            yield f"table {name} {table}", body.lower()


def answers(airflow: Airflow) -> Iterator[tuple[str, str]]:
    """What the REST API tells of the newest runs of every DAG, and of everything configured."""
    for what in ("connections", "variables", "pools", "assets/events", "eventLogs", "importErrors"):
        yield f"api {what}", told(airflow, f"/api/v2/{what}?limit={PAGE}")
    yield "api config", told(airflow, "/api/v2/config")
    for dag in airflow.call("GET", f"/api/v2/dags?limit={PAGE}")["dags"]:
        id_ = dag["dag_id"]
        base = f"/api/v2/dags/{id_}"
        yield f"api dag {id_}", told(airflow, f"{base}/details")
        yield f"api source {id_}", told(airflow, f"/api/v2/dagSources/{id_}")
        runs = airflow.call("GET", f"{base}/dagRuns?limit={PAGE}&order_by=-run_after")
        yield f"api runs {id_}", json.dumps(runs).lower()
        every = f"{base}/dagRuns/~/taskInstances?limit={PAGE}&order_by=-start_date"
        tasks = airflow.call("GET", every)  # with rendered fields, and the trigger's arguments
        yield f"api tasks {id_}", json.dumps(tasks).lower()
        xcoms = f"{base}/dagRuns/~/taskInstances/~/xcomEntries?limit={PAGE}"
        for entry in airflow.call("GET", xcoms)["xcom_entries"]:
            path = (
                f"{base}/dagRuns/{quote(entry['run_id'], safe='')}/taskInstances/"
                f"{entry['task_id']}/xcomEntries/{entry['key']}?map_index={entry['map_index']}"
            )
            yield f"api xcom {id_} {entry['task_id']} {entry['key']}", told(airflow, path)
        for task in tasks["task_instances"][:20]:
            path = (
                f"{base}/dagRuns/{quote(task['dag_run_id'], safe='')}/taskInstances/"
                f"{task['task_id']}/logs/{max(1, task['try_number'])}?map_index={task['map_index']}"
            )
            yield f"api log {id_} {task['task_id']}", told(airflow, path)


def told(airflow: Airflow, path: str) -> str:
    answer = airflow.http.get(f"{airflow.url}{path}", timeout=60)
    assert answer.status_code in (200, 403, 404), f"{path}: {answer.status_code} {answer.text}"
    return answer.text.lower()


def found(places: dict[str, str], word: str) -> list[str]:
    written = forms(word)
    return [place for place, text in places.items() if any(form in text for form in written)]


def test_the_places_looked_at_hold_what_they_should(places, airflow):
    """Nothing found is a proof only where something could have been."""
    kinds = {name.split()[0] + " " + name.split()[1] for name in places}
    for kind in ("api connections", "api xcom", "api log", "api tasks", "api variables"):
        assert kind in kinds
    ours = [text for name, text in places.items() if name.endswith("ml_connector.customers")]
    assert len(ours) == 1
    assert "main\t" in ours[0]
    assert any("rendered_task_instance_fields" in name for name in places)
    shown = next(text for name, text in places.items() if name == "api variables")
    assert "quickbooks_token__quickbooks_default" in shown
    assert any("customers_read" in text for name, text in places.items() if name[:3] == "log")


def test_a_word_is_found_however_it_is_written():
    word = "sandbox+key/us99"
    for text in (word, word.upper(), quote(word, safe=""), quote_plus(word)):
        assert found({"here": f"x={text}&".lower()}, word) == ["here"]
    for before in ("", "a", "ab"):
        coded = base64.b64encode(f"{before}{word}, and more".encode()).decode()
        assert found({"here": coded.lower()}, word) == ["here"]


def test_no_secret_is_in_logs_dumps_or_answers(places, secrets):
    leaks = {name: found(places, word) for name, word in secrets.items()}
    assert {name: where for name, where in leaks.items() if where} == {}


def test_no_address_is_in_logs_dumps_or_answers(places, people):
    leaks = {address: found(places, address.lower()) for address in people}
    assert {address: where for address, where in leaks.items() if where} == {}
