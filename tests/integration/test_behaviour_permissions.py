"""Marketing permissions on creation only: row A48a of docs/reference/behaviour.md."""

import pytest

from ml_connector.errors import AudienceNotReady
from ml_connector.sync import permissions
from tests.integration.test_console import Visitor

AMY, BEN, NEW = "amy@finch.org", "ben@finch.org", "amy@new.org"
BASIS = "consent: box ticked in our order form"


@pytest.fixture
def lawful(company):
    """A company whose new contacts get the permission Email."""
    company.mailchimp_control("PUT", "permissions", {"permissions": ["Email", "Direct mail"]})
    company.settings["marketing_permissions"] = {"email": BASIS}
    return company


def given(company, email):
    shown = company.members()[email]["marketing_permissions"]
    return {each["text"] for each in shown if each["enabled"]}


def warned(company):
    with company.database.begin() as connection:
        return permissions.warning(company.sync_settings(), connection)


def test_a48a_a_new_contact_gets_the_permissions_of_the_settings_with_their_basis(lawful, contract):
    amy = lawful.customer("Amy", AMY)
    for number in range(30):
        lawful.customer(f"Person {number}", f"person{number}@finch.org")
    lawful.sync()
    assert {frozenset(given(lawful, email)) for email in lawful.members()} == {frozenset({"Email"})}
    row = next(each for each in lawful.audit() if each["customer_id"] == amy)
    assert row["after"]["marketing_permissions"] == {"email": BASIS}
    assert row["after"]["further_calls"][-1]["did"] == "gave_permissions"
    lawful.clear_journals()
    lawful.sync()
    assert lawful.writes() == []


def test_a48a_a_known_contact_never_gets_one(lawful, contract):
    lawful.seed(AMY)
    amy, ben = lawful.customer("Amy", AMY), lawful.customer("Ben", BEN)
    lawful.sync()
    assert (given(lawful, AMY), given(lawful, BEN)) == (set(), {"Email"})
    lawful.person(BEN, "profile", permissions={"Email": False})
    for each in (amy, ben):
        lawful.edit(each, GivenName="Other")
    lawful.sync()
    for each in (amy, ben):
        lawful.edit(each, Active=False)
    lawful.sync()
    for each in (amy, ben):
        lawful.edit(each, Active=True)
    lawful.sync()
    assert lawful.statuses() == {AMY: "subscribed", BEN: "subscribed"}
    assert (given(lawful, AMY), given(lawful, BEN)) == (set(), set())


def test_a48a_a_contact_at_another_address_does_not_get_back_what_its_person_took_away(lawful):
    amy = lawful.customer("Amy", AMY)
    lawful.sync()
    lawful.person(AMY, "profile", permissions={"Email": False})
    lawful.move(amy, NEW)
    lawful.sync()
    assert lawful.statuses() == {AMY: "archived", NEW: "subscribed"}
    assert given(lawful, NEW) == set()


def test_a48a_a_member_that_joins_between_plan_and_call_gets_none(lawful, contract):
    lawful.customer("Amy", AMY)
    lawful.sync(before_push=lambda: lawful.seed(AMY))
    assert given(lawful, AMY) == set()


def test_a48a_a_permission_call_that_is_refused_costs_no_contact(lawful):
    lawful.customer("Amy", AMY)
    problem = {"title": "Invalid Resource", "status": 400, "detail": "No.", "instance": "1"}
    action = {"kind": "status", "status": 400, "body": problem}
    lawful.fault("mailchimp", match={"method": "PATCH"}, action=action)
    lawful.sync()
    assert lawful.statuses() == {AMY: "subscribed"}
    assert given(lawful, AMY) == set()
    assert lawful.audit()[-1]["after"]["further_calls"][-1]["did"] == "permissions_refused"


def test_a48a_without_gdpr_fields_the_run_stops_before_its_first_write(lawful):
    lawful.mailchimp_control("PUT", "permissions", {"permissions": []})
    lawful.customer("Amy", AMY)
    with pytest.raises(AudienceNotReady, match="has no GDPR fields"):
        lawful.sync()
    assert lawful.statuses() == {}


@pytest.mark.parametrize("members", [0, 1])
def test_a48a_a_permission_that_is_missing_stops_the_run_as_soon_as_a_member_shows_it(
    lawful, members
):
    lawful.settings["marketing_permissions"] = {"Emial": BASIS}
    for number in range(members):
        lawful.seed(f"person{number}@finch.org")
    for number in range(5):
        lawful.customer(f"Customer {number}", f"customer{number}@finch.org")
    lawful.threads = 1
    with pytest.raises(AudienceNotReady, match="marketing permission 'Emial' is missing"):
        lawful.sync()
    assert len(lawful.statuses()) == 1, "an audience without members shows it with the first one"


def test_a48a_gdpr_fields_without_a_setting_are_a_warning_from_the_first_plan_on(company):
    company.customer("Amy", AMY)
    company.mailchimp_control("PUT", "permissions", {"permissions": ["Email"]})
    plan = company.sync(preview=True).plan_id
    assert "names none" in warned(company)
    assert "The audience has GDPR fields" in Visitor(company, "admin").page(f"/main/plans/{plan}")
    company.sync()
    assert given(company, AMY) == set()
    company.settings["marketing_permissions"] = {"Email": BASIS}
    assert warned(company) is None


def test_a48a_an_audience_without_gdpr_fields_is_asked_once_and_no_warning(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    assert warned(company) is None
    company.clear_journals()
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert not [c for c in company.calls("mailchimp") if c["path"].endswith("/lists/a1b2c3d4e5")
                and c["method"] == "GET"]  # fmt: skip
