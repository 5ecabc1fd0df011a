"""A42, A43: windows between reads and writes that only an unlucky order of calls opens."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from ml_connector.audit import trail
from ml_connector.audit.trail import Selection
from ml_connector.console.queries.customer_list import CustomerFilter
from ml_connector.console.retrying import mark_due
from ml_connector.errors import PlanOutdated, RetryLater
from ml_connector.replay import replay
from ml_connector.store import contacts
from ml_connector.sync import guard
from ml_connector.sync.archive import archive_contacts
from ml_connector.sync.fetch_members import fetch_members
from ml_connector.sync.push import push_shard
from ml_connector.wire.transport import Request, Response, Transport
from tests.integration.company import Company
from tests.integration.test_audit_sealed import tamper
from tests.integration.test_behaviour_windows import NEW, OLD, THIRD, mailable
from tests.integration.test_forget import erase

pytestmark = pytest.mark.usefixtures("contract")

LOST = {"kind": "drop", "when": "after"}
ELSEWHERE = "amy@elsewhere-mail.net"


@pytest.fixture
def amy(company: Company) -> str:
    """A customer whose contact is subscribed and was read once."""
    customer_id = company.customer("Amy", OLD)
    company.sync()
    return customer_id


@pytest.fixture
def moved(company: Company, amy: str) -> str:
    """The same customer, after its contact was replaced by one at the new address."""
    company.move(amy, NEW)
    company.sync()
    assert company.statuses() == {OLD: "archived", NEW: "subscribed"}
    return amy


def before_call(company: Company, nth: int, act: Callable[[], object]) -> None:
    """Let somebody act right before the ``nth`` call to Mailchimp from now, counted from 0."""
    calls = itertools.count()

    def pace() -> None:
        if next(calls) == nth:
            act()

    company.threads = 1
    company.mailchimp_pace = pace


@dataclass
class BeforeBatch:
    """A transport before whose first batch somebody acts."""

    transport: Transport
    act: Callable[[], object]
    acted: bool = False

    def send(self, request: Request) -> Response:
        if b'"members"' in (request.body or b"") and not self.acted:
            self.acted = True
            self.act()
        return self.transport.send(request)


def one(company: Company, query: str) -> Any:
    with company.database.begin() as connection:
        return connection.execute(text(query)).scalar_one()


def lists(company: Company) -> int:
    return sum(call["path"].endswith("/members") for call in company.calls("mailchimp"))


# ── an opt-out that shows only after the archives ─────────────────────────────────────────────


def test_a42_an_opt_out_after_the_archives_is_taken_along_by_the_same_run(company, amy):
    company.move(amy, NEW)
    company.sync(before_link=lambda: company.person(OLD, "unsubscribe"))
    assert mailable(company) == set()


def test_a42_a_former_contact_that_cannot_be_archived_is_read_again_in_the_same_run(company):
    company.seed(OLD, "pending")
    amy = company.customer("Amy", OLD)
    company.sync()
    company.move(amy, NEW)
    company.sync(before_archive=lambda: company.person(OLD, "unsubscribe"))
    assert mailable(company) == set()


def test_a42_taking_an_opt_out_along_does_nothing_else(company, amy):
    """What else changed at the customer meanwhile waits for the next plan."""

    def opt_out_and_move_on() -> None:
        company.person(OLD, "unsubscribe")
        company.move(amy, THIRD)
        company.fetch(company.scope("beside"))

    company.move(amy, NEW)
    company.sync(before_archive=opt_out_and_move_on)
    assert THIRD not in company.statuses()
    assert one(company, "SELECT count(*) FROM ml_connector.changes WHERE state = 'pending'") == 0
    company.sync()
    company.sync()
    assert mailable(company) == set()


def test_a42_data_that_mailchimp_refuses_holds_no_opt_out_up(company, moved):
    bad = {"ADDRESS": {"addr1": "1 Main St", "city": "", "state": "", "zip": ""}}
    company.person(NEW, "profile", merge_fields=bad)
    company.edit(moved, GivenName="Amelia")
    company.sync()
    assert company.told(moved)[-1][2] == "failed"
    company.person(OLD, "unsubscribe")
    company.sync()
    assert mailable(company) == set()


def test_a42_replay_takes_along_what_it_reads(company, moved):
    company.person(OLD, "unsubscribe")
    ben = company.customer("Ben", "ben@old-mail.net")
    company.sync(ids=[ben], before_push=lambda: None)
    company.move(moved, NEW)
    with company.database.begin() as connection:
        rows = trail.select(connection, Selection(ids=[company.audit()[0]["id"]]))
    replay(company.open_sync(), rows)
    assert NEW not in mailable(company)


# ── complaints ────────────────────────────────────────────────────────────────────────────────


def test_a11_a_complaint_after_a_bounce_at_the_former_address_travels(company, moved):
    company.person(OLD, "clean")
    company.sync()
    assert company.statuses()[NEW] == "subscribed"
    company.person(OLD, "clean", abuse=True)
    company.told_by_mailchimp("cleaned", email=OLD, reason="abuse", campaign_id="")
    company.work_off()
    assert mailable(company) == set()


@pytest.mark.parametrize("first", ["clean", "profile"])
def test_a28b_a_complaint_at_the_address_taken_in_mailchimp_travels(company, amy, first):
    company.person(OLD, "upemail", email_address=ELSEWHERE)
    company.person(ELSEWHERE, first)
    company.sync()
    company.person(ELSEWHERE, "clean", abuse=True)
    company.told_by_mailchimp("cleaned", email=ELSEWHERE, reason="abuse", campaign_id="")
    company.work_off()
    company.move(amy, THIRD)
    company.sync()
    assert mailable(company) == set()


def test_b1_a_complaint_that_only_its_webhook_tells_counts_among_many_events(company, amy):
    others = [f"c{number}@crowd-mail.net" for number in range(7)]
    for email in others:
        company.seed(email)
    company.sync()
    company.person(OLD, "clean")
    company.told_by_mailchimp("cleaned", email=OLD, reason="abuse", campaign_id="")
    for email in others:
        company.person(email, "profile", merge_fields={"FNAME": "X"})
        company.told_by_mailchimp("profile", email=email, id="1")
    company.work_off()
    company.move(amy, NEW)
    company.sync()
    assert mailable(company) & {OLD, NEW} == set()


# ── members who change their address in Mailchimp ─────────────────────────────────────────────


def test_a28b_an_opt_out_at_an_address_taken_before_the_archive_travels(company, amy):
    def leave() -> None:
        company.person(OLD, "upemail", email_address=ELSEWHERE)
        company.person(ELSEWHERE, "unsubscribe")

    company.move(amy, NEW)
    company.sync(before_archive=leave)
    company.sync()
    assert mailable(company) == set()


def test_a43_nobody_is_created_at_a_third_address_of_a_member_who_was_never_linked(company):
    def leave() -> None:
        company.person(OLD, "upemail", email_address=ELSEWHERE)
        company.person(ELSEWHERE, "unsubscribe")

    amy = company.customer("Amy", OLD)
    company.sync(before_archive=leave)
    company.edit(amy, GivenName="Amelia")
    company.sync()
    company.sync()
    company.move(amy, THIRD)
    company.sync()
    company.sync()
    assert mailable(company) == set()


def test_a43_a_contact_that_was_taken_back_does_not_hide_where_its_member_is(company, amy):
    company.edit(amy, GivenName="Amelia")
    company.sync(before_push=lambda: company.person(OLD, "upemail", email_address=ELSEWHERE))
    company.sync()
    company.move(amy, THIRD)
    company.sync(before_push=lambda: company.person(ELSEWHERE, "unsubscribe"))
    company.sync()
    assert mailable(company) == set()


def test_a43_an_address_that_a_stranger_left_is_known_by_the_webhook(company, amy):
    company.seed(NEW)
    company.person(NEW, "upemail", email_address=ELSEWHERE)
    company.told_by_mailchimp("upemail", new_id="1", new_email=ELSEWHERE, old_email=NEW)
    company.work_off()
    company.person(ELSEWHERE, "unsubscribe")
    company.move(amy, NEW)
    company.sync()
    company.sync()
    assert NEW not in company.statuses()


# ── the last word ─────────────────────────────────────────────────────────────────────────────


def test_a42_an_opt_out_after_a_sign_up_has_the_last_word(company, moved):
    company.person(NEW, "unsubscribe")
    company.sync()
    company.pass_time(minutes=20)
    company.person(NEW, "subscribe")
    company.pass_time(minutes=1)
    company.person(OLD, "unsubscribe")
    company.sync()
    company.sync()
    assert mailable(company) == set()


def test_a42_a_sign_up_after_the_opt_out_has_the_last_word_though_it_is_read_together(
    company, moved
):
    company.person(NEW, "unsubscribe")
    company.sync()
    company.pass_time(minutes=20)
    company.person(OLD, "unsubscribe")
    company.pass_time(minutes=1)
    company.person(NEW, "subscribe")
    company.sync()
    company.sync()
    assert mailable(company) == {NEW}


def test_a42_a_webhook_of_an_earlier_sign_up_does_not_undo_a_later_opt_out(company, moved):
    company.person(NEW, "unsubscribe")
    company.sync()
    company.pass_time(minutes=20)
    company.person(NEW, "subscribe")
    company.pass_time(minutes=1)
    company.person(OLD, "unsubscribe")
    company.told_by_mailchimp("unsubscribe", email=OLD, id="1", action="unsub")
    company.work_off()
    company.told_by_mailchimp("subscribe", email=NEW, id="2")
    company.work_off()
    company.sync()
    assert mailable(company) == set()


def test_a42_a_sign_up_before_the_push_lets_a_decided_lowering_drop(company, moved):
    company.person(OLD, "unsubscribe")

    def sign_up() -> None:
        company.pass_time(minutes=1)
        company.person(NEW, "unsubscribe")
        company.told_by_mailchimp("unsubscribe", email=NEW, id="1", action="unsub")
        company.work_off()
        company.pass_time(minutes=1)
        company.person(NEW, "subscribe")
        company.told_by_mailchimp("subscribe", email=NEW, id="2")
        company.work_off()

    company.sync(before_push=sign_up)
    company.sync()
    assert mailable(company) == {NEW}


# ── outcomes that nobody heard ────────────────────────────────────────────────────────────────


def test_a42_a_creation_whose_outcome_is_unknown_takes_an_opt_out_along(company, amy):
    company.move(amy, NEW)
    company.fault("mailchimp", match={"method": "POST"}, times=4, action=LOST)
    with pytest.raises(RetryLater):
        company.sync()
    company.clear_faults(company.mailchimp)
    assert company.statuses()[NEW] == "subscribed"
    company.person(OLD, "unsubscribe")
    company.sync()
    company.sync()
    assert mailable(company) == set()


def test_a42_a_restore_whose_outcome_is_unknown_takes_an_opt_out_along(company, moved):
    company.move(moved, OLD)
    company.fault("mailchimp", match={"method": "PUT"}, times=4, action=LOST)
    with pytest.raises(RetryLater):
        company.sync()
    company.clear_faults(company.mailchimp)
    assert company.statuses()[OLD] == "subscribed"
    company.person(NEW, "unsubscribe")
    company.sync()
    company.sync()
    assert mailable(company) == set()


def retry_by_console(company: Company) -> None:
    assert mark_due(company.scope(), wanted=CustomerFilter(), most=1) == 1


def requeue_as_a_replay(company: Company) -> None:
    scope = company.scope()
    with company.database.begin() as connection:
        found = connection.execute(
            text("SELECT email_key FROM ml_connector.contacts WHERE parked_until IS NOT NULL")
        )
        keys = {bytes(key) for key in found.scalars()}
        contacts.requeue(connection, sync="main", keys=keys, now=scope.clock())


@pytest.mark.parametrize("again", [retry_by_console, requeue_as_a_replay])
def test_a42_an_unanswered_creation_that_is_retried_takes_an_opt_out_along(company, amy, again):
    unanswered = {"new_members": [], "updated_members": [], "errors": []}
    action = {"kind": "body", "body": unanswered}
    company.move(amy, NEW)
    company.fault("mailchimp", match={"method": "POST"}, times=1, action=action)
    company.sync()
    assert company.decisions()[amy][1] == "unanswered"
    company.seed(NEW)  # it was made nevertheless
    again(company)
    company.person(OLD, "unsubscribe")
    company.sync()
    company.sync()
    assert mailable(company) == set()


# ── many at once ──────────────────────────────────────────────────────────────────────────────


def test_a42_a_former_contact_deleted_for_good_counts_when_many_move(company):
    ids = [company.customer(f"C{n}", f"c{n}@old-mail.net") for n in range(7)]
    company.sync()
    for number, each in enumerate(ids):
        company.move(each, f"c{number}@new-mail.net")
    company.sync(before_push=lambda: company.person("c3@old-mail.net", "forget"))
    assert len(mailable(company)) == 6
    assert company.statuses()["c3@new-mail.net"] == "unsubscribed"


def test_a42_an_opt_out_in_the_moment_of_the_archive_is_told_among_many_webhooks(company, amy):
    others = [f"c{number}@crowd-mail.net" for number in range(7)]
    for email in others:
        company.seed(email)
    company.sync()
    company.move(amy, NEW)
    company.sync(
        before_archive=lambda: before_call(company, 1, lambda: company.person(OLD, "unsubscribe"))
    )
    assert company.statuses()[OLD] == "archived"
    company.told_by_mailchimp("unsubscribe", email=OLD, id="1", action="unsub")
    for email in others:
        company.person(email, "profile", merge_fields={"FNAME": "X"})
        company.told_by_mailchimp("profile", email=email, id="1")
    company.work_off()
    assert mailable(company) & {OLD, NEW} == set()


# ── webhooks and replay look first as well ────────────────────────────────────────────────────


@pytest.mark.parametrize("back", [False, True], ids=["create", "restore"])
@pytest.mark.parametrize("nth", [2, 3, 4])
def test_a42_a_customer_that_a_webhook_moves_is_written_on_a_fresh_look(company, amy, nth, back):
    """Calls: two listings, the audience's fields, the look, the write."""
    here, there = OLD, NEW
    if back:
        company.move(amy, NEW)
        company.sync()
        here, there = NEW, OLD
    company.sync()
    company.move(amy, there)
    company.told_by_quickbooks(("updated", amy))
    before_call(company, nth, lambda: company.person(here, "unsubscribe"))
    company.work_off()
    assert mailable(company) == set()


