"""E3: undo of a run. Contacts that are as we left them get the state before the run back."""

import pytest
from sqlalchemy import text

from ml_connector.errors import RetryLater, SettingsError
from ml_connector.store import undos
from ml_connector.sync import guard
from ml_connector.sync.undo import find_run, plan_undo
from ml_connector.sync.undo_push import write_undo
from tests.integration.audit_journal import assert_audit_matches_journal, journal
from tests.integration.company import Company
from tests.integration.undoing import audience, last_run, undo, wrong_run

AMY, BOB, CAT = "amy@undo-mail.net", "bob@undo-mail.net", "cat@undo-mail.net"


def right(company: Company) -> None:
    del company.settings["fields"]


def id_of(company: Company, email: str) -> str:
    rows = [row for row in company.audit() if (row["after"] or {}).get("email") == email]
    return str(rows[0]["customer_id"])


@pytest.fixture
def three(company) -> Company:
    """Three customers in the audience, as a correct run left them."""
    for name, email in (("Amy", AMY), ("Bob", BOB), ("Cat", CAT)):
        company.customer(name, email, FamilyName=f"{name}son")
    company.sync()
    company.sync()
    return company


def test_e3_a_wrong_mapping_is_written_back(three, contract):
    before = audience(three)
    run = wrong_run(three)
    assert audience(three) != before
    assert undo(three, run) == {"update undo applied": 3}
    assert audience(three) == before
    assert_audit_matches_journal(three)


def test_e3_audit_rows_name_the_run_that_was_undone(three):
    run = wrong_run(three)
    undo(three, run)
    rows = [row for row in three.audit() if row["cause"] == f"undo:{run}"]
    assert {(row["action"], row["outcome"]) for row in rows} == {("update", "applied")}
    assert {row["after"]["merge_fields"]["FNAME"] for row in rows} == {"Amy", "Bob", "Cat"}
    assert all(row["run_id"] != run for row in rows)


def test_e3_whoever_changed_since_is_listed_and_left(three):
    before = audience(three)
    run = wrong_run(three)
    three.person(AMY, "profile", merge_fields={"FNAME": "Amelia"})
    three.person(BOB, "unsubscribe")
    edited = audience(three)
    assert undo(three, run) == {"update undo applied": 1, "update changed_since left": 2}
    after = audience(three)
    assert {email: after[email] for email in (AMY, BOB)} == {e: edited[e] for e in (AMY, BOB)}
    assert after[CAT] == before[CAT]
    left = [row for row in three.audit() if row["action"] == "undo"]
    assert {row["outcome"] for row in left} == {"left"}
    assert len(left) == 2


def test_e3_an_edit_between_plan_and_write_is_kept(three):
    run = wrong_run(three)
    told = undo(
        three,
        run,
        before_write=lambda: three.person(AMY, "profile", merge_fields={"LNAME": "Miller"}),
    )
    assert told == {"update undo applied": 2, "update changed_since left": 1}
    assert three.fields(AMY)["LNAME"] == "Miller"


def test_e3_a_preview_says_the_same_and_writes_nothing(three):
    run = wrong_run(three)
    three.person(AMY, "profile", merge_fields={"FNAME": "Amelia"})
    wrong = audience(three)
    three.clear_journals()
    assert undo(three, run, preview=True) == {
        "update undo preview": 2,
        "update changed_since left": 1,
    }
    assert audience(three) == wrong
    assert three.writes() == []
    assert undo(three, run) == {"update undo applied": 2, "update changed_since left": 1}


def test_e3_with_unchanged_settings_the_next_run_does_not_write_the_same_again(three):
    before = audience(three)
    run = wrong_run(three)
    undo(three, run)
    three.clear_journals()
    told = three.sync(full_sync=True)
    assert three.writes() == []
    assert audience(three) == before
    assert ("contact", "undone", 3) in told.others


