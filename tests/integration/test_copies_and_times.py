"""Copies of one record, and times that cannot be true, cost no other record: A55d and A55e."""

from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest
from sqlalchemy import text

from ml_connector.errors import IncompleteRead
from ml_connector.quickbooks.copies import UNORDERED
from ml_connector.store import cursors, unreadable
from tests.integration.odd import OddVendor, having

AMY, BEN, CY = "amy@finch.org", "ben@finch.org", "cy@finch.org"
NOON = "2026-01-01T12:00:00Z"


class Listing:
    """Edits the list of records in every response of a vendor: of a query, or of the audience."""

    def __init__(self, company, key):
        self.key, self.edit = key, lambda found: found
        company.around = lambda _system, transport: _Edited(transport, self)


class _Edited:
    def __init__(self, transport, listing):
        self._transport, self._listing = transport, listing

    def send(self, request):
        response = self._transport.send(request)
        if not 200 <= response.status < 300 or not response.body:
            return response
        document, key = msgspec.json.decode(response.body), self._listing.key
        place = document.get("QueryResponse", document) if isinstance(document, dict) else {}
        if isinstance(place.get(key), list) and place[key]:
            place[key] = self._listing.edit(place[key])
        return replace(response, body=msgspec.json.encode(document))


def listed(company):
    with company.database.begin() as connection:
        counts = unreadable.counts(connection, sync="main")
    return [(each.reason, each.records) for each in counts]


def cursor(company):
    with company.database.begin() as connection:
        return cursors.get(connection, sync="main", name="customers")


def as_amy(amy, *, token, time):
    return having(Id=amy, SyncToken=token, MetaData={"LastUpdatedTime": time})


@pytest.mark.parametrize(
    ("amys", "bens", "there"),
    [
        pytest.param(("0", NOON), ("1", NOON), BEN, id="a newer SyncToken"),
        pytest.param(("1", NOON), ("0", "2026-01-02T12:00:00Z"), AMY, id="an older SyncToken"),
        pytest.param(("0", "2026-01-02T12:00:00Z"), ("0", NOON), AMY, id="a later time"),
        pytest.param(("x", NOON), ("y", "2026-01-02T12:00:00Z"), BEN, id="tokens of no order"),
        pytest.param(("0", NOON), ("0", NOON), None, id="neither is newer"),
    ],
)
def test_a55d_two_customers_with_one_id_cost_no_other_and_the_newer_counts(
    company, amys, bens, there
):
    amy = company.customer("Amy", AMY)
    company.customer("Ben", BEN)
    company.customer("Cy", CY)
    odd = OddVendor(company)
    for name, (token, time) in (("Amy", amys), ("Ben", bens)):
        odd.edits[name] = as_amy(amy, token=token, time=time)
    for full_sync in (False, True):
        company.sync(full_sync=full_sync)
        assert company.statuses().keys() == {CY} | ({there} - {None})
        assert listed(company) == ([] if there else [(UNORDERED, 1)])
    odd.well()
    for name in ("Finch", "Wren", "Finch"):  # beyond every SyncToken above
        company.edit(amy, FamilyName=name)
    company.sync(full_sync=True)
    there_now = {each for each, status in company.statuses().items() if status == "subscribed"}
    assert there_now == {AMY, BEN, CY}
    assert listed(company) == []


def test_a55d_a_webhook_about_a_customer_that_is_there_twice_takes_the_newer(company):
    amy, ben = company.customer("Amy", AMY), company.customer("Ben", BEN)
    company.sync()
    listing = Listing(company, "Customer")
    listing.edit = lambda found: [
        copy
        for row in found
        for copy in ({**row, "SyncToken": "90", "GivenName": f"New {row['GivenName']}"}, row)
    ]
    company.told_by_quickbooks(("updated", amy), ("updated", ben))
    company.work_off()
    assert company.inbox() == {"done": 2}
    assert [company.fields(each)["FNAME"] for each in (AMY, BEN)] == ["New Amy", "New Ben"]


def test_a55d_a_load_with_copies_is_still_proved_complete(company):
    for name in ("Amy", "Ben", "Cy"):
        company.customer(name, f"{name.lower()}@finch.org")
    listing = Listing(company, "Customer")
    listing.edit = lambda found: [found[0], *found]
    company.sync()
    assert company.statuses().keys() == {AMY, BEN, CY}
    listing.edit = lambda found: [found[0], *found[:-1]]  # the last one is lost
    with pytest.raises(IncompleteRead, match="counts 3 customers but listed 2"):
        company.sync(full_sync=True)
    newer = {"SyncToken": "90"}
    listing.edit = lambda found: [{**found[0], **newer}, *found[:-2]]  # two are lost, one is new
    with pytest.raises(IncompleteRead, match="counts 3 customers but listed 2"):
        company.sync(full_sync=True)


