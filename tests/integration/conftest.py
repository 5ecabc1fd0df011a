"""A company, an audience and a database of their own for every test, all of them real servers."""

import copy
import itertools
import os
import shutil
import subprocess
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
from tests.integration.company import Company, MockServers
from tests.integration.databases import Databases, Leased

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
def migrated_airflow(tmp_path_factory) -> Path:
    """Airflow's own database as our commands leave it when it was not there, which takes seconds."""
    home: Path = tmp_path_factory.mktemp("airflow")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    code = "from ml_connector_airflow.commands import migrate; migrate.bring_up_to_date()"
    subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        capture_output=True,
        check=True,
        timeout=120,
    )
    return home / "airflow.db"


@pytest.fixture
def airflow_home(migrated_airflow, tmp_path) -> Path:
    """A home of its own for the test's Airflow, with a migrated database."""
    home: Path = tmp_path / "airflow"
    home.mkdir()
    shutil.copy(migrated_airflow, home)
    return home


@pytest.fixture(params=["current", "status_required"])
def contract(request, company) -> str:
    """Both contracts of Mailchimp's batch, one after the other: where consent matters."""
    company.mailchimp_control("PUT", "settings", {"batch_contract": request.param})
    return request.param
