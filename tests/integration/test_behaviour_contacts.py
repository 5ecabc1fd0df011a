"""Customers become contacts and stay in step: rows A1 to A10 and A25 of docs/reference/behaviour.md."""

import pytest

from tests.integration.company import ADDRESS

MAILCHIMP_ADDRESS = {
    "addr1": "4581 Finch St.",
    "addr2": "",
    "city": "Bayshore",
    "state": "CA",
    "zip": "94326",
    "country": "US",
}


@pytest.mark.parametrize("setting", ["subscribed", "pending", "transactional"])
def test_a1_new_customer_becomes_a_contact_with_the_setting(company, contract, setting):
    company.settings["new_contact_status"] = setting
    amy = company.customer(
        "Amy",
        "amy@finch.org",
        FamilyName="Lauterbach",
        CompanyName="Amy's Birds",
        PrimaryPhone={"FreeFormNumber": "(650) 555-3311"},
        BillAddr=ADDRESS,
    )
    company.sync()
    assert company.statuses() == {"amy@finch.org": setting}
    assert company.fields("amy@finch.org") == {
        "FNAME": "Amy",
        "LNAME": "Lauterbach",
        "COMPANY": "Amy's Birds",
        "PHONE": "(650) 555-3311",
        "ADDRESS": MAILCHIMP_ADDRESS,
    }
    assert company.tags("amy@finch.org") == {"QuickBooks"}
    assert company.decisions() == {amy: ("contact", "new_customer", None)}
    assert company.told(amy) == [("create", "new_customer", "applied")]


def test_a1_audit_shows_the_state_before_and_after(company):
    amy = company.customer("Amy", "amy@finch.org")
    company.sync()
    company.edit(amy, GivenName="Amelia")
    company.sync()
    created, updated = company.audit()
    assert (created["before"], created["after"]["status"]) == (None, "subscribed")
    assert updated["before"]["merge_fields"]["FNAME"] == "Amy"
    assert updated["after"]["merge_fields"]["FNAME"] == "Amelia"
    assert updated["request_id"]
    assert (updated["run_id"], updated["cause"].split(":")[0]) == ("run-2", "change")


def test_a2_unchanged_customer_causes_no_write(company):
    amy = company.customer("Amy", "amy@finch.org")
    company.sync()
    company.clear_journals()
    company.quickbooks_control("POST", f"customers/{amy}/touch")
    company.sync()
    assert company.writes() == []
    assert len(company.audit()) == 1


def test_a2_change_in_a_field_that_is_not_mapped_causes_no_write(company):
    amy = company.customer("Amy", "amy@finch.org")
    company.sync()
    company.clear_journals()
    company.edit(amy, Notes="prefers mornings", DisplayName="Amy L.")
    company.sync()
    assert company.writes() == []


def test_a3_changed_field_is_updated_and_no_status_is_sent(company):
    amy = company.customer("Amy", "amy@finch.org")
    company.sync()
    company.clear_journals()
    company.edit(amy, FamilyName="Lauterbach")
    company.sync()
    assert company.fields("amy@finch.org") == {"FNAME": "Amy", "LNAME": "Lauterbach"}
    (call,) = company.writes()
    assert "status" not in call["body"]["members"][0]
    assert company.told(amy)[-1] == ("update", "fields_changed", "applied")


def test_a3_older_contract_gets_back_the_status_just_read(company):
    company.mailchimp_control("PUT", "settings", {"batch_contract": "status_required"})
    amy = company.customer("Amy", "amy@finch.org")
    company.sync()
    company.edit(amy, FamilyName="Lauterbach")
    company.sync(before_push=lambda: company.person("amy@finch.org", "unsubscribe"))
    assert company.statuses() == {"amy@finch.org": "unsubscribed"}
    assert company.fields("amy@finch.org")["LNAME"] == "Lauterbach"


def test_a3_marketers_own_tags_and_fields_survive_an_update(company, contract):
    company.seed("amy@finch.org", tags=["VIP"], merge_fields={"PHONE": "555-1234"})
    amy = company.customer("Amy", "amy@finch.org")
    company.sync()
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert company.tags("amy@finch.org") == {"VIP", "QuickBooks"}
    assert company.fields("amy@finch.org") == {"FNAME": "Amelia", "PHONE": "555-1234"}


def test_a4_emptied_field_is_cleared(company, contract):
    amy = company.customer("Amy", "amy@finch.org", CompanyName="Amy's Birds")
    company.sync()
    company.edit(amy, CompanyName=None)
    company.sync()
    assert company.fields("amy@finch.org") == {"FNAME": "Amy"}
    company.clear_journals()
    company.edit(amy, GivenName="Amelia")
    company.sync()
    body = company.writes()[-1]["body"]
    assert "COMPANY" not in body.get("members", [body])[0]["merge_fields"]


