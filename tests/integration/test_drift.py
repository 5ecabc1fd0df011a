"""E2: what differs between QuickBooks and Mailchimp, told without a write or a QuickBooks read."""

from ml_connector.store import drifting
from ml_connector.sync.drift import Drift, iter_drift
from tests.integration.company import Company
from tests.integration.test_forget import erase

AMY = "amy@drifting-mail.net"


def drift(company: Company) -> list[Drift]:
    scope = company.scope()
    return list(iter_drift(scope, company.mailchimp_client(scope.calls)))


def told(each: Drift) -> tuple[str, str, str, str, str]:
    return (each.field, each.quickbooks, each.mailchimp, each.changed, each.rule)


def test_e2_a_clean_audience_shows_nothing_and_costs_no_quickbooks_call(company):
    company.customer("Amy", AMY, BillAddr={"Line1": "Way 1", "City": "Muscat", "Country": "Oman"})
    company.sync()
    company.clear_journals()
    assert drift(company) == []
    assert company.calls("quickbooks") == []
    assert company.writes() == []


def test_e2_an_edit_is_named_with_both_values_its_time_and_the_rule(company):
    company.settings["on_member_edit"] = {"LNAME": "restore"}
    amy = company.customer("Amy", AMY, FamilyName="Finch")
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Amelie", "LNAME": ""})
    before = drift(company)
    assert [told(each) for each in before] == [
        ("First Name", "Amy", "Amelie", "in Mailchimp", "keep"),
        ("Last Name", "Finch", "empty", "in Mailchimp", "restore"),
    ]
    assert all(each.since and each.customer_id == amy and each.email == AMY for each in before)
    company.sync()
    company.edit(amy, CompanyName="QBO Ltd")
    company.sync()
    after = drift(company)
    assert [told(each) for each in after] == [told(before[0])]
    assert after[0].since == before[0].since


def test_e2_a_value_from_before_the_sync_says_so(company):
    company.seed(AMY, merge_fields={"FNAME": "Amelie"})
    company.customer("Amy", AMY)
    company.sync()
    assert [told(each) for each in drift(company)] == [
        ("First Name", "Amy", "Amelie", "before the sync", "fill_empty")
    ]


def test_e2_a_value_that_waits_for_the_next_run_says_so(company):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.edit(amy, GivenName="Amelie")
    company.fetch(company.scope())
    assert [told(each) for each in drift(company)] == [
        ("First Name", "Amelie", "Amy", "in QuickBooks", "next_run")
    ]


def test_e2_a_field_that_quickbooks_never_filled_is_the_members_own(company):
    company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "profile", merge_fields={"LNAME": "Finch", "PHONE": "415 555 0100"})
    assert drift(company) == []


def test_e2_who_was_forgotten_and_signed_up_again_is_not_listed(company):
    company.customer("Amy", AMY)
    company.sync()
    erase(company, AMY, delete=True)
    company.seed(AMY)
    assert drift(company) == []


def test_e2_more_customers_than_a_page_are_missed_without_one_left_out(company):
    ids = {company.customer(f"C{number}", f"c{number}@drifting-mail.net") for number in range(5)}
    company.fetch(company.scope())
    with company.database.begin() as connection:
        drifting.start_comparison(connection)
        missing = drifting.missing_members(connection, sync="main", vault=company.vault, page=2)
        assert {each.customer_id for each in missing} == ids


def test_e2_contacts_on_one_side_only_are_listed(company):
    company.customer("Amy", AMY)
    company.customer("Bob", "bob@drifting-mail.net")
    company.customer("Gone", "gone@drifting-mail.net", Active=False)
    company.sync()
    company.seed("zoe@drifting-mail.net")
    company.person("bob@drifting-mail.net", "archive")
    company.sync()
    found = {(each.what, each.email, each.rule) for each in drift(company)}
    assert found == {
        ("only_in_mailchimp", "zoe@drifting-mail.net", "no_customer"),
        ("only_in_quickbooks", "bob@drifting-mail.net", "archived_by_marketer"),
    }


def test_e2_a_member_who_took_another_address_is_one_difference(company):
    company.customer("Amy", AMY)
    company.sync()
    company.person(AMY, "upemail", email_address="away@drifting-mail.net")
    company.sync()
    (each,) = drift(company)
    assert (each.what, each.quickbooks, each.mailchimp) == (
        "address",
        AMY,
        "away@drifting-mail.net",
    )


def test_e2_many_pages_are_compared_one_at_a_time(company):
    for number in range(7):
        company.customer(f"C{number}", f"c{number}@drifting-mail.net")
    company.sync()
    company.person("c3@drifting-mail.net", "profile", merge_fields={"FNAME": "Carla"})
    scope = company.scope()
    client = company.mailchimp_client(scope.calls)
    client._page_size = 2
    (each,) = iter_drift(scope, client)
    assert told(each)[1:3] == ("C3", "Carla")
