"""The connection is made for another company than the customers are from: row A40 of docs/reference/behaviour.md."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from ml_connector.activity.queue import queue_activity
from ml_connector.activity.writer import write_activity
from ml_connector.audit import trail
from ml_connector.audit.trail import Selection
from ml_connector.errors import SettingsError
from ml_connector.privacy.forget import forget
from ml_connector.replay import replay
from ml_connector.sync.fetch_customers import fetch_customers
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests.integration.company import REALM, Company, control

AMY, STRANGER = "amy@finch.org", "stranger@elsewhere.org"
OTHER_REALM = "9341450000000002"
REFUSED = f"are from the company {REALM}, but .* is of the company {OTHER_REALM} now"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """Another company's QuickBooks."""
    with serving_in_thread({"quickbooks": create_quickbooks(realm=OTHER_REALM)}) as urls:
        yield urls["quickbooks"]


@pytest.fixture
def amy(company) -> str:
    """Amy, in the right company and in the audience."""
    id_ = company.customer("Amy", AMY)
    company.sync()
    return id_


@pytest.fixture
def connect_elsewhere(company, elsewhere):
    """Connects the other company, whose first customer has Amy's id."""
    control(elsewhere, "POST", "reset")
    control(elsewhere, "POST", "company", {"empty": True})

    def swap() -> None:
        company.quickbooks = company.quickbooks_api = elsewhere
        company.realm = OTHER_REALM
        company.customer("Stranger", STRANGER)
        company.clear_journals()

    return swap


def nothing_happened(company: Company) -> bool:
    """Whether the other company was not even asked, and Mailchimp not written to."""
    return company.calls("quickbooks") == [] and company.writes() == []


@pytest.mark.parametrize("how", ["delta", "full load", "chosen customers"])
def test_a40_a_run_stops_before_it_reads_the_other_company(company, amy, connect_elsewhere, how):
    connect_elsewhere()
    assert company.quickbooks_control("GET", f"customers/{amy}")["GivenName"] == "Stranger"
    with pytest.raises(SettingsError, match=REFUSED) as raised:
        company.sync(full_sync=how == "full load", ids=[amy] if how == "chosen customers" else ())
    assert "give the sync another name" in str(raised.value)
    assert nothing_happened(company)
    assert company.statuses() == {AMY: "subscribed"}


def test_a40_a_webhook_of_the_other_company_waits(company, amy, connect_elsewhere):
    connect_elsewhere()
    company.told_by_quickbooks(("updated", amy))
    with pytest.raises(SettingsError, match=REFUSED):
        company.work_off()
    assert company.inbox() == {"pending": 1}
    assert nothing_happened(company)


def test_a40_a_replay_stops(company, amy, connect_elsewhere):
    connect_elsewhere()
    with company.database.begin() as connection:
        (created,) = (each["id"] for each in company.audit() if each["action"] == "create")
        rows = trail.select(connection, Selection(ids=(created,)))
    with pytest.raises(SettingsError, match=REFUSED):
        replay(company.open_sync(), rows)
    assert nothing_happened(company)


def test_a40_what_members_did_is_not_written_onto_the_other_companys_customers(
    company, amy, connect_elsewhere
):
    company.person(AMY, "unsubscribe")
    with pytest.raises(SettingsError, match=REFUSED):
        company.sync(before_write_back=connect_elsewhere)
    assert nothing_happened(company)
    scope = company.scope()
    assert queue_activity(scope) == 1
    with pytest.raises(SettingsError, match=REFUSED):
        write_activity(scope, company.quickbooks_client(scope.calls))
    assert not company.record_of(amy).get("Notes")


def test_a40_an_erasure_leaves_the_other_companys_customers_alone_and_stays_unfinished(
    company, amy, connect_elsewhere
):
    company.person(AMY, "unsubscribe")
    company.sync()
    connect_elsewhere()
    target = company.open_sync()
    done = forget(
        [target],
        database=company.database,
        vault=company.vault,
        address=AMY,
        delete_contact=False,
        run=target.scope.run,
    )
    assert not done.finished
    assert REALM in " ".join(done.left)
    assert company.calls("quickbooks") == []


def test_a40_the_former_company_connected_again_goes_on(company, amy, connect_elsewhere):
    former = company.quickbooks
    connect_elsewhere()
    with pytest.raises(SettingsError, match=REFUSED):
        company.sync()
    company.quickbooks = company.quickbooks_api = former
    company.realm = REALM
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Amelia"}


def test_a40_under_a_new_name_the_sync_takes_the_other_company(company, amy, connect_elsewhere):
    connect_elsewhere()
    company.settings["name"] = "elsewhere"
    company.sync()
    assert company.statuses()[STRANGER] == "subscribed"


def test_a40_a_store_from_before_takes_the_company_of_its_next_run_for_its_own(
    company, amy, connect_elsewhere
):
    with company.database.begin() as connection:
        connection.execute(text("DELETE FROM ml_connector.cursors WHERE name = 'company'"))
    company.sync()
    connect_elsewhere()
    with pytest.raises(SettingsError, match=REFUSED):
        company.sync()


def test_a40_a_sync_that_has_staged_nobody_yet_may_be_given_another_company(
    company, connect_elsewhere
):
    company.sync()
    connect_elsewhere()
    company.pass_time(days=1)
    company.sync()
    assert company.statuses() == {STRANGER: "subscribed"}
    scope = company.scope()
    assert not fetch_customers(scope, company.quickbooks_client(scope.calls)).full
