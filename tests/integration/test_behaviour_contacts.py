"""Customers become contacts and stay in step: rows A1 to A10 and A25 of docs/behaviour.md."""

import pytest

from tests.integration.firm import ADDRESS

MAILCHIMP_ADDRESS = {
    "addr1": "4581 Finch St.",
    "addr2": "",
    "city": "Bayshore",
    "state": "CA",
    "zip": "94326",
    "country": "US",
}


@pytest.mark.parametrize("setting", ["subscribed", "pending", "transactional"])
def test_a1_new_customer_becomes_a_contact_with_the_setting(firm, contract, setting):
    firm.settings["new_contact_status"] = setting
    amy = firm.customer(
        "Amy",
        "amy@finch.org",
        FamilyName="Lauterbach",
        CompanyName="Amy's Birds",
        PrimaryPhone={"FreeFormNumber": "(650) 555-3311"},
        BillAddr=ADDRESS,
    )
    firm.sync()
    assert firm.statuses() == {"amy@finch.org": setting}
    assert firm.fields("amy@finch.org") == {
        "FNAME": "Amy",
        "LNAME": "Lauterbach",
        "COMPANY": "Amy's Birds",
        "PHONE": "(650) 555-3311",
        "ADDRESS": MAILCHIMP_ADDRESS,
    }
    assert firm.tags("amy@finch.org") == {"QuickBooks"}
    assert firm.decisions() == {amy: ("contact", "new_customer", None)}
    assert firm.told(amy) == [("create", "new_customer", "applied")]


def test_a1_audit_shows_the_state_before_and_after(firm):
    amy = firm.customer("Amy", "amy@finch.org")
    firm.sync()
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    created, updated = firm.audit()
    assert (created["before"], created["after"]["status"]) == (None, "subscribed")
    assert updated["before"]["merge_fields"]["FNAME"] == "Amy"
    assert updated["after"]["merge_fields"]["FNAME"] == "Amelia"
    assert updated["request_id"]
    assert (updated["run_id"], updated["cause"].split(":")[0]) == ("run-2", "change")


def test_a2_unchanged_customer_causes_no_write(firm):
    amy = firm.customer("Amy", "amy@finch.org")
    firm.sync()
    firm.clear_journals()
    firm.quickbooks_control("POST", f"customers/{amy}/touch")
    firm.sync()
    assert firm.writes() == []
    assert len(firm.audit()) == 1


def test_a2_change_in_a_field_that_is_not_mapped_causes_no_write(firm):
    amy = firm.customer("Amy", "amy@finch.org")
    firm.sync()
    firm.clear_journals()
    firm.edit(amy, Notes="prefers mornings", DisplayName="Amy L.")
    firm.sync()
    assert firm.writes() == []


def test_a3_changed_field_is_updated_and_no_status_is_sent(firm):
    amy = firm.customer("Amy", "amy@finch.org")
    firm.sync()
    firm.clear_journals()
    firm.edit(amy, FamilyName="Lauterbach")
    firm.sync()
    assert firm.fields("amy@finch.org") == {"FNAME": "Amy", "LNAME": "Lauterbach"}
    (call,) = firm.writes()
    assert "status" not in call["body"]["members"][0]
    assert firm.told(amy)[-1] == ("update", "fields_changed", "applied")


def test_a3_older_contract_gets_back_the_status_just_read(firm):
    firm.mailchimp_control("PUT", "settings", {"batch_contract": "status_required"})
    amy = firm.customer("Amy", "amy@finch.org")
    firm.sync()
    firm.edit(amy, FamilyName="Lauterbach")
    firm.sync(before_push=lambda: firm.person("amy@finch.org", "unsubscribe"))
    assert firm.statuses() == {"amy@finch.org": "unsubscribed"}
    assert firm.fields("amy@finch.org")["LNAME"] == "Lauterbach"


def test_a3_marketers_own_tags_and_fields_survive_an_update(firm, contract):
    firm.seed("amy@finch.org", tags=["VIP"], merge_fields={"PHONE": "555-1234"})
    amy = firm.customer("Amy", "amy@finch.org")
    firm.sync()
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    assert firm.tags("amy@finch.org") == {"VIP", "QuickBooks"}
    assert firm.fields("amy@finch.org") == {"FNAME": "Amelia", "PHONE": "555-1234"}


def test_a4_emptied_field_is_cleared(firm, contract):
    amy = firm.customer("Amy", "amy@finch.org", CompanyName="Amy's Birds")
    firm.sync()
    firm.edit(amy, CompanyName=None)
    firm.sync()
    assert firm.fields("amy@finch.org") == {"FNAME": "Amy"}
    firm.clear_journals()
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    assert "COMPANY" not in firm.writes()[-1]["body"]["members"][0]["merge_fields"]


