"""One odd record never stops the others: row A55 of docs/reference/behaviour.md."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from ml_connector.store import unreadable
from tests.integration.odd import OddVendor, having, turned_into, without
from tests.integration.test_console import Visitor

AMY, BEN = "amy@finch.org", "ben@finch.org"

ODD_CUSTOMERS = {
    "no MetaData": without("MetaData"),
    "null MetaData": having(MetaData=None),
    "no time": having(MetaData={"CreateTime": "2026-01-01T00:00:00Z"}),
    "a time that is none": having(MetaData={"LastUpdatedTime": "yesterday"}),
    "a time without a zone": having(MetaData={"LastUpdatedTime": "2026-01-01T00:00:00"}),
    "a time to come": having(MetaData={"LastUpdatedTime": "9999-12-31T23:59:59Z"}),
    "no Id": without("Id"),
    "null Id": having(Id=None),
    "blank Id": having(Id=" "),
    "an Id with a NUL": having(Id="1\x00"),
    "no SyncToken": without("SyncToken"),
    "null SyncToken": having(SyncToken=None),
    "a list as SyncToken": having(SyncToken=[1]),
    "a word as Active": having(Active="yes"),
    "a text as address": having(PrimaryEmailAddr=BEN),
    "an object as name": having(DisplayName={"value": "Ben"}),
    "a number": turned_into(7),
    "a list": turned_into([]),
}
ODD_MEMBERS = {
    "no status": without("status"),
    "null status": having(status=None),
    "an unknown status": having(status="dormant"),
    "a list as status": having(status=[1]),
    "a time that is none": having(last_changed="yesterday"),
    "a time to come": having(last_changed="9999-12-31T23:59:59+00:00"),
    "a number as time": having(last_changed=7),
    "a text as merge fields": having(merge_fields="Ben"),
    "texts as tags": having(tags=["QuickBooks"]),
    "an object as contact id": having(contact_id={}),
    "a contact id with a NUL": having(contact_id="c\x00"),
    "null address": having(email_address=None),
    "blank address": having(email_address=" "),
    "a number": turned_into(7),
}


@pytest.fixture
def odd(company):
    return OddVendor(company)


def listed(company):
    with company.database.begin() as connection:
        rows = connection.execute(
            text("SELECT system, record, reason FROM ml_connector.unreadable_records ORDER BY 1, 2")
        )
        return [tuple(row) for row in rows]


def address(case):
    return f"{case.replace(' ', '-').lower()}@finch.org"


def everyone(company, cases):
    """A customer for each case, named like it, and one without oddities; return their ids."""
    return {case: company.customer(case, address(case)) for case in [*cases, "Amy"]}


def test_a55_odd_customers_are_skipped_alone_and_arrive_once_they_read_well(company, odd):
    everyone(company, ODD_CUSTOMERS)
    odd.edits |= ODD_CUSTOMERS
    report = company.sync()
    assert company.statuses() == {AMY: "subscribed"}
    assert sum(number for _, _, number in report.unreadable) == len(ODD_CUSTOMERS)
    assert len(listed(company)) == len(ODD_CUSTOMERS)
    odd.well()
    company.sync()
    assert len(company.statuses()) == 1 + len(ODD_CUSTOMERS)
    assert all(record.startswith("row:") for _, record, _ in listed(company))
    report = company.sync(full_sync=True)
    assert report.unreadable == listed(company) == []


@pytest.mark.parametrize("full_sync", [False, True])
def test_a55_odd_customers_keep_their_contacts(company, odd, full_sync):
    ids = everyone(company, ODD_CUSTOMERS)
    company.sync()
    odd.edits |= ODD_CUSTOMERS
    for customer_id in ids.values():
        company.edit(customer_id, FamilyName="Finch")
    company.clear_journals()
    company.sync(full_sync=full_sync)
    company.sync(ids=list(ids.values()))
    written = [each for call in company.writes() for each in call["body"]["members"]]
    assert [each["email_address"] for each in written] == [AMY]
    assert {decision for decision, *_ in company.decisions().values()} == {"contact"}
    odd.well()
    company.sync(full_sync=full_sync)
    assert {company.fields(each)["LNAME"] for each in company.statuses()} == {"Finch"}
    assert full_sync is False or listed(company) == []


def test_a55_an_odd_customer_is_read_again_whether_it_changed_or_not(company, odd):
    company.customer("Amy", AMY)
    company.customer("Ben", BEN)
    odd.edits["Ben"] = without("MetaData")
    company.sync()
    odd.well()
    company.pass_time(days=1)  # out of the part that every run reads again
    company.sync()
    assert company.statuses() == {AMY: "subscribed", BEN: "subscribed"}
    assert listed(company) == []


def test_a55_an_odd_customer_that_leaves_quickbooks_is_listed_no_more(company, odd):
    amy, ben = company.customer("Amy", AMY), company.customer("Ben", BEN)
    odd.edits["Ben"] = without("MetaData")
    company.sync()
    assert listed(company) == [("quickbooks", ben, "it has no MetaData")]
    company.quickbooks_control("POST", "customers/merge", {"survivor": amy, "loser": ben})
    company.sync()
    assert listed(company) == []
    assert company.statuses() == {AMY: "subscribed"}


def test_a55_a_webhook_about_an_odd_customer_is_done_and_archives_nothing(company, odd):
    amy, ben = company.customer("Amy", AMY), company.customer("Ben", BEN)
    company.sync()
    odd.edits["Ben"] = having(Id=None)
    company.edit(amy, GivenName="Amelia")
    company.told_by_quickbooks(("updated", amy), ("updated", ben))
    company.work_off()
    assert company.inbox() == {"done": 2}
    assert company.fields(AMY) == {"FNAME": "Amelia"}
    assert company.statuses()[BEN] == "subscribed"
    assert listed(company) == [("quickbooks", ben, "it has no Id")]


def test_a55_odd_members_are_skipped_alone_and_count_as_there(company, odd):
    everyone(company, ODD_MEMBERS)
    company.sync()
    odd.edits |= {address(case): edit for case, edit in ODD_MEMBERS.items()}
    for each in company.statuses():
        company.person(each, "unsubscribe")
    company.clear_journals()
    company.sync()
    assert company.writes() == []
    assert seen(company) == dict.fromkeys(map(address, ODD_MEMBERS), "subscribed") | {
        AMY: "unsubscribed"
    }
    assert {decision for decision, *_ in company.decisions().values()} == {"contact"}
    assert len(listed(company)) == len(ODD_MEMBERS)
    odd.well()
    company.sync(full_sync=True)
    assert set(seen(company).values()) == {"unsubscribed"}
    assert listed(company) == []


def test_a55_nothing_rests_on_the_consent_of_an_odd_member(company, odd):
    ids = everyone(company, ODD_MEMBERS)
    company.sync()
    odd.edits |= {address(case): edit for case, edit in ODD_MEMBERS.items()}
    moved = {case: address(case).replace("finch", "wren") for case in ids}
    for case, customer_id in ids.items():
        company.person(address(case), "unsubscribe")
        company.move(customer_id, moved[case])
    company.sync()
    for customer_id in ids.values():
        company.told_by_quickbooks(("updated", customer_id))
    company.work_off()
    there = company.statuses()
    assert {there[each] for each in moved.values() if each in there} == {"unsubscribed"}
    assert moved["an unknown status"] not in there
    odd.well()
    company.sync(full_sync=True)
    there = company.statuses()
    assert {there[each] for each in moved.values()} == {"unsubscribed"}


def test_a55_an_odd_member_is_not_archived_and_the_others_are(company, odd):
    amy, ben = company.customer("Amy", AMY), company.customer("Ben", BEN)
    company.sync()
    company.edit(amy, Active=False)
    company.edit(ben, Active=False)
    company.sync(before_archive=lambda: odd.edits.update({AMY: having(status="dormant")}))
    assert company.statuses() == {AMY: "subscribed", BEN: "archived"}
    assert ("archive", "inactive", "failed") in company.told(amy)
    odd.well()
    company.sync()
    assert company.statuses() == {AMY: "archived", BEN: "archived"}


def test_a55_a_webhook_about_an_odd_member_records_nothing_of_it(company, odd):
    company.customer("Amy", AMY)
    company.customer("Ben", BEN)
    company.sync()
    odd.edits[AMY] = having(status="dormant")
    for address in (AMY, BEN):
        company.person(address, "unsubscribe")
        company.told_by_mailchimp("unsubscribe", email=address, action="unsub", reason="manual")
    company.work_off()
    assert company.inbox() == {"done": 2}
    assert seen(company) == {AMY: "subscribed", BEN: "unsubscribed"}


def test_a55_members_without_an_address_are_nobodys(company, odd):
    company.seed("sms@finch.org")
    odd.edits["sms@finch.org"] = having(email_address="")
    company.customer("Amy", AMY)
    report = company.sync()
    assert report.unreadable == []
    assert seen(company) == {AMY: "subscribed"}


def seen(company):
    """The statuses stored of contacts with a customer, by address."""
    keys = {company.vault.email_key(each): each for each in (*company.statuses(), AMY, BEN)}
    with company.database.begin() as connection:
        rows = connection.execute(text("SELECT email_key, status FROM ml_connector.contacts"))
        return {keys.get(bytes(row.email_key), "?"): row.status for row in rows}


def test_a55_the_overview_and_check_list_what_was_skipped(company, odd):
    company.customer("Amy", AMY)
    ben = company.customer("Ben", BEN)
    company.sync()
    odd.edits |= {"Ben": without("MetaData"), AMY: having(status="dormant")}
    company.sync(full_sync=True)
    visitor = Visitor(company, "viewer")
    page = visitor.get("/main").text
    assert "2 records were skipped" in page
    assert "it has no MetaData" in page
    assert f"/customers/{ben}" in page
    with company.database.begin() as connection:
        counts = unreadable.counts(connection, sync="main")
    assert [each.sentence for each in counts] == [
        "1 Mailchimp member was skipped: this version does not know its status",
        "1 QuickBooks customer was skipped: it has no MetaData",
    ]


@pytest.mark.parametrize("value", [7, {}])
def test_a55_customers_that_are_odd_in_the_same_way_are_counted_one_by_one(company, odd, value):
    same = {name: turned_into(value) for name in ("Ben", "Cy", "Di")}
    everyone(company, same)
    odd.edits |= same
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}
    assert len(listed(company)) == len(same)
    company.sync(full_sync=True)
    assert len(listed(company)) == len(same)
    odd.well()
    company.sync(full_sync=True)
    assert listed(company) == []
    assert len(company.statuses()) == len(same) + 1


@pytest.mark.parametrize("attribute", ["DisplayName", "Deep"])
def test_a55_a_customer_nested_too_deep_is_skipped_alone_if_the_value_is_read(company, attribute):
    company.customer("Amy", AMY)
    company.customer("Ben", BEN)
    deep = f'"{attribute}":'.encode() + b"[" * 5_000 + b"]" * 5_000

    class Deep:
        def __init__(self, transport):
            self._transport = transport

        def send(self, request):
            response = self._transport.send(request)
            return replace(response, body=response.body.replace(b'"DisplayName":"Ben"', deep))

    company.around = lambda _system, transport: Deep(transport)
    company.sync()
    assert company.statuses().keys() == ({AMY, BEN} if attribute == "Deep" else {AMY})
    skipped = [reason for _, _, reason in listed(company)]
    assert skipped == ["its DisplayName has another form than it should"] * (attribute != "Deep")