@pytest.mark.parametrize("nth", [2, 3, 4])
def test_a42_a_customer_that_a_replay_moves_is_written_on_a_fresh_look(company, amy, nth):
    company.sync()
    company.move(amy, NEW)
    with company.database.begin() as connection:
        rows = trail.select(connection, Selection(ids=[company.audit()[-1]["id"]]))
    before_call(company, nth, lambda: company.person(OLD, "unsubscribe"))
    replay(company.open_sync(), rows)
    company.sync()
    assert mailable(company) == set()


# ── plans that wait ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shared", [False, True])
def test_a42_an_approval_covers_what_the_former_contact_was(company, amy, shared):
    # With a sharer that moves the former contact has no change of its own in the plan.
    mover = company.customer("Ann", OLD) if shared else amy
    cem = company.customer("Cem", THIRD)
    company.sync()
    company.settings["guard"] = {"max_archives": 0, "max_archive_share": 0, "max_updates": 0}
    company.move(mover, NEW)
    company.edit(cem, GivenName="Cemal")
    scope = company.scope()
    company.fetch(scope)
    client = company.mailchimp_client(scope.calls)
    fetch_members(scope, client)
    plan = company.plan(scope)
    assert guard.hold_plan(scope, plan_id=plan.plan_id) is not None
    company.person(OLD, "clean")
    if shared:
        fetch_members(scope, client)
    else:
        company.told_by_mailchimp("cleaned", email=OLD, reason="hard", campaign_id="")
        company.work_off()
    with company.database.begin() as connection:  # however it came that nobody is to be decided on
        connection.execute(text("UPDATE ml_connector.customers SET dirty = false"))
    with pytest.raises(PlanOutdated):
        guard.approve(scope, plan_id=plan.plan_id, person="ada")


