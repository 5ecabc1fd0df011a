"""The connection is made for another company than the customers are from: row A40 of docs/behaviour.md."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from ml_connector.activity.queue import queue_activity
from ml_connector.activity.writer import write_activity
from ml_connector.audit import trail
from ml_connector.audit.trail import Chosen
from ml_connector.errors import SettingsError
from ml_connector.privacy.forget import forget
from ml_connector.replay import replay
from ml_connector.sync.fetch_customers import fetch_customers
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests.integration.firm import REALM, Firm, control

AMY, STRANGER = "amy@finch.org", "stranger@elsewhere.org"
OTHER_REALM = "9341450000000002"
REFUSED = f"are from the company {REALM}, but .* is of the company {OTHER_REALM} now"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """Another company's QuickBooks."""
    with serving_in_thread({"quickbooks": create_quickbooks(realm=OTHER_REALM)}) as urls:
        yield urls["quickbooks"]


@pytest.fixture
def amy(firm) -> str:
    """Amy, in the right company and in the audience."""
    id_ = firm.customer("Amy", AMY)
    firm.sync()
    return id_


@pytest.fixture
def connect_elsewhere(firm, elsewhere):
    """Connects the other company, whose first customer has Amy's id."""
    control(elsewhere, "POST", "reset")
    control(elsewhere, "POST", "company", {"empty": True})

    def swap() -> None:
        firm.quickbooks = firm.quickbooks_api = elsewhere
        firm.realm = OTHER_REALM
        firm.customer("Stranger", STRANGER)
        firm.clear_journals()

    return swap


def nothing_happened(firm: Firm) -> bool:
    """Whether the other company was not even asked, and Mailchimp not written to."""
    return firm.calls("quickbooks") == [] and firm.writes() == []


@pytest.mark.parametrize("how", ["delta", "full load", "chosen customers"])
def test_a40_a_run_stops_before_it_reads_the_other_company(firm, amy, connect_elsewhere, how):
    connect_elsewhere()
    assert firm.quickbooks_control("GET", f"customers/{amy}")["GivenName"] == "Stranger"
    with pytest.raises(SettingsError, match=REFUSED) as raised:
        firm.sync(full_sync=how == "full load", ids=[amy] if how == "chosen customers" else ())
    assert "give the sync another name" in str(raised.value)
    assert nothing_happened(firm)
    assert firm.statuses() == {AMY: "subscribed"}


def test_a40_a_webhook_of_the_other_company_waits(firm, amy, connect_elsewhere):
    connect_elsewhere()
    firm.told_by_quickbooks(("updated", amy))
    with pytest.raises(SettingsError, match=REFUSED):
        firm.work_off()
    assert firm.inbox() == {"pending": 1}
    assert nothing_happened(firm)


def test_a40_a_replay_stops(firm, amy, connect_elsewhere):
    connect_elsewhere()
    with firm.database.begin() as connection:
        (created,) = (each["id"] for each in firm.audit() if each["action"] == "create")
        rows = trail.choose(connection, Chosen(ids=(created,)))
    with pytest.raises(SettingsError, match=REFUSED):
        replay(firm.open_sync(), rows)
    assert nothing_happened(firm)


def test_a40_what_members_did_is_not_written_onto_the_other_companys_customers(
    firm, amy, connect_elsewhere
):
    firm.person(AMY, "unsubscribe")
    with pytest.raises(SettingsError, match=REFUSED):
        firm.sync(before_write_back=connect_elsewhere)
    assert nothing_happened(firm)
    scope = firm.scope()
    assert queue_activity(scope) == 1
    with pytest.raises(SettingsError, match=REFUSED):
        write_activity(scope, firm.quickbooks_client(scope.calls))
    assert not firm.record_of(amy).get("Notes")


def test_a40_an_erasure_leaves_the_other_companys_customers_alone_and_stays_unfinished(
    firm, amy, connect_elsewhere
):
    firm.person(AMY, "unsubscribe")
    firm.sync()
    connect_elsewhere()
    target = firm.open_sync()
    done = forget(
        [target],
        database=firm.database,
        vault=firm.vault,
        address=AMY,
        delete_contact=False,
        run=target.scope.run,
    )
    assert not done.finished
    assert REALM in " ".join(done.left)
    assert firm.calls("quickbooks") == []


def test_a40_the_former_company_connected_again_goes_on(firm, amy, connect_elsewhere):
    former = firm.quickbooks
    connect_elsewhere()
    with pytest.raises(SettingsError, match=REFUSED):
        firm.sync()
    firm.quickbooks = firm.quickbooks_api = former
    firm.realm = REALM
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    assert firm.fields(AMY) == {"FNAME": "Amelia"}


def test_a40_under_a_new_name_the_sync_takes_the_other_company(firm, amy, connect_elsewhere):
    connect_elsewhere()
    firm.settings["name"] = "elsewhere"
    firm.sync()
    assert firm.statuses()[STRANGER] == "subscribed"


def test_a40_a_store_from_before_takes_the_company_of_its_next_run_for_its_own(
    firm, amy, connect_elsewhere
):
    with firm.database.begin() as connection:
        connection.execute(text("DELETE FROM ml_connector.cursors WHERE name = 'company'"))
    firm.sync()
    connect_elsewhere()
    with pytest.raises(SettingsError, match=REFUSED):
        firm.sync()


def test_a40_a_sync_that_has_staged_nobody_yet_may_be_given_another_company(
    firm, connect_elsewhere
):
    firm.sync()
    connect_elsewhere()
    firm.pass_time(days=1)
    firm.sync()
    assert firm.statuses() == {STRANGER: "subscribed"}
    scope = firm.scope()
    assert not fetch_customers(scope, firm.quickbooks_client(scope.calls)).full