def test_a4_field_that_somebody_else_filled_is_not_cleared(firm):
    amy = firm.customer("Amy", "amy@finch.org", CompanyName="Amy's Birds")
    firm.sync()
    firm.person("amy@finch.org", "profile", merge_fields={"PHONE": "555-1234"})
    firm.edit(amy, CompanyName=None)
    firm.sync()
    assert firm.fields("amy@finch.org") == {"FNAME": "Amy", "PHONE": "555-1234"}


@pytest.mark.parametrize("email", [None, "", "   ", " , ; "])
def test_a5_customer_without_address_is_skipped_and_reported(firm, email):
    amy = firm.customer("Amy", email)
    report = firm.sync()
    assert firm.statuses() == {}
    assert firm.decisions() == {amy: ("skipped", "no_email", None)}
    assert report.others == [("skipped", "no_email", 1)]
    assert firm.told(amy) == [("skip", "no_email", "skipped")]


def test_a5_emptied_address_archives_the_contact(firm):
    amy = firm.customer("Amy", "amy@finch.org")
    firm.sync()
    firm.move(amy, None)
    firm.sync()
    assert firm.statuses() == {"amy@finch.org": "archived"}
    assert firm.decisions() == {amy: ("skipped", "no_email", None)}
    assert ("archive", "no_email", "applied") in firm.told(amy)


@pytest.mark.parametrize(
    "field", ["amy@finch.org, office@finch.org", "nonsense; amy@finch.org;office@finch.org"]
)
def test_a6_first_valid_address_is_the_contact_and_the_others_are_in_the_audit(firm, field):
    firm.customer("Amy", field)
    firm.sync()
    assert firm.statuses() == {"amy@finch.org": "subscribed"}
    (created,) = firm.audit()
    assert created["after"]["other_addresses"] == ["office@finch.org"]


def test_a7_invalid_address_is_skipped_until_it_changes(firm):
    amy = firm.customer("Amy", "amy at finch")
    firm.sync()
    assert firm.decisions() == {amy: ("skipped", "invalid_email", None)}
    firm.edit(amy, GivenName="Amelia")
    firm.sync()
    assert firm.writes() == []
    assert len(firm.audit()) == 1
    firm.move(amy, "amy@finch.org")
    firm.sync()
    assert firm.statuses() == {"amy@finch.org": "subscribed"}


def test_a7_invalid_new_address_keeps_the_old_contact_until_a_usable_one_exists(firm):
    amy = firm.customer("Amy", "amy@finch.org")
    firm.sync()
    firm.move(amy, "amy at finch")
    firm.sync()
    assert firm.statuses() == {"amy@finch.org": "subscribed"}
    firm.move(amy, "amelia@finch.org")
    firm.sync()
    assert firm.statuses() == {"amy@finch.org": "archived", "amelia@finch.org": "subscribed"}


def test_a8_case_spaces_and_unicode_domains_are_one_contact(firm):
    amy = firm.customer("Amy", "  Amy@BÜCHER.de ")
    twin = firm.customer("Twin", "amy@xn--bcher-kva.de")
    firm.sync()
    assert firm.statuses() == {"amy@xn--bcher-kva.de": "subscribed"}
    assert firm.decisions()[twin] == ("linked", "shared_address", amy)


def test_a8_change_of_case_alone_causes_no_write(firm):
    amy = firm.customer("Amy", "amy@finch.org")
    firm.sync()
    firm.clear_journals()
    firm.move(amy, "AMY@Finch.org")
    firm.sync()
    assert firm.writes() == []


def test_a8_existing_contact_is_found_whatever_its_case(firm, contract):
    firm.seed("Amy@Finch.org", status="unsubscribed", origin="self")
    firm.customer("Amy", "amy@finch.org")
    firm.sync()
    assert firm.statuses() == {"amy@finch.org": "unsubscribed"}


def test_a8_plus_addresses_stay_distinct(firm):
    firm.customer("Amy", "amy+birds@finch.org")
    firm.customer("Twin", "amy@finch.org")
    firm.sync()
    assert set(firm.statuses()) == {"amy+birds@finch.org", "amy@finch.org"}


def test_a9_shared_address_belongs_to_the_lowest_customer_that_is_no_job(firm):
    home = firm.customer("Home", "someone@else.org")
    job = firm.customer("Job", "shop@finch.org", ParentRef={"value": home})
    shop = firm.customer("Shop", "shop@finch.org")
    other = firm.customer("Other", "shop@finch.org")
    firm.sync()
    assert firm.fields("shop@finch.org") == {"FNAME": "Shop"}
    assert firm.decisions()[shop] == ("contact", "new_customer", None)
    assert firm.decisions()[job] == ("linked", "shared_address", shop)
    assert firm.decisions()[other] == ("linked", "shared_address", shop)
    assert firm.told(other) == [("link", "shared_address", "linked")]


