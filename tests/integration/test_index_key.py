"""The index key stays for the life of a database; a new one begins in an empty database."""

import pytest

from ml_connector.errors import SettingsError
from ml_connector.vault import Vault
from tests.integration.company import Company
from tests.integration.test_forget import erase

OTHER = b"o" * 32
GIVEN = {"opted": "unsubscribe", "cleaned": "clean", "archived": "archive"}


def address(name: str) -> str:
    return f"{name}@firm-mail.net"


def test_nothing_runs_under_another_index_key(company):
    company.customer("Amy", address("amy"))
    company.sync()
    before = company.statuses()
    company.vault = Vault(encryption_keys=[OTHER], index_key=OTHER)
    company.customer("Ben", address("ben"))
    with pytest.raises(SettingsError, match="ML_CONNECTOR_INDEX_KEY is not the key"):
        company.sync()
    assert company.statuses() == before


@pytest.mark.parametrize("erased_again", [pytest.param(True, marks=pytest.mark.endurance), False])
def test_a_new_index_key_over_an_empty_database_raises_nobodys_consent(
    company, databases, tmp_path, erased_again
):
    names = [*GIVEN, "kept", "forgotten", "deleted", "former"]
    ids = {name: company.customer(name.title(), address(name)) for name in names}
    company.sync()
    for name, action in GIVEN.items():
        company.person(address(name), action)
    company.person(address("former"), "unsubscribe")
    company.sync()
    company.move(ids["former"], address("moved"))
    company.sync()
    erase(company, address("forgotten"))
    erase(company, address("deleted"), delete=True)
    before = company.statuses()
    assert before[address("moved")] == "unsubscribed"

    with databases.leased() as lent:
        anew = Company(
            mock_servers=company.mock_servers,
            database_url=lent.url,
            folder=tmp_path,
            database=lent.database,
        )
        anew.tokens, anew.runs = company.tokens, company.runs
        anew.vault = Vault(encryption_keys=[OTHER], index_key=OTHER)
        if erased_again:
            erase(anew, address("forgotten"))
            erase(anew, address("deleted"))
        anew.sync()
        anew.customer("New", address("new"))
        anew.sync(full_sync=True)
        after = anew.statuses()
    assert after.pop(address("new")) == "subscribed"
    assert after == before
