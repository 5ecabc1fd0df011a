"""A42, A43: consent holds in every window between a read and a write, on both batch contracts."""

import itertools
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.integration.company import Company

OLD, NEW, THIRD = "amy@old-mail.net", "amy@new-mail.net", "amy@third-mail.net"

pytestmark = pytest.mark.usefixtures("contract")


@pytest.fixture
def amy(company: Company) -> str:
    """A customer whose contact is subscribed and was read once."""
    customer_id = company.customer("Amy", OLD)
    company.sync()
    company.sync()
    assert company.statuses() == {OLD: "subscribed"}
    return customer_id


def mailable(company: Company) -> set[str]:
    return {
        email
        for email, status in company.statuses().items()
        if status in ("subscribed", "pending", "transactional")
    }


# ── 1. an opt-out between the audience read and the write ─────────────────────────────────────


def test_a42_an_opt_out_at_the_former_address_before_the_push_travels(company, amy):
    company.move(amy, NEW)
    company.sync(before_push=lambda: company.person(OLD, "unsubscribe"))
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a42_an_opt_out_that_a_webhook_told_before_the_push_travels(company, amy):
    def opt_out() -> None:
        company.person(OLD, "unsubscribe")
        company.told_by_mailchimp("unsubscribe", email=OLD, id="1", action="unsub")
        company.work_off()

    company.move(amy, NEW)
    company.sync(before_push=opt_out)
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a42_an_opt_out_between_the_push_and_the_archive_travels(company, amy):
    company.move(amy, NEW)
    company.sync(before_archive=lambda: company.person(OLD, "unsubscribe"))
    assert mailable(company) == set(), "the same run takes it along"
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def test_a42_an_opt_out_in_the_moment_of_the_archive_is_told_by_its_webhook(company, amy):
    company.move(amy, NEW)
    company.threads = 1
    company.sync(before_archive=lambda: setattr(company, "mailchimp_pace", step(company)))
    assert company.statuses()[OLD] == "archived"
    company.told_by_mailchimp("unsubscribe", email=OLD, id="1", action="unsub")
    company.work_off()
    assert company.statuses() == {OLD: "archived", NEW: "unsubscribed"}


def step(company: Company):
    """Opt out at the former address right before the second call from now: the archive itself."""
    calls = itertools.count()

    def pace() -> None:
        if next(calls) == 1:
            company.person(OLD, "unsubscribe")

    return pace


def test_a42_an_opt_out_told_by_webhook_lowers_the_present_contact_within_seconds(company, amy):
    company.move(amy, NEW)
    company.sync()
    company.person(OLD, "unsubscribe")
    company.told_by_mailchimp("unsubscribe", email=OLD, id="1", action="unsub")
    company.work_off()
    assert mailable(company) == set()


def test_a42_an_opt_out_at_the_former_address_after_the_archive_travels(company, amy):
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "subscribed"}
    company.person(OLD, "unsubscribe")
    company.sync()
    assert mailable(company) == set()


def test_a42_a_sign_up_at_the_new_address_after_the_opt_out_stays(company, amy):
    company.move(amy, NEW)
    company.sync(before_push=lambda: company.person(OLD, "unsubscribe"))
    company.person(NEW, "subscribe")
    company.sync()
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert company.statuses()[NEW] == "subscribed"


def test_a42_a_restore_rests_on_what_the_former_contact_is_just_before(company, amy):
    company.move(amy, NEW)
    company.sync()
    company.move(amy, OLD)
    company.sync(before_push=lambda: company.person(NEW, "unsubscribe"))
    company.sync()
    assert mailable(company) == set()


def test_a42_a_shared_address_that_one_leaves_is_read_again_as_well(company, amy):
    company.customer("Ben", OLD)
    company.sync()
    company.move(amy, NEW)
    company.sync(before_push=lambda: company.person(OLD, "unsubscribe"))
    company.sync()
    assert company.statuses() == {OLD: "unsubscribed", NEW: "unsubscribed"}


@pytest.mark.parametrize("act", ["archive", "forget"])
def test_a42_a_marketer_who_removes_the_former_contact_before_the_push_bars_the_new_one(
    company, amy, act
):
    company.move(amy, NEW)
    company.sync(before_push=lambda: company.person(OLD, act))
    company.sync()
    assert mailable(company) == set()
    assert company.decisions()[amy][1] == "opted_out_elsewhere"


# ── 2. no update can create a subscriber ──────────────────────────────────────────────────────


