"""A44 and A45: values that people changed in Mailchimp, and those that were there before us."""

from datetime import timedelta

import pytest

from ml_connector.activity.use_edit import use_in_quickbooks
from ml_connector.errors import ConnectorError, RetryLater, StaleObject
from ml_connector.sync.edits import ask_to_restore
from tests.integration.company import Company

AMY = "amy@edited-mail.net"

pytestmark = pytest.mark.usefixtures("contract")


def bob_is_robert(company: Company, rule: object = None) -> str:
    """A customer Bob, whose first name somebody changed to Robert in Mailchimp."""
    if rule is not None:
        company.settings["on_member_edit"] = rule
    bob = company.customer("Bob", AMY, FamilyName="Ross")
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    return bob


def last(company: Company) -> dict:
    return [row for row in company.audit() if row["system"] == "mailchimp"][-1]


@pytest.mark.parametrize("rule", [None, "suggest"])
def test_a44_an_edit_stays_when_another_field_changes_in_quickbooks(company, rule):
    bob = bob_is_robert(company, rule)
    company.edit(bob, CompanyName="QBO Ltd")
    company.sync()
    company.edit(bob, CompanyName="QBO Inc")
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Robert", "LNAME": "Ross", "COMPANY": "QBO Inc"}
    row = last(company)
    assert row["after"]["kept"] == {"FNAME": "changed_in_mailchimp"}
    assert "FNAME" not in row["after"]["merge_fields"]
    assert row["before"]["merge_fields"]["FNAME"] == "Robert"


def test_a44_an_edit_ends_when_quickbooks_own_value_changes(company):
    bob = bob_is_robert(company)
    company.edit(bob, CompanyName="QBO Ltd")
    company.sync()
    company.edit(bob, GivenName="Bobby")
    company.sync()
    assert company.fields(AMY)["FNAME"] == "Bobby"
    assert last(company)["after"]["replaced"] == {"FNAME": "Robert"}


def test_a44_a_value_cleared_in_mailchimp_stays_cleared(company):
    bob = company.customer("Bob", AMY, FamilyName="Ross")
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": ""})
    company.edit(bob, CompanyName="QBO Ltd")
    company.sync()
    assert company.fields(AMY) == {"LNAME": "Ross", "COMPANY": "QBO Ltd"}


def test_a44_restore_brings_quickbooks_value_back_once_and_says_what_it_replaced(company):
    bob_is_robert(company, "restore")
    company.sync()
    assert company.fields(AMY)["FNAME"] == "Bob"
    row = last(company)
    assert (row["action"], row["outcome"]) == ("update", "applied")
    assert row["after"]["replaced"] == {"FNAME": "Robert"}
    company.clear_journals()
    company.sync()
    assert company.writes() == []


def test_a44_the_rule_holds_by_field(company):
    bob_is_robert(company, {"LNAME": "restore"})
    company.person(AMY, "profile", merge_fields={"LNAME": "Rossi"})
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Robert", "LNAME": "Ross"}


def test_a44_a_new_rule_restore_takes_back_what_was_kept(company):
    bob_is_robert(company)
    company.sync()
    assert company.fields(AMY)["FNAME"] == "Robert"
    company.settings["on_member_edit"] = "restore"
    company.sync()
    assert company.fields(AMY)["FNAME"] == "Bob"


def test_a44_an_edit_told_by_a_webhook_is_kept_or_restored(company):
    bob = bob_is_robert(company, {"LNAME": "restore"})
    company.person(AMY, "profile", merge_fields={"LNAME": "Rossi"})
    company.told_by_mailchimp("profile", email=AMY, id="1")
    company.work_off()
    company.edit(bob, CompanyName="QBO Ltd")
    company.told_by_quickbooks(("updated", bob))
    company.work_off()
    assert company.fields(AMY) == {"FNAME": "Robert", "LNAME": "Ross", "COMPANY": "QBO Ltd"}