def test_a4_field_that_somebody_else_filled_is_not_cleared(company):
    amy = company.customer("Amy", "amy@finch.org", CompanyName="Amy's Birds")
    company.sync()
    company.person("amy@finch.org", "profile", merge_fields={"PHONE": "555-1234"})
    company.edit(amy, CompanyName=None)
    company.sync()
    assert company.fields("amy@finch.org") == {"FNAME": "Amy", "PHONE": "555-1234"}


@pytest.mark.parametrize("email", [None, "", "   ", " , ; "])
def test_a5_customer_without_address_is_skipped_and_reported(company, email):
    amy = company.customer("Amy", email)
    report = company.sync()
    assert company.statuses() == {}
    assert company.decisions() == {amy: ("skipped", "no_email", None)}
    assert report.others == [("skipped", "no_email", 1)]
    assert company.told(amy) == [("skip", "no_email", "skipped")]


def test_a5_emptied_address_archives_the_contact(company):
    amy = company.customer("Amy", "amy@finch.org")
    company.sync()
    company.move(amy, None)
    company.sync()
    assert company.statuses() == {"amy@finch.org": "archived"}
    assert company.decisions() == {amy: ("skipped", "no_email", None)}
    assert ("archive", "no_email", "applied") in company.told(amy)


@pytest.mark.parametrize(
    "field", ["amy@finch.org, office@finch.org", "nonsense; amy@finch.org;office@finch.org"]
)
def test_a6_first_valid_address_is_the_contact_and_the_others_are_in_the_audit(company, field):
    company.customer("Amy", field)
    company.sync()
    assert company.statuses() == {"amy@finch.org": "subscribed"}
    (created,) = company.audit()
    assert created["after"]["other_addresses"] == ["office@finch.org"]


def test_a7_invalid_address_is_skipped_until_it_changes(company):
    amy = company.customer("Amy", "amy at finch")
    company.sync()
    assert company.decisions() == {amy: ("skipped", "invalid_email", None)}
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert company.writes() == []
    assert len(company.audit()) == 1
    company.move(amy, "amy@finch.org")
    company.sync()
    assert company.statuses() == {"amy@finch.org": "subscribed"}


def test_a7_invalid_new_address_keeps_the_old_contact_until_a_usable_one_exists(company):
    amy = company.customer("Amy", "amy@finch.org")
    company.sync()
    company.move(amy, "amy at finch")
    company.sync()
    assert company.statuses() == {"amy@finch.org": "subscribed"}
    company.move(amy, "amelia@finch.org")
    company.sync()
    assert company.statuses() == {"amy@finch.org": "archived", "amelia@finch.org": "subscribed"}


def test_a8_case_spaces_and_unicode_domains_are_one_contact(company):
    amy = company.customer("Amy", "  Amy@BÜCHER.de ")
    twin = company.customer("Twin", "amy@xn--bcher-kva.de")
    company.sync()
    assert company.statuses() == {"amy@xn--bcher-kva.de": "subscribed"}
    assert company.decisions()[twin] == ("linked", "shared_address", amy)


def test_a8_change_of_case_alone_causes_no_write(company):
    amy = company.customer("Amy", "amy@finch.org")
    company.sync()
    company.clear_journals()
    company.move(amy, "AMY@Finch.org")
    company.sync()
    assert company.writes() == []


def test_a8_existing_contact_is_found_whatever_its_case(company, contract):
    company.seed("Amy@Finch.org", status="unsubscribed", origin="self")
    company.customer("Amy", "amy@finch.org")
    company.sync()
    assert company.statuses() == {"amy@finch.org": "unsubscribed"}


def test_a8_plus_addresses_stay_distinct(company):
    company.customer("Amy", "amy+birds@finch.org")
    company.customer("Twin", "amy@finch.org")
    company.sync()
    assert set(company.statuses()) == {"amy+birds@finch.org", "amy@finch.org"}


def test_a9_shared_address_belongs_to_the_lowest_customer_that_is_no_job(company):
    home = company.customer("Home", "someone@else.org")
    job = company.customer("Job", "shop@finch.org", ParentRef={"value": home})
    shop = company.customer("Shop", "shop@finch.org")
    other = company.customer("Other", "shop@finch.org")
    company.sync()
    assert company.fields("shop@finch.org") == {"FNAME": "Shop"}
    assert company.decisions()[shop] == ("contact", "new_customer", None)
    assert company.decisions()[job] == ("linked", "shared_address", shop)
    assert company.decisions()[other] == ("linked", "shared_address", shop)
    assert company.told(other) == [("link", "shared_address", "linked")]


def test_a9_ids_are_compared_as_numbers(company):
    """As text, 10 sorts before 9."""
    ids = [company.customer(f"Customer {number}", "shop@finch.org") for number in range(12)]
    lowest, before_ten = min(ids, key=int), min(ids)
    company.sync()
    assert lowest == "1" or lowest != before_ten
    owners = {
        linked for decision, _, linked in company.decisions().values() if decision == "linked"
    }
    assert owners == {lowest}