def test_a43_an_update_of_an_address_that_moved_meanwhile_creates_nobody_who_can_be_mailed(
    company, amy
):
    company.edit(amy, GivenName="Amelia")
    company.clear_journals()
    company.sync(before_push=lambda: company.person(OLD, "upemail", email_address=NEW))
    assert company.statuses().get(OLD, "archived") == "archived"
    bodies = [call["body"] for call in company.writes() if isinstance(call["body"], dict)]
    rows = [row for body in bodies for row in body.get("members", [])]
    assert all(row["status_if_new"] == "unsubscribed" for row in rows)
    company.sync()
    assert company.statuses().get(OLD, "archived") == "archived"
    assert company.statuses()[NEW] == "subscribed"
    assert company.decisions()[amy][1] == "address_changed_in_mailchimp"


def test_a43_a_contact_that_was_never_listed_is_linked_when_it_moves(company):
    amy = company.customer("Amy", OLD)
    company.sync()
    company.person(OLD, "upemail", email_address=NEW)
    company.person(NEW, "unsubscribe")
    company.edit(amy, GivenName="Amelia")
    company.sync()
    company.sync()
    assert mailable(company) == set()
    assert company.statuses().get(OLD, "archived") == "archived"
    assert company.decisions()[amy][1] == "address_changed_in_mailchimp"


def test_a43_upemail_and_profile_of_one_change_keep_the_former_address(company):
    amy = company.customer("Amy", OLD)
    company.sync()
    company.person(OLD, "upemail", email_address=NEW)
    company.told_by_mailchimp("upemail", new_id="1", new_email=NEW, old_email=OLD)
    company.told_by_mailchimp("profile", id="1", email=NEW)
    company.work_off()
    company.edit(amy, GivenName="Amelia")
    company.sync()
    assert OLD not in company.statuses()
    assert company.decisions()[amy][1] == "address_changed_in_mailchimp"


# ── 3. refused at creation, then corrected ────────────────────────────────────────────────────


def test_a22_a_forgotten_address_that_is_corrected_makes_no_contact(company):
    company.seed(OLD)
    company.person(OLD, "forget")
    amy = company.customer("Amy", OLD)
    company.sync()
    company.move(amy, NEW)
    company.sync()
    company.sync()
    assert mailable(company) == set()
    assert company.decisions()[amy][1] == "opted_out_elsewhere"


def test_a22_a_compliance_refusal_travels_to_a_corrected_address(company, amy):
    company.person(OLD, "unsubscribe")
    company.sync()
    company.person(OLD, "forget")
    company.sync()
    company.move(amy, NEW)
    company.sync()
    assert mailable(company) == set()


# ── 4. moved in Mailchimp, removed there, then a third address ────────────────────────────────


@pytest.mark.parametrize("act", ["archive", "forget", "unsubscribe"])
def test_a28b_a_third_address_of_a_person_whose_alias_was_removed_is_not_mailed(company, amy, act):
    company.person(OLD, "upemail", email_address=NEW)
    company.sync()
    company.person(NEW, act)
    company.sync()
    company.move(amy, THIRD)
    company.sync()
    company.sync()
    assert mailable(company) == set()


# ── 5. a complaint that Mailchimp reports as cleaned ──────────────────────────────────────────


def test_a11_a_complaint_reported_as_cleaned_travels(company, amy):
    company.person(OLD, "clean", abuse=True)
    company.told_by_mailchimp("cleaned", email=OLD, reason="abuse", campaign_id="")
    company.work_off()
    assert "Reported a mail as spam" in company.record_of(amy)["Notes"]
    company.move(amy, NEW)
    company.sync()
    company.sync()
    assert company.statuses()[NEW] == "unsubscribed"


def test_a11_a_complaint_whose_webhook_was_lost_travels(company, amy):
    company.person(OLD, "clean", abuse=True)
    company.move(amy, NEW)
    company.sync()
    company.sync()
    assert company.statuses()[NEW] == "unsubscribed"


def test_a11_a_complaint_at_the_address_that_a_member_took_in_mailchimp_travels(company, amy):
    company.person(OLD, "upemail", email_address=NEW)
    company.sync()
    company.person(NEW, "clean", abuse=True)
    company.sync()
    company.move(amy, THIRD)
    company.sync()
    company.sync()
    assert mailable(company) == set()


def test_a11_a_complaint_stays_one_when_the_member_takes_another_address(company, amy):
    company.person(OLD, "clean", abuse=True)
    company.sync()
    company.person(OLD, "upemail", email_address=NEW)
    company.move(amy, NEW)
    company.sync()
    company.move(amy, THIRD)
    company.sync()
    company.sync()
    assert mailable(company) == set()


