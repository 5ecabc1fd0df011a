"""From a QuickBooks customer to merge fields: rows A4, A16 and A25 of docs/reference/behaviour.md."""

import pytest

from ml_connector.rules.fields import Target, customer_from, merge_fields
from ml_connector.rules.unfit import Unfit

ADDRESS = {
    "Line1": "4581 Finch St.",
    "City": "Bayshore",
    "CountrySubDivisionCode": "CA",
    "PostalCode": "94326",
}
WHOLE = {"addr1": "4581 Finch St.", "city": "Bayshore", "state": "CA", "zip": "94326"}


def one(raw, *paths):
    values, unfit = merge_fields(raw, {"FIELD": paths})
    return Unfit(unfit["FIELD"]) if unfit else values["FIELD"]


def without(*parts):
    return {part: text for part, text in ADDRESS.items() if part not in parts}


@pytest.mark.parametrize(
    ("expected", "raw", "paths"),
    [
        ("Amy", {"GivenName": "Amy"}, ["GivenName"]),
        ("Amy", {"GivenName": "  Amy "}, ["GivenName"]),
        ("", {}, ["GivenName"]),
        ("", {"GivenName": None}, ["GivenName"]),
        ("555", {"PrimaryPhone": {"FreeFormNumber": "555"}}, ["PrimaryPhone.FreeFormNumber"]),
        ("", {"PrimaryPhone": "555"}, ["PrimaryPhone.FreeFormNumber"]),
        ("Birds", {"CompanyName": "Birds", "DisplayName": "Amy"}, ["CompanyName", "DisplayName"]),
        ("Amy", {"CompanyName": " ", "DisplayName": "Amy"}, ["CompanyName", "DisplayName"]),
        ("", {}, ["CompanyName", "DisplayName"]),
        ("true", {"Job": True}, ["Job"]),
        ("false", {"Job": False}, ["Job"]),
        ("Cat", {"GivenName": "\x00Cat\x07"}, ["GivenName"]),
        ("Cat Ltd", {"GivenName": "Cat\x0bLtd\x07"}, ["GivenName"]),
        ("Cat Fish", {"GivenName": "Cat\tFish\n"}, ["GivenName"]),
        ("Cat", {"GivenName": "Cat\ud83d"}, ["GivenName"]),
        ("👩‍🚀", {"GivenName": "👩‍🚀"}, ["GivenName"]),
        ("", {"GivenName": ["Cat"]}, ["GivenName"]),
        ("7", {"Level": 7}, ["Level"]),
    ],
)
def test_first_path_with_a_value_wins(expected, raw, paths):
    assert one(raw, *paths) == expected


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("x" * 255, "x" * 255),
        ("x" * 255, "x" * 256),
        ("x" * 254, "x" * 254 + "é"),
        ("é" * 127, "é" * 200),
        ("€" * 85, "€" * 100),
    ],
)
def test_text_is_cut_at_255_bytes_and_never_inside_a_character(expected, text):
    assert one({"Notes": text}, "Notes") == expected


@pytest.mark.parametrize(
    ("expected", "active", "name"),
    [
        ("Amy", False, "Amy (deleted)"),
        ("Amy", False, "Amy"),
        ("Amy (deleted)", True, "Amy (deleted)"),
    ],
)
def test_suffix_of_an_inactive_name_is_left_out(expected, active, name):
    assert one({"Active": active, "DisplayName": name}, "DisplayName") == expected


