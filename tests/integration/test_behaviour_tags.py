"""Tags and filters from QuickBooks attributes: rows A37 and A38 of docs/reference/behaviour.md."""

import pytest

from ml_connector.errors import SettingsError
from tests.integration.audit_journal import assert_audit_matches_journal

AMY = "amy@finch.org"
TYPES = {"1": "Retail", "2": "Wholesale", "3": "Staff"}
TAGS = {
    "static": ["QuickBooks"],
    "from": {"customer_type": "QBO {value}", "job": "Job"},
}


@pytest.fixture
def typed(company):
    """A company with three customer types, and tags from types and jobs."""
    company.settings["tags"] = TAGS
    types(company, TYPES)
    return company


def types(company, names):
    company.quickbooks_control("PUT", "customer-types", names)


def of_type(number):
    return {"CustomerTypeRef": {"value": number}}


def address(number):
    return f"person{number}@finch.org"


def many(company, number, **fields):
    return [company.customer(f"Person {n}", address(n), **fields) for n in range(number)]


def removals(company):
    return [call for call in company.writes() if "/segments/" in call["path"]]


def test_a37_contacts_carry_the_tags_that_their_customers_attributes_say(typed, contract):
    further = {"currency": "Pays in {value}", "BillAddr.City": "{value}"}
    typed.settings["tags"] = TAGS | {"from": TAGS["from"] | further}
    parent = typed.customer("Amy", AMY, BillAddr={"City": "Bayshore"}, **of_type("1"))
    typed.customer("Attic", "attic@finch.org", Job=True, ParentRef={"value": parent})
    typed.sync()
    assert typed.tags(AMY) == {"QuickBooks", "QBO Retail", "Pays in USD", "Bayshore"}
    assert typed.tags("attic@finch.org") == {"QuickBooks", "Job", "Pays in USD"}


def test_a37_a_tag_comes_off_when_its_attribute_changes_and_others_stay(typed, contract):
    amy = typed.customer("Amy", AMY, **of_type("1"))
    typed.sync()
    typed.person(AMY, "tags", add=["VIP"])
    typed.edit(amy, **of_type("2"))
    typed.sync()
    assert typed.tags(AMY) == {"QuickBooks", "QBO Wholesale", "VIP"}
    typed.edit(amy, CustomerTypeRef=None)
    typed.sync()
    assert typed.tags(AMY) == {"QuickBooks", "VIP"}
    assert_audit_matches_journal(typed)


def test_a37_a_tag_that_was_there_before_us_is_never_taken_off(typed, contract):
    typed.seed(AMY, tags=["qbo retail", "VIP"])
    amy = typed.customer("Amy", AMY, **of_type("1"))
    typed.sync()
    typed.edit(amy, **of_type("2"))
    typed.sync()
    assert typed.tags(AMY) == {"qbo retail", "VIP", "QuickBooks", "QBO Wholesale"}


def test_a37_a_tag_of_ours_that_comes_and_goes_stays_ours(typed):
    amy = typed.customer("Amy", AMY, **of_type("1"))
    typed.sync()
    for number in ("2", "1", "3"):
        typed.edit(amy, **of_type(number))
        typed.told_by_quickbooks(("updated", amy))
        typed.work_off()
    assert typed.tags(AMY) == {"QuickBooks", "QBO Staff"}


def test_a37_a_renamed_customer_type_renames_the_tag(typed):
    many(typed, 6, **of_type("1"))
    typed.sync()
    types(typed, TYPES | {"1": "Shops"})
    typed.clear_journals()
    typed.sync()
    assert {frozenset(typed.tags(address(n))) for n in range(6)} == {
        frozenset({"QuickBooks", "QBO Shops"})
    }
    assert len(typed.writes()) == 2, "one batch adds, one call takes off"
    typed.clear_journals()
    typed.sync()
    assert typed.writes() == []


def test_a37_many_changed_tags_cost_a_call_for_500_contacts_and_tag(typed):
    typed.threads = 1  # two share the changes out between them as it happens
    customers = many(typed, 520, **of_type("1"))
    typed.sync()
    typed.quickbooks_control(
        "POST", "customers/edit-many", {"ids": customers, "fields": of_type("2")}
    )
    typed.clear_journals()
    past = len(typed.audit())
    typed.sync()
    assert sorted(len(call["body"]["members_to_remove"]) for call in removals(typed)) == [20, 500]
    assert len(typed.writes()) == 4
    searches = [call for call in typed.calls("mailchimp") if "tag-search" in call["path"]]
    assert len(searches) == 1
    assert_audit_matches_journal(typed, rows=typed.audit()[past:])


def test_a37_a_day_without_changes_costs_one_read_of_the_types_and_nothing_else(typed):
    many(typed, 3, **of_type("1"))
    typed.sync()
    typed.clear_journals()
    typed.sync()
    assert len(typed.calls("quickbooks")) == 2
    assert [call["method"] for call in typed.calls("mailchimp")] == ["GET", "GET"]


def test_a37_types_are_not_read_where_no_setting_needs_them(typed):
    typed.settings["tags"] = {"static": ["QuickBooks"], "from": {"job": "Job"}}
    many(typed, 1)
    typed.sync()
    typed.clear_journals()
    typed.sync()
    assert len(typed.calls("quickbooks")) == 1