def test_a44_an_edit_survives_an_archive_and_a_restore(company):
    bob = bob_is_robert(company)
    company.sync()
    company.edit(bob, Active=False)
    company.sync()
    company.edit(bob, Active=True, DisplayName="Bob")
    company.sync()
    assert company.statuses()[AMY] == "subscribed"
    assert company.fields(AMY)["FNAME"] == "Robert"


def test_a45_adopting_fills_empty_fields_and_leaves_the_others(company):
    company.seed(AMY, merge_fields={"FNAME": "Robert"})
    bob = company.customer("Bob", AMY, CompanyName="QBO Ltd")
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Robert", "COMPANY": "QBO Ltd"}
    assert last(company)["after"]["kept"] == {"FNAME": "filled_before_the_sync"}
    company.edit(bob, CompanyName="QBO Inc")
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Robert", "COMPANY": "QBO Inc"}
    company.edit(bob, GivenName="Bobby")
    company.sync()
    assert company.fields(AMY)["FNAME"] == "Bobby"


def test_a45_a_value_from_before_us_is_no_edit_to_restore(company):
    company.settings["on_member_edit"] = "restore"
    company.seed(AMY, merge_fields={"FNAME": "Robert"})
    company.customer("Bob", AMY, FamilyName="Ross")
    company.sync()
    company.person(AMY, "profile", merge_fields={"LNAME": "Rossi"})
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Robert", "LNAME": "Ross"}


@pytest.mark.parametrize(
    ("adopt", "shown"),
    [
        ("overwrite", {"FNAME": "Bob", "COMPANY": "QBO Ltd"}),
        ("skip", {"FNAME": "Robert"}),
    ],
)
def test_a45_the_setting_says_what_happens_to_members_from_before_us(company, adopt, shown):
    company.settings["adopt"] = adopt
    company.seed(AMY, merge_fields={"FNAME": "Robert"})
    bob = company.customer("Bob", AMY, CompanyName="QBO Ltd")
    company.sync()
    assert company.fields(AMY) == shown
    assert company.tags(AMY) == {"QuickBooks"}
    company.edit(bob, FamilyName="Ross")
    company.sync()
    assert company.fields(AMY) == {**shown, "LNAME": "Ross"}


def company_is_mapped_later(company: Company, **settings: object) -> str:
    """A contact of ours, in whose company field a marketer typed; then the field is mapped."""
    company.settings["fields"] = {"FNAME": "GivenName", "LNAME": "FamilyName"}
    bob = company.customer("Bob", AMY, FamilyName="Ross", CompanyName="QBO Ltd")
    company.customer("Zoe", "zoe@edited-mail.net", CompanyName="Zoe Ltd")
    company.sync()
    company.person(AMY, "profile", merge_fields={"COMPANY": "Typed Inc"})
    company.sync()
    company.settings |= {"fields": {"FNAME": "GivenName", "COMPANY": "CompanyName"}, **settings}
    return bob


@pytest.mark.parametrize(
    ("adopt", "shown"),
    [("fill_empty", "Typed Inc"), ("skip", "Typed Inc"), ("overwrite", "QBO Ltd")],
)
def test_a45_a_field_mapped_later_is_adopted_like_those_of_a_member(company, adopt, shown):
    bob = company_is_mapped_later(company, adopt=adopt)
    company.sync()
    assert company.fields(AMY)["COMPANY"] == shown
    assert company.fields("zoe@edited-mail.net")["COMPANY"] == "Zoe Ltd"
    assert "Typed Inc" not in notes(company, bob), "it was typed before the field was ours"
    company.clear_journals()
    company.sync()
    assert company.writes() == []
    company.edit(bob, GivenName="Bobby")
    company.sync()
    assert company.fields(AMY)["COMPANY"] == shown
    company.edit(bob, CompanyName="QBO Inc")
    company.sync()
    assert company.fields(AMY)["COMPANY"] == "QBO Inc"


