"""What happens between a decision and its write counts: opt-outs, edits, approvals and kills.

docs/reference/behaviour.md, A18, A42, A44 to A46 and E3.
"""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from ml_connector.store import cursors, plans, undos
from ml_connector.sync import guard
from ml_connector.sync.report import make_report
from ml_connector.sync.undo import find_run, plan_undo
from ml_connector.sync.undo_push import write_undo
from tests.integration.company import Company
from tests.integration.undoing import last_run, undo, wrong_run

AMY, NEW, AWAY = "amy@late-mail.net", "new@late-mail.net", "away@late-mail.net"


@pytest.fixture
def archived(company) -> str:
    """Amy's contact, which a run archived because she was made inactive."""
    amy = company.customer("Amy", AMY)
    company.customer("Bob", "bob@late-mail.net")
    company.sync()
    company.sync()
    company.edit(amy, Active=False)
    company.sync()
    return amy


@pytest.fixture
def moved(company) -> str:
    """The run that brought Amy from one address to another."""
    amy = company.customer("Amy", AMY)
    company.sync()
    company.sync()
    company.move(amy, NEW)
    company.sync()
    return last_run(company)


def opts_out(company) -> None:
    company.told_by_mailchimp("unsubscribe", email=AMY, action="unsub", reason="manual")
    company.work_off()


