"""Several companies and audiences beside each other: row A39 of docs/reference/behaviour.md, and what is apart."""

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from ml_connector.console.access import Caller, Right
from ml_connector.quickbooks import webhooks as quickbooks_webhooks
from ml_connector.webhooks import inbox
from ml_connector.webhooks.worker import process_inbox
from sandbox.quickbooks.app import create_app as create_quickbooks
from sandbox.running import serving_in_thread
from tests.integration.company import AUDIENCE, REALM, Company, MockServers, control
from tests.integration.test_console import FakeOutside, Visitor
from tests.integration.token_worker import STRICT

AMY, BEN = "amy@finch.org", "ben@finch.org"
WEST_REALM = "9341450000000002"
WEST_AUDIENCE = "b2c3d4e5f6"
OWNED = ("skipped", "owned_by_another_sync")


@pytest.fixture(scope="module")
def western_company() -> Iterator[str]:
    """Another company's QuickBooks."""
    with serving_in_thread({"quickbooks": create_quickbooks(realm=WEST_REALM)}) as urls:
        yield urls["quickbooks"]


@pytest.fixture
def east(company) -> Company:
    company.settings |= {"name": "east", "tags": ["East"]}
    company.mailchimp_control("POST", "audiences", {"id": WEST_AUDIENCE, "merge_fields": []})
    return company


@pytest.fixture
def west(east, western_company) -> Iterator[Company]:
    """A second sync in the same database: another company, and another audience."""
    mock_servers = MockServers(quickbooks=western_company, mailchimp=east.mailchimp)
    control(western_company, "POST", "reset")
    control(western_company, "POST", "company", {"empty": True})
    company = Company(mock_servers=mock_servers, database_url=east.database_url, folder=east.folder)
    company.realm = WEST_REALM
    company.settings |= {
        "name": "west",
        "audience_id": WEST_AUDIENCE,
        "quickbooks_conn_id": "quickbooks_west",
        "tags": ["West"],
        "fields": {},
    }
    yield company
    company.close()


@pytest.fixture
def brands(east) -> Iterator[tuple[Company, Company]]:
    """Two syncs of one company and one connection, into two audiences, by customer type."""
    east.quickbooks_control("PUT", "customer-types", {"1": "Retail", "2": "Trade"})
    east.settings["include"] = {"customer_type": ["Retail"]}
    other = Company(
        mock_servers=east.mock_servers, database_url=east.database_url, folder=east.folder
    )
    other.tokens = east.tokens
    other.settings |= {
        "name": "trade",
        "audience_id": WEST_AUDIENCE,
        "include": {"customer_type": ["Trade"]},
        "tags": [],
        "fields": {},
    }
    yield east, other
    other.close()


@pytest.fixture
def shared(east, west) -> tuple[Company, Company]:
    """Two companies that feed one audience."""
    east.settings["beside"] = {"west": False}
    west.settings |= {"audience_id": AUDIENCE, "beside": {"east": True}}
    return east, west


def audience(company: Company, audience_id: str) -> dict[str, str]:
    found = company.mailchimp_control("GET", f"members?audience={audience_id}")["members"]
    return {member["email_address"]: member["status"] for member in found}


def decided(company: Company) -> dict[str, tuple[str, str]]:
    with company.database.begin() as connection:
        rows = connection.execute(
            text("""SELECT customer_id, decision, reason FROM ml_connector.customers
                    WHERE sync = :sync"""),
            {"sync": company.sync_settings().name},
        ).all()
    return {row[0]: (row[1], row[2]) for row in rows}


def told(company: Company, customer_id: str) -> list[tuple[str, str, str]]:
    mine = (company.sync_settings().name, customer_id)
    rows = [row for row in company.audit() if (row["sync"], row["customer_id"]) == mine]
    return [(row["action"], row["reason"], row["outcome"]) for row in rows]


def test_two_companies_fill_two_audiences_each_by_its_own_rules(east, west):
    west.settings |= {"include_jobs": False, "new_contact_status": "transactional"}
    east.customer("Amy", AMY)
    amy = west.customer("Amy", AMY)  # the same id and address as in the east
    west.customer("Attic", "attic@finch.org", Job=True, ParentRef={"value": amy})
    for company in (east, west):
        company.sync()
    assert audience(east, AUDIENCE) == {AMY: "subscribed"}
    assert audience(east, WEST_AUDIENCE) == {AMY: "transactional"}
    west.edit(amy, Active=False)
    for company in (east, west):
        company.sync()
    assert audience(east, AUDIENCE) == {AMY: "subscribed"}
    assert audience(east, WEST_AUDIENCE) == {AMY: "archived"}


