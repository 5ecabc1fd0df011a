"""A company, an audience and a database of their own for every test, all of them real servers."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.postgres import temporary
from ml_connector.store.migrate import upgrade
from sandbox.mailchimp.app import create_app as create_mailchimp
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests.integration.firm import Firm, Stand

_numbers = itertools.count(1)


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


@pytest.fixture
def database_url(postgres, template_database) -> Iterator[str]:
    """A fresh, migrated database, dropped at the end: hundreds of them are gigabytes."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    postgres.create_database(name, template=template_database)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    """Both stand-ins, served over HTTP for the whole session; reset before each test."""
    apps = {"quickbooks": create_quickbooks(), "mailchimp": create_mailchimp()}
    with serving_in_thread(apps) as urls:
        yield Stand(quickbooks=urls["quickbooks"], mailchimp=urls["mailchimp"])


@pytest.fixture
def fresh_firm(stand, postgres, template_database, tmp_path) -> Callable[[], Any]:
    """Opens any number of new firms, one after the other: for a test that is many examples."""

    @contextmanager
    def opened() -> Iterator[Firm]:
        stand.reset()
        name = f"t{os.getpid()}_{next(_numbers)}"
        postgres.create_database(name, template=template_database)
        firm = Firm(stand=stand, database_url=postgres.url(name), folder=Path(tmp_path))
        try:
            yield firm
        finally:
            firm.close()
            postgres.drop_database(name)

    return opened


@pytest.fixture
def firm(stand, database_url, tmp_path) -> Iterator[Firm]:
    """An empty company, an empty audience and the connector between them."""
    stand.reset()
    firm = Firm(stand=stand, database_url=database_url, folder=Path(tmp_path))
    yield firm
    firm.close()


@pytest.fixture(params=["current", "status_required"])
def contract(request, firm) -> str:
    """Both contracts of Mailchimp's batch, one after the other: where consent matters."""
    firm.mailchimp_control("PUT", "settings", {"batch_contract": request.param})
    return request.param