def test_a45_a_webhook_right_after_a_field_was_mapped_overwrites_nothing(company):
    bob = company_is_mapped_later(company)
    company.edit(bob, GivenName="Bobby")
    company.told_by_quickbooks(("updated", bob))
    company.work_off()
    assert company.fields(AMY) == {"FNAME": "Bobby", "LNAME": "Ross", "COMPANY": "Typed Inc"}
    company.sync()
    assert company.fields(AMY)["COMPANY"] == "Typed Inc"


def test_a45_a_value_typed_before_the_field_was_mapped_stays_when_quickbooks_gets_one(company):
    bob = company_is_mapped_later(company)
    company.edit(bob, CompanyName="")
    company.sync()
    company.edit(bob, GivenName="Bobby")
    company.sync()
    company.edit(bob, CompanyName="QBO Inc")
    company.sync()
    assert company.fields(AMY)["COMPANY"] == "Typed Inc"


def test_a45_a_mapping_that_stays_costs_no_further_read_of_the_audience(company):
    company_is_mapped_later(company)
    company.sync()
    company.clear_journals()
    company.sync()
    listed = [c for c in company.calls("mailchimp") if c["path"].endswith("/members")]
    assert listed
    assert all("since_last_changed" in str(c) for c in listed), listed


def test_a45_a_customer_who_meets_a_member_later_leaves_filled_fields(company):
    company.seed(AMY, merge_fields={"FNAME": "Robert"})
    company.customer("Zoe", "zoe@edited-mail.net")
    company.sync()
    company.customer("Bob", AMY, CompanyName="QBO Ltd")
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Robert", "COMPANY": "QBO Ltd"}


def test_a44_an_edit_goes_along_with_a_member_who_takes_another_address(company):
    bob = bob_is_robert(company)
    company.person(AMY, "upemail", email_address="away@edited-mail.net")
    company.sync()
    company.edit(bob, FamilyName="Rossi", PrimaryEmailAddr={"Address": "away@edited-mail.net"})
    company.sync()
    assert company.fields("away@edited-mail.net") == {"FNAME": "Robert", "LNAME": "Rossi"}


def notes(company: Company, customer_id: str) -> str:
    return str(company.quickbooks_control("GET", f"customers/{customer_id}").get("Notes", ""))


def test_b1_an_edit_names_old_and_new_value_on_the_customer(company):
    bob = bob_is_robert(company)
    company.sync()
    assert "FNAME from Bob to Robert" in notes(company, bob).replace("First Name", "FNAME")


def test_b1_without_values_an_edit_names_the_field_alone(company):
    company.settings["activity"] = {"values": False}
    bob = bob_is_robert(company)
    company.sync()
    said = notes(company, bob)
    assert "changed their details in Mailchimp" in said
    assert "Robert" not in said


def test_a44_a_suggestion_stands_on_the_customer_until_quickbooks_changes(company):
    bob = bob_is_robert(company, "suggest")
    company.sync()
    assert " in Mailchimp: Robert (20" in notes(company, bob)
    company.edit(bob, CompanyName="QBO Ltd")
    company.sync()
    assert " in Mailchimp: Robert (20" in notes(company, bob)
    company.edit(bob, GivenName="Robert")
    company.sync()
    assert " in Mailchimp: Robert (20" not in notes(company, bob)


def quickbooks_value(company: Company, customer_id: str) -> str:
    return str(company.quickbooks_control("GET", f"customers/{customer_id}")["GivenName"])


def use_first_name(company: Company, customer_id: str) -> None:
    scope = company.scope()
    client = company.quickbooks_client(scope.calls)
    use_in_quickbooks(scope, client, customer_id=customer_id, tag="FNAME")


def test_a44_a_suggestion_taken_over_is_written_to_quickbooks_and_ends(company):
    bob = bob_is_robert(company, "suggest")
    company.sync()
    use_first_name(company, bob)
    assert quickbooks_value(company, bob) == "Robert"
    row = company.audit()[-1]
    assert (row["action"], row["outcome"]) == ("use_edit", "applied")
    assert (row["before"], row["after"]) == ({"GivenName": "Bob"}, {"GivenName": "Robert"})
    company.sync()
    company.edit(bob, GivenName="Rob")
    company.sync()
    assert company.fields(AMY)["FNAME"] == "Rob"
    assert " in Mailchimp: Robert (20" not in notes(company, bob)


