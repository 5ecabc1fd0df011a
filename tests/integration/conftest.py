"""A company, an audience and a database of their own for every test, all of them real servers."""

import base64
import copy
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from local.postgres import temporary
from ml_connector.store.migrate import upgrade
from sandbox import memory
from sandbox.control import Instrumented
from sandbox.mailchimp.app import create_app as create_mailchimp
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests import forks
from tests.integration.company import AUDIENCE, REALM, Company, MockServers
from tests.integration.databases import Databases, Leased
from tests.integration.receiving import TOKEN

ROOT = Path(__file__).resolve().parents[2]
KEY = "A" * 43 + "="

_numbers = itertools.count(1)

Scenario = Callable[[Company], None]


@pytest.fixture(scope="session")
def postgres() -> Iterator[object]:
    """One throwaway server a worker; each test gets a database of its own on it."""
    with temporary() as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres) -> str:
    """A migrated database that others are copied from."""
    postgres.create_database("template_ml")
    upgrade(postgres.url("template_ml"))
    return "template_ml"


@pytest.fixture(scope="session")
def databases(postgres, template_database) -> Databases:
    """Migrated, empty databases."""
    return Databases(postgres, template_database)


@pytest.fixture
def leased_database(databases) -> Iterator[Leased]:
    """An empty, migrated database for one test."""
    with databases.leased() as lent:
        yield lent


@pytest.fixture
def database_url(leased_database) -> str:
    """Its address."""
    return leased_database.url


@pytest.fixture(scope="session")
def mock_apps() -> dict[str, Instrumented]:
    """Both mock servers."""
    return {"quickbooks": create_quickbooks(), "mailchimp": create_mailchimp()}


@pytest.fixture(scope="session")
def mock_servers(mock_apps) -> Iterator[MockServers]:
    """The same, served over HTTP for the whole session; reset before each test."""
    with serving_in_thread(mock_apps) as urls:
        yield MockServers(quickbooks=urls["quickbooks"], mailchimp=urls["mailchimp"])


@pytest.fixture
def fresh_company(mock_servers, databases, tmp_path) -> Callable[..., Any]:
    """Opens any number of new companies, one after the other: for a test that is many examples."""

    @contextmanager
    def opened(template: str = "") -> Iterator[Company]:
        mock_servers.reset()
        with databases.copied(template) if template else databases.leased() as lent:
            yield Company(
                mock_servers=mock_servers,
                database_url=lent.url,
                folder=Path(tmp_path),
                database=lent.database,
            )

    return opened


@pytest.fixture
def company_after(
    fresh_company, mock_apps, postgres, tmp_path
) -> Iterator[Callable[[Scenario], Any]]:
    """Opens new companies after a scenario, which is played once: what it left is copied for each."""
    remembered = {name: mock_app.remembers for name, mock_app in mock_apps.items()}
    played: dict[Scenario, tuple[str, Path, dict[str, Any]]] = {}

    def play(scenario: Scenario) -> tuple[str, Path, dict[str, Any]]:
        name = f"scenario{os.getpid()}_{next(_numbers)}"
        with fresh_company() as company:
            scenario(company)
            company.database.close()
            postgres.create_database(name, template=make_url(company.database_url).database)
            memory.save(tmp_path / name, remembered)
            own = {each: getattr(company, each) for each in ("settings", "tokens", "ahead", "runs")}
        return name, tmp_path / name, own

    @contextmanager
    def opened(scenario: Scenario) -> Iterator[Company]:
        if scenario not in played:
            played[scenario] = play(scenario)
        template, file, own = played[scenario]
        with fresh_company(template) as company:
            memory.load(file, remembered)
            vars(company).update(copy.deepcopy(own))
            yield company

    yield opened
    for name, *_ in played.values():
        postgres.drop_database(name)


@pytest.fixture
def company(mock_servers, leased_database, tmp_path) -> Company:
    """An empty company, an empty audience and the connector between them."""
    mock_servers.reset()
    return Company(
        mock_servers=mock_servers,
        database_url=leased_database.url,
        folder=Path(tmp_path),
        database=leased_database.database,
    )