@pytest.mark.parametrize(
    ("expected", "address"),
    [
        (WHOLE, ADDRESS),
        ("", {}),
        ("", None),
        (Unfit("no street"), without("Line1")),
        (Unfit("no city"), without("City")),
        (Unfit("no state"), without("CountrySubDivisionCode")),
        (Unfit("no postal code"), without("PostalCode")),
        (Unfit("no postal code"), ADDRESS | {"PostalCode": " "}),
        (Unfit("no city, no state, no postal code"), {"Line1": "4581 Finch St."}),
        ("", {"Line1": " ", "Country": "US", "Lat": "INVALID"}),
        (WHOLE | {"addr2": "Flat 2"}, ADDRESS | {"Line2": "Flat 2"}),
        (
            WHOLE | {"addr2": "Flat 2, Attn. Amy"},
            ADDRESS | {"Line2": "Flat 2", "Line4": "Attn. Amy"},
        ),
        (WHOLE | {"country": "US"}, ADDRESS | {"Country": "USA"}),
        (WHOLE | {"country": "US"}, ADDRESS | {"Country": "United States"}),
        (WHOLE | {"country": "GB"}, ADDRESS | {"Country": "uk"}),
        (WHOLE | {"country": "DE"}, ADDRESS | {"Country": "Germany"}),
        (WHOLE | {"country": "DE"}, ADDRESS | {"Country": "de"}),
        (WHOLE | {"country": "DE"}, ADDRESS | {"Country": "DEU"}),
        (Unfit("unknown country"), ADDRESS | {"Country": "Middle-earth"}),
        (
            {
                "addr1": "Way 133",
                "city": "Muscat",
                "state": "Muscat",
                "zip": "133",
                "country": "OM",
            },
            {"Line1": "Way 133", "City": "Muscat", "PostalCode": "133", "Country": "Oman"},
        ),
        (
            {
                "addr1": "1 Bay",
                "city": "Panama",
                "state": "Panama",
                "zip": "00000",
                "country": "PA",
            },
            {"Line1": "1 Bay", "City": "Panama", "Country": "Panama"},
        ),
        (
            {
                "addr1": "1 Mall",
                "city": "London",
                "state": "London",
                "zip": "SW1A",
                "country": "GB",
            },
            {"Line1": "1 Mall", "City": "London", "PostalCode": "SW1A", "Country": "England"},
        ),
        (
            {
                "addr1": "1 Bay",
                "city": "Singapore",
                "state": "Singapore",
                "zip": "018956",
                "country": "SG",
            },
            {"Line1": "1 Bay", "PostalCode": "018956", "Country": "Singapore"},
        ),
        (
            WHOLE | {"addr1": "Flat 2"},
            without("Line1") | {"Line2": "Flat 2"},
        ),
    ],
)
def test_address_is_sent_whole_or_not_at_all(expected, address):
    assert one({"BillAddr": address}, "BillAddr") == expected


def test_an_address_without_a_country_is_in_the_companys_own():
    raw = {"BillAddr": {"Line1": "1 Mall", "City": "London", "PostalCode": "SW1A"}}
    values, unfit = merge_fields(raw, {"ADDRESS": ("BillAddr",)}, Target(home="GB"))
    assert unfit == {}
    assert values["ADDRESS"]["country"] == "GB"


def test_second_address_stands_in_for_a_partial_first():
    raw = {"BillAddr": without("City"), "ShipAddr": ADDRESS}
    assert one(raw, "BillAddr", "ShipAddr") == WHOLE


def test_customer_is_reduced_to_what_is_needed():
    raw = {
        "Id": 42,
        "SyncToken": 3,
        "Active": False,
        "Job": True,
        "IsProject": False,
        "DisplayName": "Amy (deleted)",
        "GivenName": "Amy",
        "Balance": 100,
        "PrimaryEmailAddr": {"Address": "Amy@finch.org, office@finch.org"},
        "MetaData": {"LastUpdatedTime": "2026-01-02T03:04:05-08:00"},
    }
    customer = customer_from(raw, {"FNAME": ("GivenName",)})
    assert (customer.id, customer.sync_token) == ("42", "3")
    assert (customer.active, customer.is_job, customer.is_project) == (False, True, False)
    assert customer.addresses == ("amy@finch.org", "office@finch.org")
    assert customer.email_problem is None
    assert customer.merge_fields == {"FNAME": "Amy"}
    assert customer.display_name == "Amy"
    assert customer.last_updated.isoformat() == "2026-01-02T03:04:05-08:00"
    assert not hasattr(customer, "balance")


def test_absent_flags_mean_an_ordinary_active_customer():
    raw = {"Id": "1", "MetaData": {"LastUpdatedTime": "2026-01-02T03:04:05Z"}}
    customer = customer_from(raw, {})
    assert (customer.active, customer.is_job, customer.is_project) == (True, False, False)
    assert (customer.addresses, customer.email_problem) == ((), "no_email")