def test_one_company_fills_two_audiences_by_customer_type(brands):
    retail, _ = brands
    amy = retail.customer("Amy", AMY, CustomerTypeRef={"value": "1"})
    retail.customer("Ben", BEN, CustomerTypeRef={"value": "2"})
    for company in brands:
        company.sync()
    assert audience(retail, AUDIENCE) == {AMY: "subscribed"}
    assert audience(retail, WEST_AUDIENCE) == {BEN: "subscribed"}
    retail.edit(amy, CustomerTypeRef={"value": "2"})
    for company in brands:
        company.sync()
    assert audience(retail, AUDIENCE) == {AMY: "archived"}
    assert audience(retail, WEST_AUDIENCE) == {AMY: "subscribed", BEN: "subscribed"}


def test_syncs_that_share_a_connection_redeem_its_refresh_token_once(brands):
    retail, _ = brands
    retail.quickbooks_control("PUT", "settings", STRICT | {"token_latency_ms": 300})
    retail.customer("Amy", AMY, CustomerTypeRef={"value": "1"})
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(company.sync) for company in brands]:
            done.result()
    calls = control(retail.quickbooks, "GET", "journal?kind=token")["calls"]
    assert [call["status"] for call in calls] == [200]


def test_a_companys_webhook_reaches_each_of_its_syncs_and_no_other(brands, west):
    retail, trade = brands
    west.settings |= {"audience_id": "c3d4e5f6a7", "name": "west"}
    retail.mailchimp_control("POST", "audiences", {"id": "c3d4e5f6a7", "merge_fields": []})
    both = [retail.customer("Amy", AMY, CustomerTypeRef={"value": "1"})]
    both += [retail.customer("Ben", BEN, CustomerTypeRef={"value": "2"})]
    west.customer("Cleo", "cleo@finch.org")
    retail.told_by_quickbooks(*(("created", each) for each in both))
    targets = [company.open_sync() for company in (retail, trade, west)]
    assert process_inbox(retail.database, targets, vault=retail.vault)["done"] == 2
    assert audience(retail, AUDIENCE) == {AMY: "subscribed"}
    assert audience(retail, WEST_AUDIENCE) == {BEN: "subscribed"}
    assert audience(retail, "c3d4e5f6a7") == {}


def test_a_company_that_cannot_be_reached_does_not_hold_up_anothers_webhooks(east, west):
    amy, ben = east.customer("Amy", AMY), west.customer("Ben", BEN)
    east.client_secret = "wrong"
    body = [
        {
            "specversion": "1.0",
            "id": secrets.token_hex(8),
            "source": "intuit.sandbox",
            "type": "qbo.customer.created.v1",
            "time": datetime.now(UTC).isoformat(),
            "intuitentityid": customer_id,
            "intuitaccountid": realm,
            "data": {},
        }
        for customer_id, realm in ((amy, REALM), (ben, WEST_REALM))
    ]
    events = quickbooks_webhooks.read_events(json.dumps(body).encode(), realms={REALM, WEST_REALM})
    with east.database.begin() as connection:
        inbox.deliver(connection, events, vault=east.vault)
    with pytest.raises(Exception, match="client"):
        process_inbox(east.database, [east.open_sync(), west.open_sync()], vault=east.vault)
    assert audience(east, WEST_AUDIENCE) == {BEN: "subscribed"}
    assert east.inbox() == {"done": 1, "pending": 1}


def test_events_of_two_companies_worked_on_together_are_each_in_their_own_syncs_trail(east, west):
    amy, ben = east.customer("Amy", AMY), west.customer("Ben", BEN)
    assert amy == ben  # small numbers, the same in every company
    for company in (east, west):
        company.told_by_quickbooks(("created", amy))
    assert (
        process_inbox(east.database, [east.open_sync(), west.open_sync()], vault=east.vault)["done"]
        == 2
    )
    for company in (east, west):
        assert told(company, amy).count(("webhook", "customer.created", "done")) == 1


def test_a_customer_one_company_does_not_know_is_not_taken_for_anothers_of_that_id(east, west):
    ben = west.customer("Ben", BEN)
    for company in (east, west):
        company.told_by_quickbooks(("created", ben))
    counts = process_inbox(east.database, [east.open_sync(), west.open_sync()], vault=east.vault)
    assert (counts["done"], counts["failed"]) == (1, 1)
    assert told(west, ben)[-1] == ("webhook", "customer.created", "done")
    assert [row[0] for row in inbox_rows(east, "state = 'pending'")] == [REALM]