def test_e3_with_corrected_settings_the_next_run_writes_the_right_values(three):
    before = audience(three)
    run = wrong_run(three)
    undo(three, run)
    right(three)
    three.sync()
    assert audience(three) == before
    amy = id_of(three, AMY)
    three.edit(amy, GivenName="Amelia")
    three.sync()
    assert three.fields(AMY)["FNAME"] == "Amelia"


def test_e3_a_customer_that_changes_in_quickbooks_is_written_again(three):
    run = wrong_run(three)
    undo(three, run)
    amy = id_of(three, AMY)
    three.edit(amy, GivenName="Amelia")
    three.sync()
    assert three.fields(AMY)["LNAME"] == "Amelia"
    assert three.fields(BOB)["FNAME"] == "Bob"


def test_e3_an_undo_is_undone(three):
    run = wrong_run(three)
    wrong = audience(three)
    undo(three, run)
    assert undo(three, last_run(three)) == {"update undo applied": 3}
    assert audience(three) == wrong
    three.clear_journals()
    three.sync(full_sync=True)
    assert three.writes() == []


def test_e3_a_second_undo_finds_nothing_to_do(three):
    before = audience(three)
    run = wrong_run(three)
    undo(three, run)
    assert undo(three, run) == {"update undone_already left": 3}
    assert audience(three) == before


def test_e3_created_contacts_are_archived_and_lose_our_tags(company):
    company.seed(CAT)
    company.customer("Amy", AMY)
    company.customer("Bob", BOB)
    company.sync()
    run = last_run(company)
    assert undo(company, run) == {"archive undo applied": 2}
    assert company.statuses() == {AMY: "archived", BOB: "archived", CAT: "subscribed"}
    assert company.tags(AMY) == set()
    company.clear_journals()
    company.sync(full_sync=True)
    assert company.writes() == []
    assert_audit_matches_journal(company, rows=[])


@pytest.mark.parametrize("preview", [True, False])
def test_e3_created_contacts_that_mailchimp_does_not_archive_stay_and_are_listed(company, preview):
    company.customer("Amy", AMY)
    company.settings["new_contact_status"] = "pending"
    company.sync()
    run = last_run(company)
    company.clear_journals()
    assert undo(company, run, preview=preview) == {"archive cannot_archive_pending left": 1}
    assert company.statuses() == {AMY: "pending"}
    assert company.writes() == []


def test_e3_the_undo_of_a_creation_is_undone_with_the_status_it_had(company):
    company.settings["new_contact_status"] = "transactional"
    company.customer("Amy", AMY)
    company.sync()
    undo(company, last_run(company))
    assert undo(company, last_run(company)) == {"restore undo applied": 1}
    assert company.statuses() == {AMY: "transactional"}
    assert company.tags(AMY) == {"QuickBooks"}
    company.clear_journals()
    company.sync(full_sync=True)
    assert company.writes() == []


def test_e3_a_member_that_was_there_before_us_is_never_archived(company, contract):
    company.seed(AMY, merge_fields={"FNAME": "Robert"}, tags=["VIP"])
    before = audience(company)
    company.customer("Amy", AMY)
    company.sync()
    assert audience(company) != before
    assert undo(company, last_run(company)) == {"update undo applied": 1}
    assert audience(company) == before
    with company.database.begin() as connection:
        owner = text("SELECT owner FROM ml_connector.contacts WHERE owner IS NOT NULL")
        assert connection.execute(owner).all() == []


def test_e3_archived_contacts_come_back_with_the_status_they_had(company):
    amy = company.customer("Amy", AMY)
    company.customer("Bob", BOB)
    company.sync()
    company.person(AMY, "unsubscribe")
    company.sync()
    before = audience(company)
    company.edit(amy, Active=False)
    company.sync()
    assert company.statuses()[AMY] == "archived"
    assert undo(company, last_run(company)) == {"restore undo applied": 1}
    assert audience(company) == before
    company.sync(full_sync=True)
    assert audience(company) == before