def test_a9_ids_are_compared_as_numbers(firm):
    """As text, 10 sorts before 9."""
    ids = [firm.customer(f"Customer {number}", "shop@finch.org") for number in range(12)]
    lowest, before_ten = min(ids, key=int), min(ids)
    firm.sync()
    assert lowest == "1" or lowest != before_ten
    owners = {linked for decision, _, linked in firm.decisions().values() if decision == "linked"}
    assert owners == {lowest}


def test_a9_address_that_only_jobs_share_belongs_to_the_lowest_job(firm):
    home = firm.customer("Home", "someone@else.org")
    first = firm.customer("First", "site@finch.org", ParentRef={"value": home})
    second = firm.customer("Second", "site@finch.org", ParentRef={"value": home})
    firm.sync()
    assert firm.fields("site@finch.org") == {"FNAME": "First"}
    assert firm.decisions()[second] == ("linked", "shared_address", first)


def test_a9_owner_change_is_an_update(firm, contract):
    home = firm.customer("Home", "home@finch.org")
    shop = firm.customer("Shop", "shop@finch.org")
    firm.sync()
    firm.move(home, "shop@finch.org")
    firm.sync()
    assert firm.fields("shop@finch.org") == {"FNAME": "Home"}
    assert ("update", "owner_changed", "applied") in firm.told(home)
    assert firm.decisions()[shop] == ("linked", "shared_address", home)


def test_a9_owner_change_without_a_visible_difference_costs_no_call(firm):
    first = firm.customer("First", "shop@finch.org", GivenName="Sam")
    second = firm.customer("Second", "shop@finch.org", GivenName="Sam")
    firm.sync()
    firm.clear_journals()
    firm.edit(first, Active=False)
    firm.sync()
    assert firm.writes() == []
    assert firm.decisions()[second][0] == "contact"
    firm.edit(second, Active=False)
    firm.sync()
    assert firm.statuses() == {"shop@finch.org": "archived"}


@pytest.mark.parametrize(
    ("include_jobs", "expected"),
    [(True, ("contact", "new_customer", None)), (False, ("skipped", "job_excluded", None))],
)
def test_a10_job_is_synced_unless_jobs_are_excluded(firm, include_jobs, expected):
    firm.settings["include_jobs"] = include_jobs
    home = firm.customer("Home")
    job = firm.customer("Job", "job@finch.org", ParentRef={"value": home})
    firm.sync()
    assert firm.decisions()[job] == expected
    assert ("job@finch.org" in firm.statuses()) is include_jobs


def test_a10_excluding_jobs_later_archives_their_contacts_at_the_next_run(firm):
    home = firm.customer("Home")
    firm.customer("Job", "job@finch.org", ParentRef={"value": home})
    firm.sync()
    firm.settings["include_jobs"] = False
    firm.sync()
    assert firm.statuses() == {"job@finch.org": "archived"}


def test_a10_project_is_never_a_contact(firm):
    home = firm.customer("Home")
    project = firm.customer("Project", "project@finch.org", ParentRef={"value": home})
    firm.edit(project, IsProject=True)
    firm.sync()
    assert firm.statuses() == {}
    assert firm.decisions()[project] == ("skipped", "project", None)


PARTIAL = {part: text for part, text in ADDRESS.items() if part != "PostalCode"}


def test_a25_partial_address_is_not_sent(firm):
    firm.customer("Amy", "amy@finch.org", BillAddr=PARTIAL)
    firm.sync()
    assert "ADDRESS" not in firm.writes()[0]["body"]["members"][0]["merge_fields"]
    assert firm.fields("amy@finch.org") == {"FNAME": "Amy"}


def test_a25_partial_address_clears_only_what_we_had_set(firm, contract):
    ours = firm.customer("Ours", "ours@finch.org", BillAddr=ADDRESS)
    firm.seed("theirs@finch.org", merge_fields={"ADDRESS": MAILCHIMP_ADDRESS})
    theirs = firm.customer("Theirs", "theirs@finch.org", BillAddr=PARTIAL)
    firm.sync()
    assert firm.fields("ours@finch.org")["ADDRESS"] == MAILCHIMP_ADDRESS
    firm.edit(ours, BillAddr=PARTIAL)
    firm.edit(theirs, BillAddr=PARTIAL, GivenName="Thea")
    firm.sync()
    assert firm.fields("ours@finch.org") == {"FNAME": "Ours"}
    assert firm.fields("theirs@finch.org") == {"FNAME": "Thea", "ADDRESS": MAILCHIMP_ADDRESS}


def test_a29_contact_who_is_no_customer_is_left_alone(firm, contract):
    firm.seed("friend@else.org", tags=["VIP"])
    firm.customer("Amy", "amy@finch.org")
    firm.sync()
    firm.sync(full_sync=True)
    assert firm.statuses() == {"friend@else.org": "subscribed", "amy@finch.org": "subscribed"}
    assert firm.tags("friend@else.org") == {"VIP"}