def test_a44_a_customer_changed_in_quickbooks_meanwhile_is_not_overwritten(company):
    bob = bob_is_robert(company, "suggest")
    company.sync()
    company.edit(bob, GivenName="Bobby")
    with pytest.raises(StaleObject):
        use_first_name(company, bob)
    assert quickbooks_value(company, bob) == "Bobby"
    assert company.audit()[-1]["outcome"] == "failed"


def test_a44_a_suggestion_taken_over_whose_answer_was_lost_has_its_row(company):
    bob = bob_is_robert(company, "suggest")
    company.sync()
    lost = {"kind": "drop", "when": "after"}
    company.fault("quickbooks", match={"path": "batch"}, times=9, action=lost)
    with pytest.raises(RetryLater):
        use_first_name(company, bob)
    assert quickbooks_value(company, bob) == "Robert"
    row = company.audit()[-1]
    assert (row["action"], row["outcome"]) == ("use_edit", "unheard")
    assert row["after"] == {"GivenName": "Robert"}


def test_a44_an_edit_is_restored_when_a_user_asks(company):
    bob_is_robert(company)
    company.sync()
    scope = company.scope()
    key = company.vault.email_key(AMY)
    assert ask_to_restore(scope, key=key, tag="FNAME")
    assert not ask_to_restore(scope, key=key, tag="LNAME")
    company.sync()
    assert company.fields(AMY)["FNAME"] == "Bob"
    assert last(company)["after"]["replaced"] == {"FNAME": "Robert"}


def test_a44_an_edit_not_yet_told_survives_a_webhook_about_another_field(company):
    """Updates for webhooks read the contact first."""
    bob = company.customer("Bob", AMY, FamilyName="Ross")
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    company.edit(bob, CompanyName="QBO Inc")
    company.told_by_quickbooks(("updated", bob))
    company.work_off()
    assert company.fields(AMY) | {"FNAME": "Robert", "COMPANY": "QBO Inc"} == company.fields(AMY)


def test_a44_an_edit_told_by_nobody_survives_the_first_webhook_after_a_new_mapping(company):
    bob = company_is_mapped_later(company)
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    company.edit(bob, CompanyName="QBO Inc")
    company.told_by_quickbooks(("updated", bob))
    company.work_off()
    assert company.fields(AMY)["FNAME"] == "Robert"


def test_a45_whoever_signs_up_while_our_creation_is_parked_keeps_what_they_typed(company):
    company.mailchimp_control("PUT", "settings", {"throttled": [AMY]})
    company.customer("Bob", AMY, FamilyName="Ross")
    company.sync()
    assert AMY not in company.members()
    company.mailchimp_control("PUT", "settings", {"throttled": []})
    company.seed(AMY, merge_fields={"FNAME": "Robert"})
    company.ahead = timedelta(hours=2)
    company.sync()
    assert company.fields(AMY)["FNAME"] == "Robert"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop", "when": "before"},
        {"kind": "drop", "when": "after"},
        {"kind": "status", "status": 429},
    ],
)
def test_a45_what_a_person_typed_after_a_creation_without_an_answer_stays(company, fault):
    """Nobody can tell any more whose value it is, so it is not overwritten."""
    company.customer("Zoe", "zoe@edited-mail.net")
    company.sync()
    company.customer("Bob", AMY)
    company.fault("mailchimp", match={"method": "POST"}, times=9, action=fault)
    with pytest.raises(ConnectorError):
        company.sync()
    company.clear_faults(company.mailchimp)
    if AMY in company.members():
        company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    else:
        company.seed(AMY, merge_fields={"FNAME": "Robert"})
    company.sync()
    assert company.fields(AMY)["FNAME"] == "Robert"