def test_a42_an_approved_plan_is_written_on_a_fresh_look(company, amy):
    company.settings["guard"] = {"max_archives": 0, "max_archive_share": 0}
    company.move(amy, NEW)
    scope = company.scope()
    company.fetch(scope)
    client = company.mailchimp_client(scope.calls)
    fetch_members(scope, client)
    plan = company.plan(scope)
    guard.hold_plan(scope, plan_id=plan.plan_id)
    guard.approve(scope, plan_id=plan.plan_id, person="ada")
    company.person(OLD, "unsubscribe")
    for shard in plan.shards:
        push_shard(scope, client, plan_id=plan.plan_id, shard=shard, again=False)
    archive_contacts(scope, client, plan_id=plan.plan_id)
    assert mailable(company) == set()


def test_a42_a_plan_that_waited_writes_nothing_that_a_webhook_decided_anew(company, amy):
    company.settings["guard"] = {"max_archives": 0, "max_archive_share": 0}
    company.move(amy, NEW)
    scope = company.scope()
    company.fetch(scope)
    client = company.mailchimp_client(scope.calls)
    fetch_members(scope, client)
    plan = company.plan(scope)
    guard.hold_plan(scope, plan_id=plan.plan_id)
    guard.approve(scope, plan_id=plan.plan_id, person="ada")
    company.move(amy, THIRD)
    company.told_by_quickbooks(("updated", amy))
    company.work_off()
    company.person(THIRD, "unsubscribe")
    for shard in plan.shards:
        push_shard(scope, client, plan_id=plan.plan_id, shard=shard, again=False)
    assert NEW not in company.statuses()
    company.move(amy, NEW)
    company.sync()
    assert mailable(company) <= {OLD}


