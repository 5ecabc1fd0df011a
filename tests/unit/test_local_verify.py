"""The independent check of the audience after a local run."""

from typing import Any

import pytest

from local.verify import differences, expected


def customer(number: int, address: str | None = None, **more: Any) -> dict[str, Any]:
    mail = {"PrimaryEmailAddr": {"Address": address}} if address else {}
    return {"Id": str(number), "Active": True, **mail, **more}


def member(address: str, status: str = "subscribed", **merge_fields: str) -> dict[str, Any]:
    return {
        "id": address,
        "email_address": address,
        "status": status,
        "merge_fields": merge_fields,
        "tags": [{"name": "QuickBooks"}],
    }


SYNC = {"fields": {"FNAME": "GivenName"}, "tags": ["QuickBooks"]}


def test_the_lowest_customer_that_is_no_job_owns_a_shared_address():
    right = expected(
        [customer(7, "A@x.com", Job=True), customer(10, "a@X.com"), customer(9, "a@x.com ")]
    )
    assert right.contacts == {"a@x.com": "9"}
    assert right.linked == {"10": "9", "7": "9"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [(None, "no_email"), (" ", "no_email"), ("not an address", "invalid_email")],
)
def test_a_customer_without_a_good_address_is_skipped_with_the_reason(given, reason):
    assert expected([customer(6, given)]).skipped == {"6": reason}


def test_the_first_valid_of_several_addresses_counts():
    assert expected([customer(1, "nobody; b@x.com, c@x.com")]).contacts == {"b@x.com": "1"}


def test_inactive_customers_and_projects_are_nobody():
    people = [customer(1, "a@x.com", Active=False), customer(2, "b@x.com", IsProject=True)]
    assert expected(people).contacts == {}


def test_a_right_audience_has_no_differences():
    people = [customer(1, "a@x.com", GivenName="Ann"), customer(2, "a@x.com"), customer(3)]
    decisions = {"1": ("contact", ""), "2": ("linked", "1"), "3": ("skipped", "no_email")}
    members = [member("A@x.com", FNAME="Ann")]
    assert differences(people, members, decisions=decisions, sync=SYNC) == []


@pytest.mark.parametrize(
    ("members", "expected_words"),
    [
        ([], "customer 1 has no contact"),
        ([member("a@x.com", "archived")], "customer 1 has no contact"),
        ([member("a@x.com", FNAME="Bob")], "the contact of customer 1 has another FNAME"),
        (
            [member("a@x.com", FNAME="Ann"), member("b@x.com")],
            "contact b@x.com belongs to no active customer",
        ),
    ],
)
def test_each_difference_is_said(members, expected_words):
    people = [customer(1, "a@x.com", GivenName="Ann")]
    found = differences(people, members, decisions={"1": ("contact", "")}, sync=SYNC)
    assert found == [expected_words]


def test_a_contact_that_is_not_ours_does_not_matter():
    stranger = member("b@x.com") | {"tags": []}
    assert differences([], [stranger], decisions={}, sync=SYNC) == []


def test_a_contact_that_a_marketer_archived_is_right_where_the_connector_says_so():
    people = [customer(1, "a@x.com")]
    decisions = {"1": ("skipped", "archived_by_marketer")}
    members = [member("a@x.com", "archived")]
    assert differences(people, members, decisions=decisions, sync=SYNC) == []
