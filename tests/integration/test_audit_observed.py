"""A41: the audit's state before a write is what was last observed at Mailchimp."""

import pytest
from sqlalchemy import text

from tests.integration.company import Company

AMY = "amy@observed-mail.net"

pytestmark = pytest.mark.usefixtures("contract")


def last(company: Company, action: str) -> dict:
    rows = [r for r in company.audit() if r["system"] == "mailchimp" and r["action"] == action]
    return rows[-1]


def observations(company: Company) -> int:
    with company.database.begin() as connection:
        found = connection.execute(text("SELECT count(*) FROM ml_connector.observations"))
        return int(found.scalar_one())


def test_a41_adopting_a_member_keeps_what_a_marketer_typed(company):
    typed = {"FNAME": "Robert", "COMPANY": "Hand-typed GmbH"}
    company.seed(AMY, merge_fields=typed, tags=["VIP", "QuickBooks"])
    company.customer("Bob", AMY, CompanyName="QBO Ltd")
    company.sync()
    before = last(company, "update")["before"]
    assert before["status"] == "subscribed"
    assert before["merge_fields"] == typed
    assert before["tags"] == ["QuickBooks"], "tags that are not ours to set stay out"
    assert before["observed_at"]


def test_a41_a_members_own_edit_is_in_the_state_before_the_next_write(company):
    bob = company.customer("Bob", AMY)
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    company.edit(bob, CompanyName="QBO Ltd")
    company.sync()
    assert last(company, "update")["before"]["merge_fields"]["FNAME"] == "Robert"


def test_a41_without_an_edit_the_state_before_is_what_we_sent(company):
    bob = company.customer("Bob", AMY)
    company.sync()
    company.sync()
    company.edit(bob, CompanyName="QBO Ltd")
    company.sync()
    before = last(company, "update")["before"]
    assert before["merge_fields"]["FNAME"] == "Bob"
    assert before["observed_at"]


def test_a41_a_clean_audience_stores_no_observation(company):
    for number in range(20):
        company.customer(f"C{number}", f"c{number}@observed-mail.net")
    company.sync()
    company.sync(full_sync=True)
    assert observations(company) == 0


def test_a41_a_tag_that_a_marketer_took_off_is_not_in_the_state_before_the_next_write(company):
    bob = company.customer("Bob", AMY)
    company.sync()
    company.sync()
    company.person(AMY, "tags", remove=["QuickBooks"])
    company.edit(bob, CompanyName="QBO Ltd")
    company.sync()
    assert last(company, "update")["before"]["tags"] == []


def test_a41_a_tag_of_a_marketers_own_is_no_observation(company):
    company.customer("Bob", AMY)
    company.sync()
    company.sync()
    company.person(AMY, "tags", add=["VIP"])
    company.sync()
    assert observations(company) == 0


def test_a41_a_member_who_comes_back_to_an_address_is_in_the_state_before_the_next_write(company):
    bob = company.customer("Bob", AMY)
    company.sync()
    company.sync()
    company.person(AMY, "upemail", email_address="away@observed-mail.net")
    company.person("away@observed-mail.net", "profile", merge_fields={"FNAME": "Robert"})
    company.sync()
    company.person("away@observed-mail.net", "upemail", email_address=AMY)
    company.edit(bob, CompanyName="QBO Ltd")
    company.sync()
    assert last(company, "update")["before"]["merge_fields"]["FNAME"] == "Robert"


def test_a41_our_write_ends_the_difference(company):
    bob = company.customer("Bob", AMY)
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    company.sync()
    assert observations(company) == 1
    company.edit(bob, GivenName="Bobby")
    company.sync()
    assert observations(company) == 0


def test_a41_an_archive_and_a_restore_tell_what_was_read_just_before(company):
    bob = company.customer("Bob", AMY)
    company.sync()
    company.edit(bob, Active=False)
    company.sync(
        before_archive=lambda: company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    )
    assert last(company, "archive")["before"]["merge_fields"]["FNAME"] == "Robert"
    company.edit(bob, Active=True, DisplayName="Bob")
    company.sync()
    before = last(company, "restore")["before"]
    assert (before["status"], before["merge_fields"]["FNAME"]) == ("archived", "Robert")


def test_a41_an_archive_whose_answer_was_lost_tells_what_the_contact_showed(company):
    bob = company.customer("Bob", AMY)
    company.sync()
    company.edit(bob, Active=False)
    lost = {"kind": "drop", "when": "after"}
    company.fault("mailchimp", match={"method": "DELETE"}, times=4, action=lost)
    company.told_by_quickbooks(("updated", bob))
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    company.work_off()
    company.sync()
    before = last(company, "archive")["before"]
    assert (before["status"], before["merge_fields"]["FNAME"]) == ("subscribed", "Robert")
    assert before["observed_at"]


