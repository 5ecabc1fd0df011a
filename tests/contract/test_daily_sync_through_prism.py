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
from tests.contract.prism import PrismUnavailableError, Proxy, prism
from tests.integration.firm import Firm, Stand


@pytest.fixture
def firm_behind_prism(tmp_path: Path) -> Iterator[tuple[Firm, Proxy]]:
    apps = {"quickbooks": create_quickbooks(), "mailchimp": create_mailchimp()}
    with serving_in_thread(apps) as urls, temporary() as server:
        try:
            with prism(urls["mailchimp"], tmp_path / "prism.log") as proxy:
                url = server.create_database("contract")
                upgrade(url)
                stand = Stand(quickbooks=urls["quickbooks"], mailchimp=urls["mailchimp"])
                stand.reset()
                firm = Firm(stand=stand, database_url=url, folder=tmp_path)
                firm.mailchimp_api = f"{proxy.url}/3.0"
                yield firm, proxy
                firm.close()
        except PrismUnavailableError as missing:
            pytest.skip(str(missing))


@pytest.mark.parametrize("contract", ["current", "status_required"])
def test_days_of_every_kind_break_no_rule_on_either_side(firm_behind_prism, contract) -> None:
    firm, proxy = firm_behind_prism
    firm.mailchimp_control("PUT", "settings", {"batch_contract": contract})
    firm.quickbooks_control("POST", "company", {"sample": True})
    days = itertools.count(1)

    def day() -> list[str]:
        firm.sync()
        return [f"day {next(days)}: {violation}" for violation in proxy.violations()]

    assert day() == []
    assert len(firm.members()) == 25
    assert day() == []
    firm.edit("1", FamilyName="Changed")
    firm.edit("2", Active=False)
    firm.move("3", "moved@firm-mail.net")
    assert day() == []
    assert firm.statuses()["moved@firm-mail.net"] == "subscribed"
    firm.edit("2", Active=True, DisplayName="Back again")
    assert day() == []
    assert "archived" in firm.statuses().values()