def test_e3_a_change_of_address_is_taken_back(company, contract):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.sync()
    company.move(amy, "new@undo-mail.net")
    company.sync()
    run = last_run(company)
    assert undo(company, run) == {"archive undo applied": 1, "restore undo applied": 1}
    gone = {AMY: "subscribed", "new@undo-mail.net": "archived"}
    assert company.statuses() == gone
    company.sync(full_sync=True)
    company.sync()
    assert company.statuses() == gone
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert company.statuses() == {AMY: "archived", "new@undo-mail.net": "subscribed"}


def test_e3_no_contact_comes_back_whose_person_opted_out_since(company, contract):
    amy = company.customer("Amy", AMY)
    company.sync()
    company.sync()
    company.move(amy, "new@undo-mail.net")
    company.sync()
    run = last_run(company)
    company.person("new@undo-mail.net", "unsubscribe")
    told = undo(company, run)
    assert told == {
        "archive changed_since left": 1,
        "restore opted_out_elsewhere left": 1,
    }
    assert company.statuses() == {AMY: "archived", "new@undo-mail.net": "unsubscribed"}


def test_e3_tags_of_the_run_come_off_and_a_marketers_stay(three, contract):
    three.person(AMY, "tags", add=["VIP"])
    three.sync()
    before = audience(three)
    three.settings["tags"] = ["QuickBooks", "Wrong"]
    three.sync()
    run = last_run(three)
    assert three.tags(AMY) == {"QuickBooks", "VIP", "Wrong"}
    assert undo(three, run) == {"update undo applied": 3}
    assert audience(three) == before


def test_e3_one_refused_record_stops_no_other(three):
    before = audience(three)
    run = wrong_run(three)
    words = {"email_address": AMY, "error": f"{AMY} looks fake or invalid", "error_code": "ERROR"}
    three.fault(
        "mailchimp",
        match={"method": "POST"},
        times=1,
        action={
            "kind": "body",
            "body": {"new_members": [], "updated_members": [], "errors": [words]},
        },
    )
    told = undo(three, run)
    assert sum(told.values()) == 3
    undo(three, run)
    assert audience(three) == before


def test_e3_a_run_for_another_audience_is_left_alone(three):
    run = wrong_run(three)
    other = {"id": "b2c3d4e5f6", "merge_fields": [{"tag": "FNAME"}, {"tag": "LNAME"}]}
    three.mailchimp_control("POST", "audiences", other)
    three.settings["audience_id"] = other["id"]
    three.sync()
    three.clear_journals()
    assert undo(three, run) == {}
    assert three.writes() == []


def test_e3_the_guard_holds_a_large_undo(three):
    run = wrong_run(three)
    three.settings["guard"] = {"max_updates": 2}
    scope = three.scope()
    with three.database.begin() as connection:
        undone = find_run(connection, run)
    client = three.mailchimp_client(scope.calls)
    plan_id = plan_undo(scope, client, undone=undone)
    held = guard.hold_plan(scope, plan_id=plan_id)
    assert held is not None
    three.sync()  # a daily run meanwhile does not drop the undo
    guard.approve(scope, plan_id=plan_id, person="Ann")
    assert write_undo(scope, client, plan_id=plan_id) == {"applied": 3}


def test_e3_contacts_that_left_the_audience_are_not_asked_for_one_by_one(company):
    emails = [f"c{number}@undo-mail.net" for number in range(120)]
    for email in emails:
        company.customer(email[:4], email, FamilyName="Undone")
    company.sync()
    company.sync()
    run = wrong_run(company)
    for email in emails[:80]:
        company.person(email, "forget")
    company.clear_journals()
    told = undo(company, run)
    assert told == {"update undo applied": 40, "update not_in_audience left": 80}
    calls = journal(company, "mailchimp")
    assert len([call for call in calls if "/members/" in call["path"]]) == 0


def test_e3_a_run_is_named_by_its_plan_or_its_id(three):
    run = wrong_run(three)
    with three.database.begin() as connection:
        found = find_run(connection, run)
        assert find_run(connection, str(found.plan_id)) == found
        with pytest.raises(SettingsError, match="can be undone"):
            find_run(connection, "nothing")