def test_a41_another_audience_starts_without_observations(company):
    company.customer("Bob", AMY)
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    company.sync()
    assert observations(company) == 1
    fields = [{"tag": tag, "name": tag, "type": kind} for tag, kind in (
        ("FNAME", "text"), ("LNAME", "text"), ("COMPANY", "text"), ("PHONE", "phone"),
        ("ADDRESS", "address"))]  # fmt: skip
    company.mailchimp_control("POST", "audiences", {"id": "b2c3d4e5f6", "merge_fields": fields})
    company.settings["audience_id"] = "b2c3d4e5f6"
    company.sync()
    assert observations(company) == 0


def test_a41_a_value_that_we_never_sent_stays_in_the_state_before(company):
    company.seed(AMY, merge_fields={"PHONE": "555-0100"})
    bob = company.customer("Bob", AMY)
    company.sync()
    assert company.fields(AMY) == {"FNAME": "Bob", "PHONE": "555-0100"}
    company.edit(bob, PrimaryPhone={"FreeFormNumber": "555-0199"})
    company.sync()
    assert last(company, "update")["before"]["merge_fields"]["PHONE"] == "555-0100"


def test_a41_members_who_are_no_customers_are_not_kept_and_read_when_they_become_one(company):
    company.settings["adopt"] = "overwrite"
    for number in range(5):
        company.seed(f"s{number}@observed-mail.net", merge_fields={"FNAME": "Stranger"})
    company.customer("Amy", AMY)
    company.sync()
    assert observations(company) == 0
    company.customer("Zoe", "s3@observed-mail.net")
    company.clear_journals()
    company.sync()
    assert last(company, "update")["before"]["merge_fields"] == {"FNAME": "Stranger"}
    company.person("s1@observed-mail.net", "profile", merge_fields={"FNAME": "Robert"})
    company.sync()
    assert observations(company) == 0


def test_a41_many_members_who_become_customers_are_read_together(company):
    emails = [f"s{number}@observed-mail.net" for number in range(7)]
    for email in emails:
        company.seed(email, merge_fields={"FNAME": "Stranger"})
    company.customer("Amy", AMY)
    company.sync()
    for email in emails:
        company.customer("Zoe", email, DisplayName=email)
    company.clear_journals()
    company.sync()
    rows = [row for row in company.audit() if row["reason"] == "adopted"]
    assert len(rows) == 7
    assert all(row["before"]["merge_fields"] == {"FNAME": "Stranger"} for row in rows)
    singles = [c for c in company.calls("mailchimp") if c["method"] == "GET"]
    assert len(singles) <= 6


def test_a41_tags_are_those_that_the_contact_wore_whoever_set_them(company):
    company.settings["tags"] = {"static": ["QuickBooks"], "from": {"currency": "Pays in {value}"}}
    bob = company.customer("Bob", AMY, CurrencyRef={"value": "USD"})
    company.sync()
    company.person(AMY, "tags", add=["VIP"], remove=["QuickBooks"])
    company.edit(bob, CompanyName="QBO Ltd")
    company.sync()
    row = last(company, "update")
    assert row["before"]["tags"] == ["Pays in USD"]
    assert row["after"]["tags"] == ["QuickBooks", "Pays in USD"]


def test_a41_an_edit_that_was_taken_back_leaves_nothing(company):
    company.customer("Bob", AMY)
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    company.sync()
    assert observations(company) == 1
    company.person(AMY, "profile", merge_fields={"FNAME": "Bob"})
    company.sync()
    assert observations(company) == 0


def test_a41_a_member_who_was_deleted_leaves_nothing(company):
    bob = company.customer("Bob", AMY)
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    company.sync()
    assert observations(company) == 1
    company.person(AMY, "forget")
    company.told_by_mailchimp("unsubscribe", email=AMY, id="1", action="delete")
    company.work_off()
    assert observations(company) == 0
    assert company.decisions()[bob]


def test_a41_an_edit_at_a_contact_that_lost_its_customer_is_in_the_state_before_the_next_write(
    company,
):
    company.settings["new_contact_status"] = "pending"  # Mailchimp cannot archive it: it stays
    bob = company.customer("Bob", AMY)
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    company.move(bob, "bob@observed-mail.net")
    company.sync()
    company.sync()
    company.customer("Amy", AMY)
    company.sync()
    assert last(company, "update")["before"]["merge_fields"]["FNAME"] == "Robert"
