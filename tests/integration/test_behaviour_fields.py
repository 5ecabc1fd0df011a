"""Typed merge fields and addresses of the world: rows A25 and A50 of docs/reference/behaviour.md."""

import pytest
import requests

from ml_connector.errors import AudienceNotReady
from ml_connector.store import problems
from tests.integration.company import AUDIENCE

US_PHONE = {"tag": "PHONE", "type": "phone", "options": {"phone_format": "US"}}
AMY, BEN = "amy@finch.org", "ben@finch.org"
BERLIN = {"Line1": "Unter den Linden 1", "City": "Berlin", "PostalCode": "10117"}


def phone(number):
    return {"FreeFormNumber": number}


@pytest.fixture
def typed(company):
    """A company whose audience takes US phone numbers only."""
    company.settings["fields"] = {"FNAME": "GivenName", "PHONE": "PrimaryPhone.FreeFormNumber"}
    audience(company, US_PHONE)
    return company


def audience(company, *fields):
    body = {"id": AUDIENCE, "merge_fields": [{"tag": "FNAME"}, *fields]}
    company.mailchimp_control("POST", "audiences", body)


def change_field(company, tag, **changes):
    """Change a merge field's definition as a marketer does."""
    url, auth = (
        f"{company.mailchimp_api}/lists/{AUDIENCE}/merge-fields",
        ("", company.mailchimp_key),
    )
    found = requests.get(url, auth=auth, timeout=5).json()["merge_fields"]
    field = next(each for each in found if each["tag"] == tag)
    changed = requests.patch(f"{url}/{field['merge_id']}", auth=auth, json=changes, timeout=5)
    assert changed.ok, changed.text


def unfit(company):
    with company.database.begin() as connection:
        return [tuple(row) for row in problems.unfit_counts(connection, sync="main")]


def test_a50_a_value_that_does_not_fit_costs_its_field_and_not_the_contact(typed, contract):
    amy = typed.customer("Amy", AMY, PrimaryPhone=phone("+49 30 123456"))
    typed.customer("Ben", BEN, PrimaryPhone=phone("650.555.3311"))
    report = typed.sync()
    assert typed.fields(AMY) == {"FNAME": "Amy"}
    assert typed.fields(BEN) == {"FNAME": "Ben", "PHONE": "(650) 555-3311"}
    assert report.unfit == [("PHONE", "not a US phone number", 1)]
    created = next(row for row in typed.audit() if row["customer_id"] == amy)
    assert created["after"]["left_out"] == {"PHONE": "not a US phone number"}
    typed.edit(amy, GivenName="Amelia")
    typed.sync()
    assert typed.fields(AMY) == {"FNAME": "Amelia"}


def test_a50_a_value_that_stops_fitting_keeps_what_the_contact_has(typed):
    amy = typed.customer("Amy", AMY, PrimaryPhone=phone("650 555 3311"))
    typed.sync()
    typed.edit(amy, PrimaryPhone=phone("650 555 3311 ext 12"), GivenName="Amelia")
    typed.sync()
    assert typed.fields(AMY) == {"FNAME": "Amelia", "PHONE": "(650) 555-3311"}
    typed.edit(amy, PrimaryPhone=phone(""))
    typed.sync()
    assert typed.fields(AMY) == {"FNAME": "Amelia"}
    assert unfit(typed) == []


def test_a50_customers_are_tried_again_when_the_field_changes_in_mailchimp(typed):
    typed.customer("Amy", AMY, PrimaryPhone=phone("+49 30 123456"))
    typed.sync()
    change_field(typed, "PHONE", options={"phone_format": "none"})
    typed.sync()
    assert typed.fields(AMY) == {"FNAME": "Amy", "PHONE": "+49 30 123456"}
    assert unfit(typed) == []


def test_a25_an_address_of_any_country_arrives_and_one_that_cannot_be_sent_says_why(company):
    named = company.customer("Amy", AMY, BillAddr={**BERLIN, "Country": "Deutschland"})
    company.customer("Ben", BEN, BillAddr={**BERLIN, "Country": "Middle-earth"})
    company.sync()
    sent = company.fields(AMY)["ADDRESS"]
    assert (sent["state"], sent["zip"], sent["country"]) == ("Berlin", "10117", "DE")
    assert "ADDRESS" not in company.fields(BEN)
    assert unfit(company) == [("ADDRESS", "unknown country", 1)]
    company.edit(named, BillAddr={**BERLIN, "Country": "Atlantis"})
    company.sync()
    assert company.fields(AMY)["ADDRESS"] == sent


@pytest.mark.parametrize("country", ["", "DE"])
def test_a25_an_address_without_a_country_is_in_the_companys_or_the_settings(company, country):
    company.settings["default_country"] = country
    company.customer("Amy", AMY, BillAddr=BERLIN | {"CountrySubDivisionCode": "BE"})
    company.sync()
    assert company.fields(AMY)["ADDRESS"]["country"] == (country or "US")
    company.sync()
    asked = [call for call in company.calls("quickbooks") if "companyinfo" in call["path"]]
    assert len(asked) == 1  # the company's name, and its country only if it is needed


def test_a51_templates_fill_text_fields_and_an_edit_reaches_them(company):
    company.settings["fields"] = {
        "FNAME": "{GivenName} {FamilyName}",
        "ADDRLINE": "{BillAddr.Line1}, {BillAddr.PostalCode} {BillAddr.City}, {BillAddr.Country}",
    }
    audience(company, {"tag": "ADDRLINE"})
    muscat = {"Line1": "Way 3001", "City": "Muscat", "PostalCode": "133", "Country": "Oman"}
    amy = company.customer("Amy", AMY, FamilyName="Al Said", BillAddr=muscat)
    company.sync()
    assert company.fields(AMY) == {
        "FNAME": "Amy Al Said",
        "ADDRLINE": "Way 3001, 133 Muscat, Oman",
    }
    company.edit(amy, FamilyName=None, BillAddr={"City": "Muscat"})
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Amy", "ADDRLINE": "Muscat"}
    company.edit(amy, BillAddr=None)
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Amy"}


def test_a51_a_template_for_an_address_field_stops_the_run_before_its_first_write(company):
    company.settings["fields"] = {"ADDRESS": "{BillAddr.Line1}, {BillAddr.City}"}
    company.customer("Amy", AMY, BillAddr=BERLIN)
    with pytest.raises(AudienceNotReady, match="gives no address"):
        company.sync()
    assert company.statuses() == {}
