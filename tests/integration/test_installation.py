"""An Airflow of one's own, set up as docs/connect.md says; `ml-connector check` tells what is left."""

import base64
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.prefix) / "bin"


@pytest.fixture
def environment(airflow_home, tmp_path):
    """An Airflow that was given our folders and nothing else."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(b"f" * 32).decode(),
        "ML_CONNECTOR_HOME": str(tmp_path / "state"),
    }


def typed(environment: dict[str, str], command: str) -> str:
    done = subprocess.run(
        shlex.split(command),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.stdout + done.stderr


def test_an_airflow_database_of_another_version_is_named_and_left_alone(environment, airflow_home):
    with closing(sqlite3.connect(airflow_home / "airflow.db")) as database, database:
        (now,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
        database.execute("UPDATE alembic_version SET version_num = 'dd5f3a8e2b91'")
    said = typed(environment, "ml-connector check")
    assert "Airflow's database is of another version than this Airflow" in said
    with closing(sqlite3.connect(airflow_home / "airflow.db")) as database:
        (kept,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    assert kept == "dd5f3a8e2b91" != now


def test_pools_and_paused_dags_are_named_until_the_commands_of_the_page_were_given(environment):
    page = (ROOT / "docs" / "connect.md").read_text()
    (pools,) = re.findall(r"`(airflow pools import [^`]+)`", page)
    (unpause,) = re.findall(r"^\$ (airflow dags unpause .*)$", page, re.MULTILINE)

    first = typed(environment, "ml-connector check")
    assert "FAILED pools: missing: mailchimp_api, quickbooks_api, webhooks;" in first
    assert "DAGs for every sync: Airflow has not read them yet" in first

    typed(environment, pools)
    typed(environment, "airflow dags reserialize")
    then = typed(environment, "ml-connector check")
    assert "ok     pools: mailchimp_api, quickbooks_api, webhooks are there" in then
    services = "process_webhooks, refresh_quickbooks_tokens, verify_audit"
    assert f"DAGs for every sync: paused, so they do nothing: {services}" in then

    typed(environment, unpause)
    last = typed(environment, "ml-connector check")
    assert f"ok     DAGs for every sync: {services} are not paused" in last
    listed = typed(environment, "airflow dags list --columns dag_id,is_paused --output plain")
    assert re.search(r"^replay_audit +False$", listed, re.MULTILINE), listed
    assert re.search(r"^sync_customers__main +True$", listed, re.MULTILINE), listed
