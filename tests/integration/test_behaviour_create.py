"""``create: never``, only existing members are updated: row A49 of docs/reference/behaviour.md."""

import pytest

from tests.integration.test_console import Visitor

AMY, BEN, NEW = "amy@finch.org", "ben@finch.org", "amy@new.org"


@pytest.fixture
def company(company):
    """A company that creates no contacts."""
    company.settings["create"] = "never"
    return company


def test_a49_members_are_updated_and_nobody_is_created(company, contract):
    company.seed(AMY)
    company.customer("Amy", AMY)
    ben = company.customer("Ben", BEN)
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}
    assert company.fields(AMY) == {"FNAME": "Amy"}
    assert company.decisions()[ben] == ("skipped", "creation_off", None)
    assert company.told(ben) == [("skip", "creation_off", "skipped")]
    shown = Visitor(company, "admin").page(f"/main/customers/{ben}")
    assert "it is not in the audience, and the settings create no contacts" in shown
    company.clear_journals()
    company.edit(ben, GivenName="Benjamin")
    company.sync()
    company.told_by_quickbooks(("updated", ben))
    company.work_off()
    assert company.writes() == []


@pytest.mark.parametrize("heard", ["poll", "webhook"])
def test_a49_a_customer_who_signs_up_is_updated_from_then_on(company, heard):
    company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "subscribe")
    if heard == "webhook":
        company.told_by_mailchimp("subscribe", email=AMY)
        company.work_off()
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}
    assert company.fields(AMY) == {"FNAME": "Amy"}


def test_a49_what_we_archived_comes_back_as_it_was_and_what_a_marketer_archived_does_not(company):
    for email in (AMY, BEN):
        company.seed(email, "transactional")
    amy, ben = company.customer("Amy", AMY), company.customer("Ben", BEN)
    company.sync()
    company.edit(amy, Active=False)
    company.person(BEN, "archive")
    company.sync()
    assert company.statuses() == {AMY: "archived", BEN: "archived"}
    company.edit(amy, Active=True)
    company.edit(ben, GivenName="Benjamin")
    company.sync()
    assert company.statuses() == {AMY: "transactional", BEN: "archived"}


@pytest.mark.parametrize("status", ["subscribed", "unsubscribed"])
def test_a49_a_customer_whose_address_changes_keeps_the_former_contact_until_the_new_one_is_there(
    company, status
):
    company.seed(AMY, status)
    amy = company.customer("Amy", AMY)
    company.sync()
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {AMY: status}
    company.seed(NEW, "subscribed")
    company.sync()
    assert company.statuses() == {AMY: "archived", NEW: "subscribed"}  # as A13: its own status


def test_a49_a_changed_setting_decides_on_everybody_again(company):
    company.customer("Amy", AMY)
    company.sync()
    company.settings["create"] = "all"
    company.sync()
    assert company.statuses() == {AMY: "subscribed"}
