"""An Airflow of one's own, set up as docs/how-to/install/pip.md says; `ml-connector check` tells what is left."""

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from tests import forks
from tests.integration.conftest import KEY

ROOT = Path(__file__).resolve().parents[2]


def typed(environment: dict[str, str], command: str) -> str:
    done = forks.run(shlex.split(command), env=environment, timeout=180)
    return done.stdout + done.stderr


def test_an_airflow_database_of_another_version_is_named_and_left_alone(
    airflow_environment, airflow_home
):
    with closing(sqlite3.connect(airflow_home / "airflow.db")) as database, database:
        (now,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
        database.execute("UPDATE alembic_version SET version_num = 'dd5f3a8e2b91'")
    # The one command of these tests that is started as a shell starts it, imports and all.
    done = subprocess.run(
        ["ml-connector", "check"],
        env=airflow_environment,
        executable=shutil.which("ml-connector", path=airflow_environment["PATH"]),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "Airflow's database is of another version than this Airflow" in said
    with closing(sqlite3.connect(airflow_home / "airflow.db")) as database:
        (kept,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    assert kept == "dd5f3a8e2b91" != now


def made_pools(airflow_home) -> dict[str, dict]:
    query = (
        "SELECT pool, slots, description, include_deferred FROM slot_pool"
        " WHERE pool <> 'default_pool'"
    )
    with closing(sqlite3.connect(airflow_home / "airflow.db")) as database:
        return {
            name: {"slots": slots, "description": description, "include_deferred": bool(deferred)}
            for name, slots, description, deferred in database.execute(query)
        }


def test_pools_and_paused_dags_are_named_until_the_commands_of_the_page_were_given(
    airflow_environment, airflow_home
):
    page = (ROOT / "docs/how-to/install/pip.md").read_text()
    (unpause,) = re.findall(r"^(airflow dags unpause .*)$", page, re.MULTILINE)

    first = typed(airflow_environment, "ml-connector check")
    assert "FAILED pools: missing: mailchimp_api, quickbooks_api, webhooks;" in first
    assert "warn   DAGs for every sync: Airflow has not read them yet" in first

    fixed = typed(airflow_environment, "ml-connector check --fix")
    assert "webhooks are there, added mailchimp_api, quickbooks_api, webhooks" in fixed
    assert made_pools(airflow_home) == json.loads((ROOT / "deploy/pools.json").read_text())
    typed(airflow_environment, "airflow dags reserialize")
    then = typed(airflow_environment, "ml-connector check")
    assert "ok     pools: mailchimp_api, quickbooks_api, webhooks are there" in then
    services = "process_webhooks, refresh_quickbooks_tokens, replay_audit, undo_run, verify_audit"
    assert "warn   DAGs for every sync: paused, so webhooks, tokens and alerts do not work" in then
    assert f": {services}. Run `" in then
    (command,) = re.findall(r"Run `(airflow dags unpause --yes .*)`$", then, re.MULTILINE)

    typed(airflow_environment, command)
    last = typed(airflow_environment, "ml-connector check")
    assert f"ok     DAGs for every sync: {services}, not paused" in last
    assert set(re.findall(r"\w+", command)) == set(re.findall(r"\w+", unpause))
    listed = typed(
        airflow_environment, "airflow dags list --columns dag_id,is_paused --output plain"
    )
    assert re.search(r"^replay_audit +False$", listed, re.MULTILINE), listed
    assert re.search(r"^sync_customers__main +True$", listed, re.MULTILINE), listed


def test_check_fails_without_a_fernet_key_and_names_the_command_that_makes_one(airflow_environment):
    said = typed({**airflow_environment, "AIRFLOW__CORE__FERNET_KEY": ""}, "ml-connector check")
    assert "FAILED Fernet key: Airflow has none" in said
    assert "openssl rand -base64 32" in said
    assert "ok     Fernet key: connections and tokens are encrypted" in typed(
        airflow_environment, "ml-connector check"
    )


def test_check_tells_the_places_of_the_keys_and_warns_of_airflows_own_database(airflow_environment):
    keys = ("ml_connector_secret_encryption_keys", "ml_connector_secret_index_key")
    kept = airflow_environment["ML_CONNECTOR_HOME"]
    given = {f"AIRFLOW_VAR_{name.upper()}": KEY for name in keys}
    said = typed({**airflow_environment, **given}, "ml-connector check")
    assert re.search(
        rf"^ok     keys: encryption keys from Variable {keys[0]} \(EnvironmentVariablesBackend\),"
        rf" index key from Variable {keys[1]} \(EnvironmentVariablesBackend\)$",
        said,
        re.MULTILINE,
    ), said
    for name in keys:
        typed(airflow_environment, f"airflow variables set {name} {KEY}")
    stored = typed(airflow_environment, "ml-connector check")
    assert f"{keys[0]} (MetastoreBackend), index key from Variable {keys[1]}" in stored
    assert f"Airflow's own database holds {keys[0]} and {keys[1]}, next to" in stored
    assert "warn   keys: " in stored
    assert not Path(kept).exists()
    given = {"ML_CONNECTOR_ENCRYPTION_KEYS": KEY, "ML_CONNECTOR_INDEX_KEY": KEY}
    both = typed({**airflow_environment, **given}, "ml-connector check")
    assert "encryption keys from ML_CONNECTOR_ENCRYPTION_KEYS, index key from" in both
    assert "Airflow's own database holds" in both
    assert KEY not in said + stored + both


def test_check_names_a_secrets_backend_that_refuses_and_goes_on(airflow_environment):
    refusing = {
        "AIRFLOW__SECRETS__BACKEND": "tests.refusing_secrets.RefusingSecrets",
        "AIRFLOW_CONN_ML_CONNECTOR_DB": "postgres://nobody@127.0.0.1:1/none",  # asked for later
    }
    said = typed({**airflow_environment, **refusing}, "ml-connector check")
    assert (
        "FAILED keys: secrets backend RefusingSecrets: Variable ml_connector_secret_encryption_keys"
        " cannot be read (AccessDeniedException)." in said
    ), said
    assert "FAILED main: keys and connections: secrets backend RefusingSecrets" in said
    assert "defect" not in said
    assert "123456789012" not in said
