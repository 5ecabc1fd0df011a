"""Try the installed wheel inside one version of Airflow; ``make test-airflow`` runs this there.

Everything is real but the vendors: an embedded Postgres, the mock servers, Airflow's own ``dag.test()``
with its triggers, its API server's application with our plugin mounted, a secrets backend with the
keys. Prints a line a step. With the word ``brief`` the API server is left out.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import requests

from local.postgres import temporary
from sandbox.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DAG_IDS = {
    "process_webhooks",
    "refresh_quickbooks_tokens",
    "replay_audit",
    "sync_customers__main",
    "undo_run",
    "verify_audit",
}
KEY = "c2FuZGJveC1rZXktMzItYnl0ZXMtbG9uZy0wMTIzNDU="
"""A Fernet key; it protects mock data."""


def say(step: str) -> None:
    sys.stdout.write(f"  {step}\n")
    sys.stdout.flush()


def call(*words: str, code: int = 0, **environment: str) -> str:
    """Run a program of the environment; its exit code must be ``code``."""
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def environment(home: Path, database: str, quickbooks: int, mailchimp: int) -> dict[str, str]:
    """Return what a user sets, as variables."""
    base = f"http://127.0.0.1:{quickbooks}"
    connections = {
        "QUICKBOOKS_DEFAULT": {
            "conn_type": "quickbooks",
            "host": base,
            "login": "sandbox-client",
            "password": "sandbox-secret",
            "extra": {
                "realm_id": "9341450000000001",
                "token_url": f"{base}/oauth2/v1/tokens/bearer",
                "webhook_verifier_token": "sandbox-verifier-token",
            },
        },
        "MAILCHIMP_DEFAULT": {
            "conn_type": "mailchimp",
            "host": f"http://127.0.0.1:{mailchimp}/3.0",
            "password": "sandbox-key-us99",
            "extra": {"webhook_secret": "sandbox-webhook-secret"},
        },
    }
    keys = {
        "ml_connector_secret_encryption_keys": KEY,
        "ml_connector_secret_index_key": KEY,
    }
    (home / "secrets.json").write_text(json.dumps(keys))
    return {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",  # 30 s are too few on a busy machine
        "AIRFLOW__CORE__FERNET_KEY": KEY,
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of 64 characters that protects nothing but mock data 012",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "ML_CONNECTOR_HOME": str(home),
        "ML_CONNECTOR_SYNCS": str(ROOT / "include/config/syncs.yaml"),
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(
            {"variables_file_path": str(home / "secrets.json")}
        ),
        "AIRFLOW_CONN_ML_CONNECTOR_DB": database,
        "AIRFLOW_VAR_QUICKBOOKS_TOKEN__QUICKBOOKS_DEFAULT": json.dumps(
            {"refresh_token": "sandbox-refresh-token"}
        ),
        **{f"AIRFLOW_CONN_{name}": json.dumps(told) for name, told in connections.items()},
    }


@contextlib.contextmanager
def sandbox(quickbooks: int, mailchimp: int):
    """Run the mock servers."""
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "sandbox"),
            *("--quickbooks-port", str(quickbooks), "--mailchimp-port", str(mailchimp)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for port in (quickbooks, mailchimp):
            for _ in range(200):
                with contextlib.suppress(requests.ConnectionError):
                    requests.get(f"http://127.0.0.1:{port}/", timeout=5)
                    break
                time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def test(dag, **conf):
    """Run a DAG in this process and return the run."""
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    return dag.test(run_after=now, logical_date=now, run_conf=conf)


def states(run) -> dict[str, set[str]]:
    """Return the states of a run's tasks."""
    found: dict[str, set[str]] = {}
    for instance in run.get_task_instances():
        found.setdefault(instance.task_id, set()).add(str(instance.state))
    return found


def answer(client, known: dict[str, str], choice: str) -> None:
    """Answer the first approval that waits, by Airflow's API."""
    dags = "/api/v2/dags"
    for _ in range(600):
        asked = client.get(f"{dags}/~/dagRuns/~/hitlDetails", headers=known).json()
        for each in asked["hitl_details"]:
            task = each["task_instance"]
            path = f"{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}"
            done = client.patch(
                f"{dags}/{path}/{task['map_index']}/hitlDetails",
                headers=known,
                json={"chosen_options": [choice], "params_input": {}},
            )
            if done.status_code == 200:
                return
        time.sleep(1)


def later(function, *arguments) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, temporary() as postgres:
        quickbooks, mailchimp = free_port(), free_port()
        home = Path(folder)
        (home / "dags").mkdir()
        database = postgres.create_database("connector").replace("+psycopg", "")
        airflows = postgres.create_database("airflow").replace("+psycopg", "+psycopg2")
        given = environment(home, database, quickbooks, mailchimp)
        os.environ.update(given, AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=airflows)
        with sandbox(quickbooks, mailchimp):
            try_all(home, mailchimp)