@pytest.fixture(scope="session")
def airflow_folders(tmp_path_factory) -> Path:
    """The worker's Airflow: all its tests have the same home, so its commands fork (tests.forks)."""
    folders: Path = tmp_path_factory.mktemp("airflow")
    return folders


def environment_of(home: Path, state: Path) -> dict[str, str]:
    """An Airflow that was given our folders and nothing else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {
        **kept,
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(b"f" * 32).decode(),
        "ML_CONNECTOR_HOME": str(state),
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture(scope="session")
def migrated_airflow(airflow_folders) -> Path:
    """Airflow's own database as our commands leave it when it was not there, which takes seconds."""
    home, state = airflow_folders / "home", airflow_folders / "state"
    forks.run(["ml-connector", "check"], env=environment_of(home, state))
    return Path(shutil.move(home / "airflow.db", airflow_folders / "airflow.db"))


@pytest.fixture
def airflow_home(migrated_airflow, airflow_folders) -> Path:
    """A home as new for the test's Airflow, with a migrated database."""
    home: Path = airflow_folders / "home"
    shutil.rmtree(home)
    home.mkdir()
    shutil.copy(migrated_airflow, home)
    return home


@pytest.fixture
def airflow_environment(airflow_home, tmp_path) -> dict[str, str]:
    """An Airflow that was given our folders and nothing else."""
    return environment_of(airflow_home, tmp_path / "state")


@pytest.fixture
def connected_environment(company, airflow_environment, tmp_path) -> dict[str, str]:
    """The same with connections to the mock servers, and settings of this audience."""
    syncs = tmp_path / "syncs.yaml"
    shipped = (ROOT / "include/config/syncs.yaml").read_text()
    unasked = shipped.replace("first_run: ask", "first_run: write")
    syncs.write_text(re.sub(r"audience_id: \S+", f"audience_id: {AUDIENCE}", unasked))
    quickbooks = {
        "conn_type": "quickbooks",
        "host": company.quickbooks,
        "login": "sandbox-client",
        "password": "sandbox-secret",
        "extra": {"realm_id": REALM, "webhook_verifier_token": TOKEN},
    }
    mailchimp = {
        "conn_type": "mailchimp",
        "host": company.mailchimp_api,
        "password": company.mailchimp_key,
    }
    return {
        **airflow_environment,
        "ML_CONNECTOR_SYNCS": str(syncs),
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(quickbooks),
        "AIRFLOW_CONN_MAILCHIMP_DEFAULT": json.dumps(mailchimp),
        "AIRFLOW_CONN_ML_CONNECTOR_DB": company.database_url.replace("+psycopg", ""),
    }


@pytest.fixture
def run(company, connected_environment) -> Callable[..., tuple[int, str]]:
    """Runs a command with what is typed into it; returns its exit code and what it said.

    The Airflow is the connected one, with the company's keys and a token.
    """
    quickbooks = json.loads(connected_environment["AIRFLOW_CONN_QUICKBOOKS_DEFAULT"])
    quickbooks["extra"]["token_url"] = f"{company.quickbooks}/oauth2/v1/tokens/bearer"
    given = {
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(quickbooks),
        "ML_CONNECTOR_INDEX_KEY": KEY,
        "AIRFLOW_VAR_QUICKBOOKS_TOKEN__QUICKBOOKS_DEFAULT": json.dumps(
            {"refresh_token": "sandbox-refresh-token"}
        ),
    }

    def ran(*words: str, typed: str = "", keys: str = KEY) -> tuple[int, str]:
        env = {**connected_environment, **given, "ML_CONNECTOR_ENCRYPTION_KEYS": keys}
        done = forks.run(["ml-connector", *words], env=env, input=typed)
        return done.returncode, done.stdout + done.stderr

    return ran


@pytest.fixture(params=["current", "status_required"])
def contract(request, company) -> str:
    """Both contracts of Mailchimp's batch, one after the other: where consent matters."""
    company.mailchimp_control("PUT", "settings", {"batch_contract": request.param})
    return request.param
