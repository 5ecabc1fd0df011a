"""A mapping is proposed from the audience's own merge fields."""

import pytest

from ml_connector.model import MergeField
from ml_connector.rules.fields import merge_fields
from ml_connector.rules.proposal import proposed


def field(tag: str, name: str, kind: str = "text") -> MergeField:
    return MergeField(tag=tag, name=name, type=kind, required=False)


def test_the_fields_of_a_new_audience_are_filled():
    found = proposed(
        [
            field("FNAME", "First Name"),
            field("LNAME", "Last Name"),
            field("ADDRESS", "Address", "address"),
            field("PHONE", "Phone Number", "phone"),
            field("BIRTHDAY", "Birthday", "birthday"),
            field("COMPANY", "Company"),
        ]
    )
    assert found == {
        "FNAME": "GivenName",
        "LNAME": "FamilyName",
        "ADDRESS": "BillAddr",
        "PHONE": "PrimaryPhone.FreeFormNumber",
        "COMPANY": "CompanyName",
    }


@pytest.mark.parametrize(
    ("made", "source"),
    [
        (field("MMERGE5", "Mobile phone", "phone"), "Mobile.FreeFormNumber"),
        (field("MMERGE6", "Shipping address", "address"), "ShipAddr"),
        (field("MMERGE7", "Vorname"), "GivenName"),
        (field("MMERGE8", "Website", "url"), "WebAddr.URI"),
        (field("CITY", "Where you live"), "BillAddr.City"),
        (field("MMERGE9", "ZIP code", "zip"), "BillAddr.PostalCode"),
        (field("MMERGE10", "Favourite colour"), None),
        (field("MMERGE11", "First contact", "date"), None),
        (field("MMERGE12", "Company size", "number"), None),
    ],
)
def test_a_field_is_known_by_its_type_and_name(made, source):
    assert proposed([made]).get(made.tag) == source


def test_an_attribute_is_proposed_once():
    assert proposed([field("FNAME", "First Name"), field("MMERGE5", "First name")]) == {
        "FNAME": "GivenName"
    }


def test_what_is_proposed_can_be_read():
    raw = {"GivenName": "Amy", "BillAddr": {"City": "Bayshore"}}
    rules = {tag: (source,) for tag, source in proposed([field("CITY", "City")]).items()}
    assert merge_fields(raw, rules)[0] == {"CITY": "Bayshore"}