def hours_pass(company) -> None:
    company.let_decisions_age()
    with company.database.begin() as connection:
        read = cursors.get(connection, sync="main", name="members")
        read["asked_at"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        cursors.put(connection, sync="main", name="members", value=read)


def approved(company, scope, planned) -> None:
    guard.approve(scope, plan_id=planned.plan_id, person="ann")
    company.push(scope, planned, again=False)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after hours"])
def test_a18_an_opt_out_told_before_the_restore_is_written_counts(company, archived, late):
    company.edit(archived, Active=True, DisplayName="Amy")

    def meanwhile() -> None:
        opts_out(company)
        if late:
            company.let_decisions_age()

    company.sync(before_push=meanwhile)
    assert company.statuses()[AMY] != "subscribed"


def test_a18_an_opt_out_and_a_return_told_together_do_not_subscribe(company, archived):
    company.edit(archived, Active=True, DisplayName="Amy")
    company.told_by_mailchimp("unsubscribe", email=AMY, action="unsub", reason="manual")
    company.told_by_quickbooks(("updated", archived))
    company.work_off()
    company.sync()
    assert company.statuses()[AMY] != "subscribed"


def test_e3_an_opt_out_told_before_an_undo_is_written_counts(company, archived):
    undo(company, last_run(company), before_write=lambda: opts_out(company))
    assert company.statuses()[AMY] != "subscribed"


def test_e3_an_undo_restores_nobody_who_moved_on_and_opted_out_there(company, moved):
    company.sync()
    company.person(NEW, "upemail", email_address=AWAY)
    company.person(AWAY, "unsubscribe")
    company.sync()
    undo(company, moved)
    assert company.statuses()[AMY] != "subscribed"


def test_e3_an_undo_restores_nobody_who_opted_out_before_a_move_back_is_written(company, moved):
    company.sync()
    company.person(NEW, "unsubscribe")
    [amy] = [each["Id"] for each in company.quickbooks_control("GET", "customers")["customers"]]
    company.move(amy, AMY)
    company.decide(company.scope())  # and the plan waits
    undo(company, moved)
    assert company.statuses()[AMY] != "subscribed"


def test_e3_an_undo_killed_before_its_end_leaves_the_customer_its_contact(
    company, moved, monkeypatch
):
    def killed(*_args: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(undos, "return_customers", killed)
        with pytest.raises(KeyboardInterrupt):
            undo(company, moved)
    undo(company, moved)
    with company.database.begin() as connection:
        [row] = connection.execute(
            text("""SELECT k.owner, c.contact_key = k.email_key AS there
                    FROM ml_connector.customers c, ml_connector.contacts k
                    WHERE k.status = 'subscribed'""")
        ).all()
    assert row.there
    assert row.owner


def test_e3_an_undo_leaves_a_person_who_signed_up_before_a_parked_creation(company):
    company.customer("Amy", AMY)
    with company.database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.contacts
                           (sync, email_key, status, parked_until, parked_times, seen_at)
                    VALUES ('main', :key, 'absent', now() - interval '1 hour', 1, now())"""),
            {"key": company.vault.email_key(AMY)},
        )
    company.sync(before_push=lambda: company.seed(AMY, merge_fields={"FNAME": "Amelia"}))
    undo(company, last_run(company))
    assert company.statuses()[AMY] == "subscribed"


def test_a45_what_a_member_fills_while_the_first_plan_waits_stays(company):
    company.settings["first_run"] = "ask"
    company.seed(AMY, merge_fields={"LNAME": "Ross"})
    company.customer("Bob", AMY)
    scope = company.scope()
    planned = company.decide(scope)
    assert guard.hold_plan(scope, plan_id=planned.plan_id)
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    hours_pass(company)
    approved(company, scope, planned)
    assert company.fields(AMY)["FNAME"] == "Robert"


def test_a44_what_a_member_edits_while_a_large_plan_waits_stays(company):
    bob = company.customer("Bob", AMY, FamilyName="Ross")
    company.sync()
    company.sync()
    company.settings["guard"] = {"max_updates": 0}
    company.edit(bob, CompanyName="X")
    scope = company.scope()
    planned = company.decide(scope)
    assert guard.hold_plan(scope, plan_id=planned.plan_id)
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    hours_pass(company)
    approved(company, scope, planned)
    assert company.fields(AMY)["FNAME"] == "Robert"


def test_a44_an_edit_moves_along_when_our_update_met_a_member_who_had_left(company):
    company.settings["adopt"] = "overwrite"
    bob = company.customer("Bob", AMY, FamilyName="Ross")
    company.sync()
    company.sync()
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    company.sync()
    company.edit(bob, CompanyName="QBO Ltd")
    company.sync(before_push=lambda: company.person(AMY, "upemail", email_address=AWAY))
    company.sync(full_sync=True)
    company.move(bob, AWAY)
    company.sync()
    assert company.fields(AWAY)["FNAME"] == "Robert"


# ── approvals ─────────────────────────────────────────────────────────────────────────────────


def first_plan(company):
    company.settings["first_run"] = "ask"
    company.customer("Amy", AMY)
    scope = company.scope()
    planned = company.decide(scope)
    assert guard.hold_plan(scope, plan_id=planned.plan_id) is not None
    return scope, planned


def test_a46_an_approved_undo_is_no_answer_to_the_first_plan(company):
    company.customer("Amy", AMY)
    company.sync()
    run = wrong_run(company)
    company.settings |= {"first_run": "ask", "new_contact_status": "pending"}
    company.customer("Eva", "eva@late-mail.net")
    scope = company.scope()
    client = company.mailchimp_client(scope.calls)
    with company.database.begin() as connection:
        undone = find_run(connection, run)
    plan = plan_undo(scope, client, undone=undone)
    assert guard.hold_plan(scope, plan_id=plan) is not None
    guard.approve(scope, plan_id=plan, person="ann")
    write_undo(scope, client, plan_id=plan)
    scope = company.scope()
    planned = company.decide(scope)
    assert guard.hold_plan(scope, plan_id=planned.plan_id) is not None


def test_a46_runs_that_fail_do_not_end_the_silence(company):
    scope, planned = first_plan(company)
    approved(company, scope, planned)
    company.report(scope, planned)
    ended = datetime.now(UTC) - timedelta(days=59)
    with company.database.begin() as connection:
        known = cursors.get(connection, sync="main", name="approved") | {"at": ended.isoformat()}
        cursors.put(connection, sync="main", name="approved", value=known)
    scope = company.scope()
    make_report(scope, plan_id=scope.plan_id(), complete=False)
    with company.database.begin() as connection:
        assert cursors.get(connection, sync="main", name="approved") == known


def test_a46_a_preview_makes_no_sync_known(company):
    company.customer("Amy", AMY)
    company.sync(preview=True)
    company.settings["first_run"] = "ask"
    scope = company.scope()
    assert guard.hold_plan(scope, plan_id=company.decide(scope).plan_id) is not None


def test_a46_an_approval_tried_again_stays_approved(company):
    scope, planned = first_plan(company)
    guard.approve(scope, plan_id=planned.plan_id, person="ann")
    assert guard.hold_plan(scope, plan_id=planned.plan_id) is None
    assert guard.plan_state(scope, plan_id=planned.plan_id) == "approved"


def test_e3_a_previewed_undo_waits_for_nobody(company):
    for number in range(4):
        company.customer(f"N{number}", f"n{number}@late-mail.net")
    company.sync()
    run = wrong_run(company)
    company.settings["guard"] = {"max_updates": 1}
    scope = company.scope()
    with company.database.begin() as connection:
        undone = find_run(connection, run)
    client = company.mailchimp_client(scope.calls)
    plan = plan_undo(scope, client, undone=undone, preview=True)
    assert guard.hold_plan(scope, plan_id=plan) is None


def test_a57_a_step_that_succeeds_does_not_clear_another_steps_stop(company):
    plan_id = company.scope().plan_id()
    with company.database.begin() as connection:
        for step in ("push/0", "push/1"):
            plans.fail(connection, plan_id=plan_id, error="stopped", stopped=step)
        plans.resume(connection, plan_id=plan_id, step="push/1")
        assert plans.stopped_by(connection, plan_id=plan_id) == "push/0"
        plans.resume(connection, plan_id=plan_id, step="push/0")
        assert plans.stopped_by(connection, plan_id=plan_id) is None


def test_b1_an_edit_told_while_a_plan_waits_is_recorded(company):
    bob = company.customer("Bob", AMY, FamilyName="Ross")
    company.sync()
    company.edit(bob, CompanyName="QBO Ltd")
    company.decide(company.scope())
    company.person(AMY, "profile", merge_fields={"FNAME": "Robert"})
    told_of_member(company, "profile")
    assert kinds_of_events(company) == ["profile_changed"]


def test_b1_a_sign_up_told_while_our_creation_waits_is_recorded(company):
    company.customer("Zoe", "zoe@late-mail.net")
    company.sync()
    company.sync()
    company.customer("Bob", AMY)
    company.decide(company.scope())
    company.seed(AMY)
    told_of_member(company, "subscribe")
    assert kinds_of_events(company) == ["subscribed"]


def told_of_member(company: Company, what: str) -> None:
    company.told_by_mailchimp(what, email=AMY, id=company.members()[AMY]["contact_id"])
    company.work_off()


def kinds_of_events(company: Company) -> list[str]:
    with company.database.begin() as connection:
        return list(
            connection.execute(text("SELECT kind FROM ml_connector.member_events")).scalars()
        )
