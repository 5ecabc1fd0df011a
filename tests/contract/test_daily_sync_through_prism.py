"""The daily sync keeps to Mailchimp's published contract, and so do the answers it is shown.

A day of every kind runs through Prism: the first load of Intuit's sample company, a quiet day, and
one with an update, an address change, an archive and a customer who comes back.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.postgres import temporary
from ml_connector.store.migrate import upgrade
from sandbox.mailchimp.app import create_app as create_mailchimp
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests.contract.npm import NodeMissingError
from tests.contract.prism import Proxy, prism
from tests.integration.company import Company, MockServers


@pytest.fixture
def company_behind_prism(tmp_path: Path) -> Iterator[tuple[Company, Proxy]]:
    apps = {"quickbooks": create_quickbooks(), "mailchimp": create_mailchimp()}
    with serving_in_thread(apps) as urls, temporary() as server:
        try:
            with prism(urls["mailchimp"], tmp_path / "prism.log") as proxy:
                url = server.create_database("contract")
                upgrade(url)
                mock_servers = MockServers(
                    quickbooks=urls["quickbooks"], mailchimp=urls["mailchimp"]
                )
                mock_servers.reset()
                company = Company(mock_servers=mock_servers, database_url=url, folder=tmp_path)
                company.mailchimp_api = f"{proxy.url}/3.0"
                yield company, proxy
                company.close()
        except NodeMissingError as missing:
            pytest.skip(str(missing))


@pytest.mark.parametrize("contract", ["current", "status_required"])
def test_days_of_every_kind_break_no_rule_on_either_side(company_behind_prism, contract) -> None:
    company, proxy = company_behind_prism
    company.mailchimp_control("PUT", "settings", {"batch_contract": contract})
    company.quickbooks_control("POST", "company", {"sample": True})
    days = itertools.count(1)

    def day() -> list[str]:
        company.sync()
        return [f"day {next(days)}: {violation}" for violation in proxy.violations()]

    assert day() == []
    assert len(company.members()) == 25
    assert day() == []
    company.edit("1", FamilyName="Changed")
    company.edit("2", Active=False)
    company.move("3", "moved@firm-mail.net")
    assert day() == []
    assert company.statuses()["moved@firm-mail.net"] == "subscribed"
    company.edit("2", Active=True, DisplayName="Back again")
    assert day() == []
    assert "archived" in company.statuses().values()