def inbox_rows(company: Company, where: str) -> list[tuple[str, int]]:
    with company.database.begin() as connection:
        rows = connection.execute(
            text(f"SELECT source, id FROM ml_connector.webhook_inbox WHERE {where} ORDER BY id")
        ).all()
    return [(row[0], row[1]) for row in rows]


REALMS = {"east": REALM, "west": WEST_REALM}


class Companies:
    """The console over both companies, each with a dead event of the same customer."""

    def __init__(self, east: Company, west: Company) -> None:
        self.east, self.west = east, west
        self.amy = east.customer("Amy", AMY)
        assert west.customer("Ben", BEN) == self.amy
        for company in (east, west):
            company.sync()
            company.told_by_quickbooks(("updated", self.amy))
        self.change("state = 'dead', reason = 'not_found'")
        self.ids = dict(inbox_rows(east, "true"))

    def change(self, values: str) -> None:
        with self.east.database.begin() as connection:
            connection.execute(text(f"UPDATE ml_connector.webhook_inbox SET {values}"))

    def visitor(self, realms: dict[str, str] = REALMS, **may: set[Right]) -> Visitor:
        """Somebody with rights by sync; ``realms`` are those that the connections name."""

        async def identify(_request):
            return Caller(name="someone", may=lambda right, sync: right in may.get(sync.name, ()))

        return Visitor(
            self.east,
            "admin",
            identify=identify,
            syncs=lambda: {
                company.sync_settings().name: company.sync_settings()
                for company in (self.east, self.west)
            },
            outside=FakeOutside(realms=realms),
        )


READER, RUNNER = {Right.READ}, {Right.READ, Right.RUN}


@pytest.fixture
def companies(east, west) -> Companies:
    return Companies(east, west)


def test_the_console_shows_a_sync_its_own_companys_events_and_no_others(companies):
    visitor = companies.visitor(east=RUNNER, west=RUNNER)
    for sync, own, other in (("east", REALM, WEST_REALM), ("west", WEST_REALM, REALM)):
        for path in (f"/{sync}/customers/{companies.amy}", f"/{sync}/webhooks?state=dead"):
            html = visitor.get(path).text
            assert f'/{sync}/webhooks/{companies.ids[own]}"' in html
            assert f'/{sync}/webhooks/{companies.ids[other]}"' not in html
        assert own in visitor.page(f"/{sync}/webhooks/{companies.ids[own]}")
        assert visitor.get(f"/{sync}/webhooks/{companies.ids[other]}").status_code == 404
        assert "1 webhook was dead-lettered" in visitor.page(f"/{sync}")


def test_trying_again_from_the_console_reaches_no_other_companys_events(companies):
    visitor = companies.visitor(east=RUNNER, west=RUNNER)
    other = companies.ids[WEST_REALM]
    assert "nothing to try again" in visitor.post(f"/east/webhooks/{other}/retry").text
    assert "1 event is" in visitor.post("/east/webhooks/retry", {"state": "dead"}).text
    assert inbox_rows(companies.east, "state = 'dead'") == [(WEST_REALM, other)]
    assert "1 event is" in visitor.post(f"/west/webhooks/{other}/retry").text


def test_events_of_no_company_are_shown_to_whoever_may_see_every_sync(companies):
    """Which company they are of nobody knows: not for whoever may see one of several."""
    companies.change("state = 'quarantined', source = '1'")  # for whatever reason by now
    everything = companies.visitor(east=READER, west=READER).get("/east/webhooks").text
    east_only = companies.visitor(east=RUNNER).get("/east/webhooks").text
    for id_ in companies.ids.values():
        assert f'/east/webhooks/{id_}"' in everything
        assert f'/east/webhooks/{id_}"' not in east_only
    retry = ("/east/webhooks/retry", {"state": "quarantined"})
    assert "nothing" in companies.visitor(east=RUNNER, west=READER).post(*retry).text
    assert "2 events are" in companies.visitor(east=RUNNER, west=RUNNER).post(*retry).text


def test_events_of_a_sync_whose_connection_is_gone_stay_on_its_page(companies):
    visitor = companies.visitor({"east": REALM, "west": ""}, east=READER, west=READER)
    html = visitor.get("/west/webhooks").text
    assert f'/west/webhooks/{companies.ids[WEST_REALM]}"' in html
    assert f'/west/webhooks/{companies.ids[REALM]}"' not in html


def test_a39_a_contact_belongs_to_the_sync_that_had_it_first(shared):
    east, west = shared
    east.customer("Amy East", AMY)
    amy = west.customer("Amy West", AMY)
    for company in (east, west, east, west):
        company.sync()
    assert east.fields(AMY)["FNAME"] == "Amy East"
    assert east.tags(AMY) == {"East"}
    assert decided(west) == {amy: OWNED}
    assert told(west, amy) == [("skip", "owned_by_another_sync", "refused")]


