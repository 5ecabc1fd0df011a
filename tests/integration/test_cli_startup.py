"""What a command costs before it works: no command imports Airflow that can do without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml_connector import cli, settings
from ml_connector_airflow.commands import server
from sandbox.ports import free_port

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
HEAVY = ("airflow", "pandas", "sqlalchemy", "rich", "requests")
SCRIPT = """
import sys
from ml_connector.cli import main
sys.argv[0] = "ml-connector"
try:
    main()
finally:
    found = {name.partition(".")[0] for name in sys.modules}
    print("IMPORTED", *sorted(found), file=sys.stderr)
"""


def run(*arguments: str, **environment: str) -> tuple[int, str, set[str]]:
    """Exit code, output and imported packages of a command."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=mine | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    errors, _, imported = done.stderr.rpartition("IMPORTED ")
    return done.returncode, done.stdout + errors, set(imported.split())


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        (0, ["--help"]),
        (0, ["sync", "--help"]),
        (0, ["audit", "--help"]),
        (0, ["sandbox", "--help"]),
        (2, ["nonsense"]),
        (2, ["sync", "--nonsense"]),
        (2, ["sync", "--sync", "nobody"]),
        (2, ["preview", "--sync", "nobody"]),
        (2, ["register-webhooks", "--sync", "nobody"]),
        (2, ["audit", "--since", "yesterday"]),
        (2, ["replay", "--until", "tomorrow"]),
        (2, ["replay", "--sync", "nobody", "--failed"]),
        (2, ["replay"]),
        (2, ["register-webhooks"]),
        (2, ["register-webhooks", "--url", "http://airflow.example.com"]),
        (2, ["register-webhooks", "--url", "https://[airflow"]),
        (2, ["register-webhooks", "--remove"]),
        (2, ["audit", "verify", "--head", "x"]),
        (2, ["audit", "verify", "--head", "0" * 63]),
        (2, ["forget", "-"]),
        (2, ["forget", "nonsense", "--yes"]),
    ],
)
def test_help_and_wrong_usage_import_nothing_heavy(expected, arguments, tmp_path):
    code, output, imported = run(*arguments, ML_CONNECTOR_HOME=str(tmp_path))
    assert code == expected, output
    assert output.strip()
    assert imported & set(HEAVY) == set()


def test_the_list_of_commands_needs_no_settings_either(tmp_path):
    _, output, imported = run("--help", ML_CONNECTOR_HOME=str(tmp_path))
    assert "register-webhooks" in output
    assert imported & {"pydantic", "yaml"} == set()


AIRFLOWS, CONNECTORS = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW_CONN_ML_CONNECTOR_DB"


@pytest.mark.parametrize(
    ("whose", "variable", "told"),
    [
        ("Airflow's", AIRFLOWS, "postgresql+psycopg2://a:b@127.0.0.1:{port}/airflow"),
        ("the connector's", CONNECTORS, "postgres://a:b@127.0.0.1:{port}/ours?sslmode=disable"),
        (
            "the connector's",
            CONNECTORS,
            '{{"conn_type": "postgres", "host": "127.0.0.1", "port": {port}, "login": "a"}}',
        ),
    ],
)
def test_a_database_that_is_away_is_noticed_before_airflow_is_imported(
    whose, variable, told, tmp_path
):
    port = free_port()
    code, output, imported = run(
        "audit",
        ML_CONNECTOR_HOME=str(tmp_path),
        AIRFLOW_HOME=str(tmp_path),
        **{variable: told.format(port=port)},
    )
    assert code == 1
    assert output == (
        f"ml-connector: {whose} database cannot be used: connection to server at "
        f'"127.0.0.1", port {port} failed: Connection refused\n'
    )
    assert imported & set(HEAVY) == set()


@pytest.mark.parametrize(
    "told",
    [
        "postgres://a:b@one.example,two.example/ours",
        "postgres://a@/ours?host=/run/postgresql",
        "postgres://a@localhost/ours?host=/run/postgresql",
        '{"conn_type": "postgres", "host": "localhost", "extra": {"host": "/run/postgresql"}}',
        '{"conn_type": "postgres"',
        "sqlite:////tmp/airflow.db",
        "",
    ],
)
def test_a_database_that_is_no_single_named_server_is_left_to_its_driver(told):
    assert server.server_of(told) is None


@pytest.mark.parametrize("named", [None, "", "elsewhere"])
def test_the_state_folder_is_that_of_the_settings(monkeypatch, named):
    """The CLI works it out by itself, since the settings' module is slow to import."""
    monkeypatch.delenv("ML_CONNECTOR_HOME", raising=False)
    if named is not None:
        monkeypatch.setenv("ML_CONNECTOR_HOME", named)
    assert cli._home() == settings.home()


IMPORT = """
import sys
from ml_connector_airflow.commands import server
if sys.argv[1] == "quiet":
    server.silence_deprecations()
import airflow
"""


@pytest.mark.parametrize(("way", "warned"), [("quiet", False), ("as it is", True)])
def test_airflows_own_deprecations_do_not_stand_before_our_output(way, warned, tmp_path):
    """The second case fails once Airflow has none any more, and the workaround can go."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, way],
        env=os.environ
        | {
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__LAZY_LOAD_PLUGINS": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert ("Deprecat" in done.stdout + done.stderr) is warned, done.stdout + done.stderr


WITHOUT_DEVELOPMENT = """
import sys
sys.modules["httpx2"] = None
"""
"""What makes Starlette warn is missing from requirements.txt: only tests install it."""


def test_a_command_that_loads_starlette_prints_no_warning(connected_environment):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DEVELOPMENT + SCRIPT, "check"],
        env=connected_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    said, _, imported = done.stderr.rpartition("IMPORTED ")
    assert done.stdout.startswith("ok     settings: ")
    assert said == ""
    assert "starlette" in imported