def test_a11_a_bounce_gives_a_corrected_address_its_chance(company, amy):
    company.person(OLD, "clean")
    company.sync()
    company.move(amy, NEW)
    company.sync()
    assert company.statuses()[NEW] == "subscribed"


# ── 6. clocks ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("minutes", [-45, -15, 15, 45])
def test_d10_an_opt_out_is_read_however_far_mailchimps_clock_is_off(company, minutes):
    company.mailchimp_control("PUT", "clock", {"offset_seconds": minutes * 60})
    amy = company.customer("Amy", OLD)
    company.sync()
    company.sync()
    company.person(OLD, "unsubscribe")
    # The look before the push would hide that the listing missed it.
    assert company.sync().contacts == {"unsubscribed": 1}
    company.move(amy, NEW)
    company.sync()
    assert mailable(company) == set()


def test_d10_a_worker_that_was_ahead_once_misses_nothing_later(company, amy):
    company.ahead = timedelta(minutes=30)
    company.sync()
    company.ahead = timedelta()
    company.person(OLD, "unsubscribe")
    company.sync()
    company.move(amy, NEW)
    company.sync()
    assert mailable(company) == set()


@pytest.mark.parametrize("minutes", [-45, -2])
def test_d10_an_opt_out_is_read_though_the_database_and_mailchimp_disagree_with_the_worker(
    company, minutes
):
    company.ahead = timedelta(minutes=minutes)  # the database keeps its own time
    company.mailchimp_control("PUT", "clock", {"offset_seconds": minutes * 60})
    amy = company.customer("Amy", OLD)
    company.sync()
    company.person(OLD, "unsubscribe")
    company.told_by_mailchimp("unsubscribe", email=OLD, id="1", action="unsub")
    company.work_off()
    assert "Unsubscribed" in company.record_of(amy)["Notes"]


@pytest.mark.parametrize("minutes", [-30, -2, 2, 30])
def test_d10_a_first_load_is_complete_however_far_quickbooks_clock_is_off(company, minutes):
    company.quickbooks_control("PUT", "clock", {"offset_seconds": minutes * 60})
    company.customer("Amy", OLD)
    company.customer("Ben", NEW)
    company.sync()
    assert set(company.statuses()) == {OLD, NEW}
    company.customer("Cat", THIRD)
    company.sync()
    assert set(company.statuses()) == {OLD, NEW, THIRD}


# ── 8. merges ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spelling", ["deletedid", "deletedId", "deletedID", "DeletedId", None])
def test_a21_a_merge_is_healed_at_the_latest_by_the_next_daily_run(company, amy, spelling):
    ben = company.customer("Ben", NEW)
    company.sync()
    company.quickbooks_control("POST", "customers/merge", {"survivor": amy, "loser": ben})
    company.told_by_quickbooks(("merged", amy, ben), spelling=spelling)
    company.work_off()
    company.sync()
    assert company.statuses() == {OLD: "subscribed", NEW: "archived"}


# ── a decision that waited ────────────────────────────────────────────────────────────────────


def aged(company: Company) -> None:
    """Let the plan be as old as one that waited for its approval."""
    with company.database.begin() as connection:
        connection.execute(
            text("UPDATE ml_connector.changes SET decided_at = decided_at - interval '1 hour'")
        )
        connection.execute(
            text("""UPDATE ml_connector.cursors SET value = value || jsonb_build_object(
                        'asked_at', (value ->> 'asked_at')::timestamptz - interval '1 hour')
                    WHERE name = 'members'""")
        )


def test_a42_the_audience_is_read_once_before_creations_that_waited(company, contract):
    for number in range(3):
        company.customer(f"C{number}", f"c{number}@waited-mail.net")
    company.clear_journals()
    company.sync(before_push=lambda: aged(company))
    reads = [c for c in company.calls("mailchimp") if c["path"].endswith("/members")]
    looks = 1 if contract == "status_required" else 0  # what was archived, before each batch
    assert len(reads) - looks == 6, "before the plan, before the push, and to learn the contact ids"
    assert len(company.statuses()) == 3


def test_a42_a_creation_that_waited_is_not_made_for_a_member_who_came_and_went(company):
    amy = company.customer("Amy", OLD)

    def come_and_go() -> None:
        aged(company)
        company.person(OLD, "subscribe")
        company.person(OLD, "unsubscribe")

    company.sync(before_push=come_and_go)
    company.sync()
    assert mailable(company) == set()
    assert company.decisions()[amy][0] == "contact"