def test_e3_a_persons_value_comes_back_and_stays_the_persons(three):
    three.person(AMY, "profile", merge_fields={"FNAME": "Amelia"})
    three.settings["on_member_edit"] = "restore"
    three.sync()
    assert three.fields(AMY)["FNAME"] == "Amy"
    three.settings["on_member_edit"] = "keep"
    assert undo(three, last_run(three)) == {"update undo applied": 1}
    assert three.fields(AMY)["FNAME"] == "Amelia"
    three.edit(id_of(three, AMY), CompanyName="Finch Ltd")
    three.sync()
    assert (three.fields(AMY)["FNAME"], three.fields(AMY)["COMPANY"]) == ("Amelia", "Finch Ltd")


def test_e3_a_creation_of_a_version_whose_audit_cannot_tell_it_from_a_met_member_is_left(company):
    company.customer("Amy", AMY)
    bob = company.customer("Bob", BOB, FamilyName="Ross")
    company.sync()
    created = last_run(company)
    with company.database.begin() as connection:
        connection.execute(text("DELETE FROM ml_connector.audit_batches"))
    company.edit(bob, FamilyName="Wrong")
    company.sync()
    assert undo(company, last_run(company)) == {"update undo applied": 1}
    assert company.fields(BOB)["LNAME"] == "Ross"
    assert undo(company, created) == {"create not_observed left": 2}
    assert company.statuses() == {AMY: "subscribed", BOB: "subscribed"}


def lost_restore(company: Company, when: str) -> str:
    """Archive Amy, and lose the call that undoes it ``before`` or ``after`` it had its effect."""
    run = last_run(company)
    match = {"method": "P(UT|ATCH)"}
    company.fault("mailchimp", match=match, times=4, action={"kind": "drop", "when": when})
    with pytest.raises(RetryLater):
        undo(company, run)
    return run


@pytest.fixture
def archived(company) -> Company:
    """Amy's customer became inactive, and the last run archived her."""
    amy = company.customer("Amy", AMY, FamilyName="Amyson")
    company.sync()
    company.sync()
    company.edit(amy, Active=False)
    company.sync()
    assert company.statuses()[AMY] == "archived"
    return company


@pytest.mark.parametrize(
    ("when", "action", "kind"),
    [("after", "profile", "profile_changed"), ("before", "subscribe", "subscribed")],
)
def test_e3_what_a_person_does_while_a_repeated_undo_waits_is_seen_as_theirs(
    archived, when, action, kind
):
    run = lost_restore(archived, when)
    more = {"merge_fields": {"LNAME": "Miller"}} if action == "profile" else {}
    undo(archived, run, before_write=lambda: archived.person(AMY, action, **more))
    with archived.database.begin() as connection:
        kinds = connection.execute(text("SELECT kind FROM ml_connector.member_events")).scalars()
        assert kind in list(kinds)
        owner = connection.execute(text("SELECT owner FROM ml_connector.contacts")).scalar_one()
    assert owner is None, "the contact is the person's"
    shown = archived.members()[AMY]
    assert shown["status"] == "subscribed"
    assert action != "profile" or shown["merge_fields"]["LNAME"] == "Miller"


def test_e3_a_restore_with_less_consent_whose_response_was_lost_is_held_by_the_next_undo(archived):
    with archived.database.begin() as connection:
        connection.execute(
            text("UPDATE ml_connector.contacts SET previous_status = 'transactional'")
        )
    run = lost_restore(archived, "after")
    assert undo(archived, run) == {"restore undo applied": 1}
    with archived.database.begin() as connection:
        keys = [archived.vault.email_key(AMY)]
        lost = undos.lost_restores(connection, sync="main", run_id=run, keys=keys)
    assert lost == {}, "the second undo has its outcome"
    archived.sync(full_sync=True)
    assert archived.statuses()[AMY] == "transactional"
