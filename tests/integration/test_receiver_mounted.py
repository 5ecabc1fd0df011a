"""The plugin: the receiver on Airflow's own API server, which has to live whatever is missing."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests
from sqlalchemy import create_engine, text

from ml_connector.quickbooks import webhooks as quickbooks
from sandbox.ports import free_port
from tests import forks
from tests.integration.company import REALM
from tests.integration.receiving import TOKEN, cloud_event
from tests.started import ended_with_the_block, wait_until_ready

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "/ml-connector/webhooks"


@pytest.fixture
def environment(airflow_environment):
    return {
        **airflow_environment,
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(
            {
                "conn_type": "quickbooks",
                "extra": {"realm_id": REALM, "webhook_verifier_token": TOKEN},
            }
        ),
    }


@contextmanager
def api_server(environment: dict[str, str], log: Path) -> Iterator[str]:
    port = free_port()
    command = ["airflow", "api-server", "--port", str(port), "--workers", "1"]
    with (
        forks.start(command, env=environment, log=log) as process,
        ended_with_the_block(process),
    ):
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, f"{url}/api/v2/version", log=log)
        yield url


EVENT = cloud_event(1)


def deliver(url: str, token: str = TOKEN) -> requests.Response:
    body = json.dumps([EVENT]).encode()
    headers = {"intuit-signature": quickbooks.signature(body, token).decode()}
    return requests.post(f"{url}{PREFIX}/quickbooks", data=body, headers=headers, timeout=30)


def accepted(url: str) -> bool:
    """Deliver until it is taken, as QuickBooks does: a busy machine answers 503 at first."""
    return 200 in (deliver(url).status_code for _ in range(10))


@pytest.mark.endurance  # tests/dags/test_mounted_receiver.py, test_receiver.py promise the same
def test_the_api_server_receives_webhooks_and_lives_without_our_settings(
    environment, database_url, tmp_path
):
    log = tmp_path / "api-server.log"
    with api_server(environment, log) as url:
        refused = deliver(url)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert requests.get(f"{url}/api/v2/version", timeout=30).ok
    assert "there is no Airflow connection 'ml_connector_db'" in log.read_text()

    environment["AIRFLOW_CONN_ML_CONNECTOR_DB"] = database_url.replace("+psycopg", "")
    with api_server(environment, log) as url:
        assert accepted(url)
        assert deliver(url, token="wrong").status_code == 401
        secret = f"{url}{PREFIX}/mailchimp/main?secret=guessed-secret"
        assert requests.get(secret, timeout=30).status_code == 200
        assert requests.post(secret, data=b"type=x", timeout=30).status_code == 401
        for path in ("/docs", "/openapi.json", "/redoc"):
            assert requests.get(url + PREFIX + path, timeout=30).status_code == 404
        large = requests.post(f"{url}{PREFIX}/quickbooks", data=b"x" * (2 << 20), timeout=30)
        assert large.status_code == 413
    with create_engine(database_url).connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM ml_connector.webhook_inbox"))
        assert count.scalar_one() == 1
    said = log.read_text()
    assert "register-webhooks" in said  # what to do about the refusal
    assert TOKEN not in said
    assert "guessed-secret" not in said


WAITS = """
    INSERT INTO trigger (classpath, kwargs, created_date)
        VALUES ('ml_connector_airflow.triggers.inbox.InboxTrigger', '{}', datetime('now'));
    UPDATE task_instance SET state = 'deferred', trigger_id = (SELECT max(id) FROM trigger)
        WHERE task_id = 'wait';
"""
"""What the scheduler stores when a run begins to wait."""


@pytest.mark.endurance
def test_a_delivery_ends_the_wait_of_the_run_that_waits_and_touches_no_other_task(
    environment, airflow_home, database_url, tmp_path
):
    environment["AIRFLOW_CONN_ML_CONNECTOR_DB"] = database_url.replace("+psycopg", "")
    for command in ("reserialize", "trigger process_webhooks"):
        forks.run(["airflow", "dags", *command.split()], env=environment)
    with closing(sqlite3.connect(airflow_home / "airflow.db", timeout=30)) as airflow:

        def states() -> dict[str, str | None]:
            return dict(airflow.execute("SELECT task_id, state FROM task_instance").fetchall())

        with api_server(environment, tmp_path / "api-server.log") as url:
            assert states() == {"wait": None, "process": None}
            assert accepted(url)  # and no run waits: nothing to end
            airflow.executescript(WAITS)
            assert accepted(url)  # delivered again: it is due as before
            deadline = time.monotonic() + 60
            while states()["wait"] != "success":
                assert time.monotonic() < deadline, (tmp_path / "api-server.log").read_text()
                time.sleep(0.1)
        assert states() == {"wait": "success", "process": None}
        runs = airflow.execute("SELECT count(*) FROM dag_run WHERE dag_id = 'process_webhooks'")
        assert runs.fetchone() == (1,)


def test_the_plugin_costs_a_task_nothing():
    code = (
        "import sys, airflow.plugins_manager as m; before = set(sys.modules);"
        f"sys.path.insert(0, {str(ROOT / 'plugins')!r});"
        "import ml_connector_plugin, ml_connector_airflow.plugin;"
        "print(*(n for n in set(sys.modules) - before if n.startswith(('ml_connector', 'pandas'))))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    ours = {"ml_connector_plugin", "ml_connector", "ml_connector.errors"}
    ours |= {"ml_connector.secret_source", "ml_connector.settings_source", "ml_connector_airflow"}
    ours |= {f"ml_connector_airflow.{name}" for name in ("key_places", "plugin", "settings_places")}
    assert set(found.stdout.split()) <= ours


def test_the_form_of_a_connection_costs_no_database_driver():
    code = (
        "import sys, airflow.providers.http.hooks.http; before = set(sys.modules);"
        "import ml_connector_airflow.hooks.quickbooks, ml_connector_airflow.hooks.mailchimp;"
        "print(sorted(set(sys.modules) - before))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "ml_connector.quickbooks.client" in found.stdout
    assert not [name for name in ("psycopg", "pandas") if f"'{name}'" in found.stdout]