@pytest.mark.parametrize("late", [False, True])
def test_a42_a_marketers_archive_is_not_undone_by_a_creation(company, late):
    """The older contract brings an archived member back: its creation carries a status.

    ``late``: after the listing of those who were archived meanwhile.
    """

    def come_and_go() -> None:
        company.seed(OLD)
        company.person(OLD, "archive")

    amy = company.customer("Amy", OLD)
    if late:
        company.around = lambda _system, transport: BeforeBatch(transport, come_and_go)
    company.sync(before_push=(lambda: None) if late else come_and_go)
    company.sync()
    assert company.statuses() == {OLD: "archived"}
    assert company.decisions()[amy][1] == "archived_by_marketer"


# ── what it costs ─────────────────────────────────────────────────────────────────────────────


def test_d9_a_quiet_day_reads_the_audience_once_after_a_final_refusal(company):
    company.seed(OLD)
    company.person(OLD, "forget")
    company.customer("Amy", OLD)
    company.customer("Ben", NEW)
    company.sync(before_link=lambda: company.person(NEW, "forget"))
    company.sync()
    company.clear_journals()
    company.sync()
    assert lists(company) == 2
    assert company.writes() == []


def test_d9_a_first_load_of_an_empty_audience_reads_it_once_more(company, contract):
    for number in range(30):
        company.customer(f"C{number}", f"c{number}@load-mail.net")
    company.clear_journals()
    company.sync()
    looks = 1 if contract == "status_required" else 0  # what was archived, before each batch
    assert lists(company) - looks == 4, "before the plan, and to learn the contact ids"