def test_a39_the_other_sync_neither_writes_nor_archives_it(shared):
    east, west = shared
    east.customer("Amy East", AMY)
    east.sync()
    amy = west.customer("Amy West", AMY)
    west.sync()
    east.clear_journals()
    west.edit(amy, GivenName="Emma")
    west.sync()
    west.edit(amy, Active=False)
    west.sync()
    west.sync(full_sync=True)
    assert east.writes() == []
    assert audience(east, AUDIENCE) == {AMY: "subscribed"}


def test_a39_when_the_first_sync_lets_go_the_other_takes_over_and_nobody_is_archived(shared):
    east, west = shared
    amy = east.customer("Amy East", AMY)
    west.customer("Amy West", AMY)
    for company in (east, west):
        company.sync()
    east.edit(amy, Active=False)
    east.sync()
    assert told(east, amy)[-1] == ("archive", "left_to_another_sync", "refused")
    assert audience(east, AUDIENCE) == {AMY: "subscribed"}
    west.settings["fields"] = {"FNAME": "GivenName"}
    west.sync()
    assert east.fields(AMY)["FNAME"] == "Amy West"
    east.edit(amy, Active=True)
    east.sync()
    assert decided(east)[amy] == OWNED


def test_a39_a_contact_that_passes_on_shows_its_new_customer_and_keeps_what_a_person_typed(shared):
    east, west = shared
    west.settings["fields"] = {"FNAME": "GivenName", "LNAME": "FamilyName"}
    amy = east.customer("Amy East", AMY, FamilyName="East")
    west.customer("Amy West", AMY, FamilyName="West")
    for company in shared:
        company.sync()
    east.person(AMY, "profile", merge_fields={"LNAME": "Typed"})
    east.edit(amy, Active=False)
    east.sync()
    west.sync()
    fields = east.fields(AMY)
    assert (fields["FNAME"], fields["LNAME"]) == ("Amy West", "Typed")


def test_a39_a_contact_that_passes_on_loses_the_first_syncs_tags_and_keeps_the_marketers(shared):
    east, west = shared
    west.settings["tags"] = ["West"]
    east.seed(AMY, tags=["VIP"])
    amy = east.customer("Amy East", AMY)
    west_amy = west.customer("Amy West", AMY)
    for company in (east, west):
        company.sync()
    assert east.tags(AMY) == {"VIP", "East"}
    east.edit(amy, Active=False)
    for company in (east, west):
        company.sync()
    assert east.tags(AMY) == {"VIP", "West"}
    east.edit(amy, Active=True)
    west.edit(west_amy, Active=False)
    for company in (east, west, east):
        company.sync()
    assert east.tags(AMY) == {"VIP", "East"}


def test_a39_a_contact_that_the_other_sync_archived_is_restored_as_it_was(shared):
    east, west = shared
    east.settings["new_contact_status"] = "transactional"
    amy = east.customer("Amy East", AMY)
    east.sync()
    east.edit(amy, Active=False)
    east.sync()
    assert audience(east, AUDIENCE) == {AMY: "archived"}
    west.customer("Amy West", AMY)
    west.sync()
    assert audience(east, AUDIENCE) == {AMY: "transactional"}


def test_a39_an_opt_out_travels_from_a_contact_that_another_sync_owns(shared):
    east, west = shared
    east.customer("Amy East", AMY)
    east.sync()
    amy = west.customer("Amy West", AMY)
    west.sync()
    east.person(AMY, "unsubscribe")
    west.move(amy, BEN)
    west.sync()
    assert audience(east, AUDIENCE) == {AMY: "unsubscribed", BEN: "unsubscribed"}


def test_a39_two_syncs_that_run_at_once_write_a_new_contact_once(shared):
    east, west = shared
    for number in range(20):
        for company in shared:
            company.customer(f"Person {number}", f"person{number}@finch.org")
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(company.sync) for company in shared]:
            done.result()
    both = [*decided(east).values(), *decided(west).values()]
    assert both.count(OWNED) == 20
    assert [decision for decision, _ in both].count("contact") == 20


def test_a39_a_sync_that_leaves_the_settings_owns_nothing_any_more(shared):
    east, west = shared
    east.customer("Amy East", AMY)
    west.customer("Amy West", AMY)
    for company in shared:
        company.sync()
    west.settings |= {"beside": {}, "fields": {"FNAME": "GivenName"}}
    west.sync()
    assert east.fields(AMY)["FNAME"] == "Amy West"