def test_a55d_a_customer_that_quickbooks_has_and_counts_twice_stops_no_load(company):
    company.customer("Amy", AMY)
    company.customer("Ben", BEN)
    twice = {"QueryResponse": {"totalCount": 3}}
    company.fault("quickbooks", match={"body": "COUNT"}, action={"kind": "body", "body": twice})
    listing = Listing(company, "Customer")
    listing.edit = lambda found: [found[0], *found]
    company.sync()
    assert company.statuses().keys() == {AMY, BEN}


def test_a55d_a_member_that_the_audience_lists_twice_is_the_newer_one(company):
    company.customer("Amy", AMY)
    company.customer("Ben", BEN)
    company.sync()
    listing = Listing(company, "members")

    def older(row):
        return {**row, "status": "unsubscribed", "last_changed": "2026-01-01T00:00:00+00:00"}

    listing.edit = lambda found: [copy for row in found for copy in (row, older(row))]
    company.sync(full_sync=True)
    assert known_statuses(company) == {"subscribed"}
    listing.edit = lambda found: [
        copy for row in found for copy in (row, {**row, "status": "unsubscribed"})
    ]
    company.sync(full_sync=True)
    assert known_statuses(company) == {"subscribed"}
    assert [number for _, number in listed(company)] == [2]
    listing.edit = lambda found: found
    company.sync(full_sync=True)
    assert listed(company) == []


def known_statuses(company):
    with company.database.begin() as connection:
        return set(
            connection.execute(text("SELECT DISTINCT status FROM ml_connector.contacts")).scalars()
        )


WRONG = {
    "long ago": lambda now: datetime(1999, 1, 1, tzinfo=now.tzinfo),
    "before time began": lambda now: datetime(1, 1, 1, tzinfo=now.tzinfo),
    "in another time zone, behind": lambda now: now - timedelta(hours=11),
    "in another time zone, ahead": lambda now: now + timedelta(hours=13),
    "tomorrow": lambda now: now + timedelta(hours=30),
    "at the end of time": lambda now: datetime(9999, 12, 31, tzinfo=now.tzinfo),
}


@pytest.mark.parametrize("when", WRONG)
def test_a55e_a_wrong_time_of_one_customer_hides_no_change_of_another(company, when):
    ids = [company.customer(f"C{n}", f"c{n}@finch.org") for n in range(4)]
    odd = OddVendor(company)
    for name in ("C1", "C3"):
        odd.edits[name] = having(
            MetaData={"LastUpdatedTime": WRONG[when](company.clock()).isoformat()}
        )
    company.sync()
    assert datetime.fromisoformat(cursor(company)["watermark"]) <= company.clock()
    well = {"c0@finch.org", "c2@finch.org"}
    assert company.statuses().keys() >= well
    for turn in range(2):
        company.pass_time(hours=1)
        for each in ids:
            company.edit(each, FamilyName=f"Finch {turn}")
        company.sync()
        assert {company.fields(each)["LNAME"] for each in well} == {f"Finch {turn}"}
        assert datetime.fromisoformat(cursor(company)["watermark"]) <= company.clock()


def test_a55e_a_customer_that_quickbooks_itself_keeps_in_the_future_stops_no_load(company):
    amy, ben = company.customer("Amy", AMY), company.customer("Ben", BEN)
    for days in (0.5, 400):
        company.quickbooks_control("PUT", "clock", {"offset_seconds": days * 86_400})
        company.edit(ben, FamilyName=f"Finch {days}")
        company.pass_time()
        company.sync(full_sync=True)
        company.edit(amy, FamilyName=f"Finch {days}")
        company.sync()
        assert company.fields(AMY)["LNAME"] == f"Finch {days}"
    assert company.fields(BEN)["LNAME"] == "Finch 0.5"
    assert listed(company) == [("its MetaData.LastUpdatedTime is not a time in the past", 1)]


def test_a55e_a_watermark_that_a_former_release_moved_into_the_future_is_given_up(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    ahead = (company.clock() + timedelta(hours=20)).isoformat()
    with company.database.begin() as connection:
        value = {**cursor(company), "watermark": ahead}
        cursors.put(connection, sync="main", name="customers", value=value)
    company.edit(amy, FamilyName="Finch")
    company.pass_time(hours=1)
    company.sync()
    assert company.fields(AMY)["LNAME"] == "Finch"
    assert datetime.fromisoformat(cursor(company)["watermark"]) <= company.clock()