# ── clocks ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seconds", [-150, 150])
def test_d10_a_worker_whose_clock_is_off_links_what_it_creates(company, seconds):
    company.ahead = timedelta(seconds=seconds)
    company.customer("Amy", OLD)
    company.sync()
    assert one(company, "SELECT count(*) FROM ml_connector.contacts WHERE contact_id IS NULL") == 0


def test_d9_a_day_without_moves_reads_nothing_more(company, amy, contract):
    company.sync()
    company.edit(amy, GivenName="Amelia")
    company.clear_journals()
    company.sync()
    paths = [call["path"].rsplit("/", 1)[-1] for call in company.calls("mailchimp")]
    assert paths[:3] == ["members", "members", "merge-fields"]
    assert [call["method"] for call in company.calls("mailchimp")][3:4] in (["POST"], ["PATCH"])
    assert [path for path in paths[4:] if path != "campaigns"] == []


# ── what is left of a person ──────────────────────────────────────────────────────────────────


def test_a30_an_erasure_covers_the_addresses_that_the_person_left(company, moved):
    company.person(OLD, "unsubscribe")
    company.sync()
    assert one(company, "SELECT count(*) FROM ml_connector.customers WHERE opted_out") == 1
    # The audit of that time was dropped.
    tamper(
        company, "UPDATE ml_connector.contacts SET owner = NULL", "DELETE FROM ml_connector.audit"
    )
    erase(company, NEW)
    assert one(company, "SELECT count(*) FROM ml_connector.customers WHERE opted_out") == 0
    assert one(company, "SELECT count(*) FROM ml_connector.former_contacts") == 0
    company.customer("Amy again", OLD)
    company.sync()
    assert mailable(company) == set()