def test_a37_a_new_type_is_learnt_when_a_webhook_brings_its_first_customer(typed):
    amy = typed.customer("Amy", AMY)
    typed.sync()
    types(typed, TYPES | {"4": "Press"})
    typed.edit(amy, **of_type("4"))
    typed.told_by_quickbooks(("updated", amy))
    typed.work_off()
    assert typed.tags(AMY) == {"QuickBooks", "QBO Press"}


def test_a37_the_audit_shows_tags_before_and_after(typed):
    amy = typed.customer("Amy", AMY, **of_type("1"))
    typed.sync()
    typed.edit(amy, **of_type("2"))
    typed.sync()
    row = typed.audit()[-1]
    assert row["before"]["tags"] == ["QuickBooks", "QBO Retail"]
    assert row["after"]["tags"] == ["QuickBooks", "QBO Wholesale"]
    assert row["after"]["further_calls"][-1]["tags"] == ["QBO Retail"]


def test_a37_tags_follow_a_contact_that_changed_while_it_was_archived(typed):
    amy = typed.customer("Amy", AMY, **of_type("1"))
    typed.sync()
    typed.edit(amy, Active=False)
    typed.sync()
    typed.edit(amy, Active=True, **of_type("2"))
    typed.sync()
    assert typed.statuses() == {AMY: "subscribed"}
    assert typed.tags(AMY) == {"QuickBooks", "QBO Wholesale"}
    assert_audit_matches_journal(typed)


def test_a37_tags_taken_out_of_the_settings_come_off(typed):
    typed.settings["tags"] = ["QuickBooks", "Summer"]
    many(typed, 4)
    typed.sync()
    typed.settings["tags"] = ["QuickBooks"]
    typed.sync()
    assert {frozenset(typed.tags(address(n))) for n in range(4)} == {frozenset({"QuickBooks"})}


def test_a37_a_tag_that_a_marketer_deleted_meanwhile_needs_no_call(typed):
    customers = many(typed, 4, **of_type("1"))
    typed.sync()
    for n in range(4):
        typed.person(address(n), "tags", remove=["QBO Retail"])
    typed.quickbooks_control(
        "POST", "customers/edit-many", {"ids": customers, "fields": of_type("2")}
    )
    typed.sync()
    assert typed.tags(address(0)) == {"QuickBooks", "QBO Wholesale"}


@pytest.mark.parametrize(
    "rules",
    [{"include": {"customer_type": ["retail"]}}, {"exclude": {"customer_type": "Staff"}}],
    ids=["include", "exclude"],
)
def test_a38_customers_of_other_types_are_left_out_and_archived(typed, rules):
    typed.settings |= rules
    amy = typed.customer("Amy", AMY, **of_type("1"))
    sam = typed.customer("Sam", "sam@finch.org", **of_type("3"))
    typed.sync()
    assert typed.statuses() == {AMY: "subscribed"}
    assert typed.decisions()[sam] == ("skipped", "customer_type_excluded", None)
    typed.edit(amy, **of_type("3"))
    typed.sync()
    assert typed.statuses() == {AMY: "archived"}
    assert ("archive", "customer_type_excluded", "applied") in typed.told(amy)
    typed.edit(amy, **of_type("1"))
    typed.sync()
    assert typed.statuses() == {AMY: "subscribed"}


def test_a38_a_changed_rule_takes_effect_with_the_next_run(typed):
    typed.customer("Amy", AMY, CurrencyRef={"value": "EUR", "name": "Euro"})
    typed.sync()
    typed.settings["include"] = {"currency": ["USD"]}
    typed.sync()
    assert typed.statuses() == {AMY: "archived"}


def test_a38_a_type_that_quickbooks_does_not_have_stops_the_run(typed):
    typed.customer("Amy", AMY, **of_type("1"))
    typed.sync()
    typed.settings["include"] = {"customer_type": ["Retial"]}
    with pytest.raises(SettingsError, match=r"'Retial'; it has: Retail, Staff, Wholesale"):
        typed.sync()
    assert typed.statuses() == {AMY: "subscribed"}


@pytest.mark.parametrize("kind", ["drop", "delay"])
def test_a37_a_lost_answer_while_taking_tags_off_does_no_harm(typed, kind):
    customers = many(typed, 4, **of_type("1"))
    typed.sync()
    typed.quickbooks_control(
        "POST", "customers/edit-many", {"ids": customers, "fields": of_type("2")}
    )
    typed.timeout = 0.5 if kind == "delay" else typed.timeout
    action = {"kind": kind} if kind == "drop" else {"kind": kind, "seconds": 2}
    typed.fault("mailchimp", match={"path": "/segments/"}, action=action, times=1)
    typed.sync()
    found = {frozenset(typed.tags(address(n))) for n in range(4)}
    assert found == {frozenset({"QuickBooks", "QBO Wholesale"})}
    assert_audit_matches_journal(typed)


def test_a37_a_refused_call_for_many_is_made_one_by_one(typed):
    customers = many(typed, 4, **of_type("1"))
    typed.sync()
    typed.quickbooks_control(
        "POST", "customers/edit-many", {"ids": customers, "fields": of_type("2")}
    )
    problem = {"title": "Invalid Resource", "status": 400, "detail": "No.", "instance": "1"}
    action = {"kind": "status", "status": 400, "body": problem}
    typed.fault("mailchimp", match={"path": "/segments/"}, action=action)
    typed.sync()
    found = {frozenset(typed.tags(address(n))) for n in range(4)}
    assert found == {frozenset({"QuickBooks", "QBO Wholesale"})}