def test_a9_address_that_only_jobs_share_belongs_to_the_lowest_job(company):
    home = company.customer("Home", "someone@else.org")
    first = company.customer("First", "site@finch.org", ParentRef={"value": home})
    second = company.customer("Second", "site@finch.org", ParentRef={"value": home})
    company.sync()
    assert company.fields("site@finch.org") == {"FNAME": "First"}
    assert company.decisions()[second] == ("linked", "shared_address", first)


def test_a9_owner_change_is_an_update(company, contract):
    home = company.customer("Home", "home@finch.org")
    shop = company.customer("Shop", "shop@finch.org")
    company.sync()
    company.move(home, "shop@finch.org")
    company.sync()
    assert company.fields("shop@finch.org") == {"FNAME": "Home"}
    assert ("update", "owner_changed", "applied") in company.told(home)
    assert company.decisions()[shop] == ("linked", "shared_address", home)


def test_a9_owner_change_without_a_visible_difference_costs_no_call(company):
    first = company.customer("First", "shop@finch.org", GivenName="Sam")
    second = company.customer("Second", "shop@finch.org", GivenName="Sam")
    company.sync()
    company.clear_journals()
    company.edit(first, Active=False)
    company.sync()
    assert company.writes() == []
    assert company.decisions()[second][0] == "contact"
    company.edit(second, Active=False)
    company.sync()
    assert company.statuses() == {"shop@finch.org": "archived"}


@pytest.mark.parametrize(
    ("include_jobs", "expected"),
    [(True, ("contact", "new_customer", None)), (False, ("skipped", "job_excluded", None))],
)
def test_a10_job_is_synced_unless_jobs_are_excluded(company, include_jobs, expected):
    company.settings["include_jobs"] = include_jobs
    home = company.customer("Home")
    job = company.customer("Job", "job@finch.org", ParentRef={"value": home})
    company.sync()
    assert company.decisions()[job] == expected
    assert ("job@finch.org" in company.statuses()) is include_jobs


def test_a10_excluding_jobs_later_archives_their_contacts_at_the_next_run(company):
    home = company.customer("Home")
    company.customer("Job", "job@finch.org", ParentRef={"value": home})
    company.sync()
    company.settings["include_jobs"] = False
    company.sync()
    assert company.statuses() == {"job@finch.org": "archived"}


def test_a10_project_is_never_a_contact(company):
    home = company.customer("Home")
    project = company.customer("Project", "project@finch.org", ParentRef={"value": home})
    company.edit(project, IsProject=True)
    company.sync()
    assert company.statuses() == {}
    assert company.decisions()[project] == ("skipped", "project", None)


PARTIAL = {part: text for part, text in ADDRESS.items() if part != "PostalCode"}


def test_a25_partial_address_is_not_sent(company):
    company.customer("Amy", "amy@finch.org", BillAddr=PARTIAL)
    company.sync()
    assert "ADDRESS" not in company.writes()[0]["body"]["members"][0]["merge_fields"]
    assert company.fields("amy@finch.org") == {"FNAME": "Amy"}


def test_a25_partial_address_wipes_no_address_that_is_there(company, contract):
    ours = company.customer("Ours", "ours@finch.org", BillAddr=ADDRESS)
    company.seed("theirs@finch.org", merge_fields={"ADDRESS": MAILCHIMP_ADDRESS})
    theirs = company.customer("Theirs", "theirs@finch.org", BillAddr=PARTIAL)
    company.sync()
    assert company.fields("ours@finch.org")["ADDRESS"] == MAILCHIMP_ADDRESS
    company.edit(ours, BillAddr=PARTIAL)
    company.edit(theirs, BillAddr=PARTIAL, GivenName="Thea")
    company.sync()
    assert company.fields("ours@finch.org")["ADDRESS"] == MAILCHIMP_ADDRESS
    assert company.fields("theirs@finch.org") == {"FNAME": "Thea", "ADDRESS": MAILCHIMP_ADDRESS}
    left_out = [
        row["after"].get("left_out") for row in company.audit() if row["customer_id"] == ours
    ]
    assert left_out[-1] == {"ADDRESS": "no postal code"}
    company.edit(ours, BillAddr={})
    company.sync()
    assert company.fields("ours@finch.org") == {"FNAME": "Ours"}


def test_a29_contact_who_is_no_customer_is_left_alone(company, contract):
    company.seed("friend@else.org", tags=["VIP"])
    company.customer("Amy", "amy@finch.org")
    company.sync()
    company.sync(full_sync=True)
    assert company.statuses() == {"friend@else.org": "subscribed", "amy@finch.org": "subscribed"}
    assert company.tags("friend@else.org") == {"VIP"}