def try_all(home: Path, mailchimp: int) -> None:
    call("airflow", "db", "migrate")
    call("ml-connector", "migrate")
    (home / "dags/ml_connector_dags.py").write_text(
        subprocess.check_output([BIN / "ml-connector", "dags"], text=True)
    )
    say("ml-connector migrate, dags")

    from ml_connector_airflow.compat import dags_in

    bag = dags_in(home / "dags")
    assert (set(bag.dags), bag.import_errors) == (DAG_IDS, {}), bag.import_errors
    say(f"the DAG folder's file: {len(bag.dags)} DAGs")

    checked = call("ml-connector", "check", "--fix")
    assert "FAILED" not in checked, checked
    assert checked.count("(LocalFilesystemBackend)") == 2, checked
    say("ml-connector check --fix, with the keys from a secrets backend")

    daily = bag.dags["sync_customers__main"]
    if "brief" in sys.argv:
        approved(test(daily, approved=True), "approved when started", mailchimp)
    else:
        served(bag, mailchimp)

    wrong = json.loads(os.environ["AIRFLOW_CONN_MAILCHIMP_DEFAULT"]) | {"password": "wrong-us99"}
    os.environ["AIRFLOW_CONN_MAILCHIMP_DEFAULT"] = json.dumps(wrong)
    run = test(daily)
    tries = {(each.task_id, str(each.state), each.try_number) for each in run.get_task_instances()}
    assert ("plan", "failed", 1) in tries, tries
    with psycopg.connect(os.environ["AIRFLOW_CONN_ML_CONNECTOR_DB"]) as connection:
        rows = connection.execute("SELECT cause FROM ml_connector.alerts WHERE ended_at IS NULL")
        causes = {cause for (cause,) in rows if not cause.startswith("guard_waiting")}
    assert causes == {"needs_reauth:mailchimp_default"}, causes
    say("a key that Mailchimp refuses: failed at the first try, not retried")


def audience(mailchimp: int) -> int:
    """Return how many contacts the audience has."""
    found = requests.get(
        f"http://127.0.0.1:{mailchimp}/3.0/lists/a1b2c3d4e5/members?count=1",
        auth=("any", "sandbox-key-us99"),
        timeout=10,
    ).json()
    return int(found["total_items"])


def approved(run, said: str, mailchimp: int) -> None:
    """Look at what a run of the daily DAG left at the mock servers."""
    assert str(run.state) == "success", states(run)
    assert audience(mailchimp) == 25
    say(f"dag.test() of the daily DAG: {said}, 25 contacts")


def served(bag, mailchimp: int) -> None:
    """Approve a run by the API of the API server's own application, then use what is mounted there."""
    from airflow import __version__
    from airflow.api_fastapi.app import create_app
    from starlette.testclient import TestClient

    daily = bag.dags["sync_customers__main"]
    with TestClient(create_app(apps="all")) as client:
        known = {"Authorization": f"Bearer {client.get('/auth/token').json()['access_token']}"}
        if __version__.startswith(("3.1.", "3.2.")):  # dag.test() hands no answer to the trigger
            approved(test(daily, approved=True), "approved when started", mailchimp)
        else:
            thread = later(answer, client, known, "Approve")
            approved(test(daily), "approval answered", mailchimp)
            thread.join(timeout=1)
        mounted(client, known, bag.dags["process_webhooks"])


def mounted(client, known: dict[str, str], webhooks) -> None:
    """Use the API server's own application: plugin, console, receiver; then wake the sensor."""
    views = client.get("/api/v2/plugins", headers=known).json()
    (ours,) = [each for each in views["plugins"] if each["name"] == "ml_connector"]
    assert ours["external_views"][0]["name"] == "Connector"
    page = client.get("/ml-connector/console/main/", headers=known)
    assert page.status_code == 200, page.text
    assert "25" in page.text
    say("plugin registered; the console answers")

    wrong = "/ml-connector/webhooks/mailchimp/main?secret=wrong"
    refused = client.post(wrong, data={"type": "unsubscribe"})
    assert refused.status_code in (401, 403), refused.text

    def deliver() -> None:
        time.sleep(3)  # the sensor waits by then
        sent = client.post(
            "/ml-connector/webhooks/mailchimp/main?secret=sandbox-webhook-secret",
            data={
                "type": "unsubscribe",
                "fired_at": "2026-11-30 12:00:00",
                "data[list_id]": "a1b2c3d4e5",
                "data[email]": "nobody@example.com",
                "data[id]": "0123456789",
            },
        )
        assert sent.status_code == 200, sent.text

    thread = later(deliver)
    run = test(webhooks)
    thread.join(timeout=5)
    assert str(run.state) == "success", states(run)
    assert states(run) == {"wait": {"success"}, "process": {"success"}}
    say("a webhook received woke the sensor; process_webhooks ran")


if __name__ == "__main__":
    main()
