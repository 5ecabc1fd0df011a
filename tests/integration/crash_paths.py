"""Everything that writes, as tasks in order, each from a small company that gives it work."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from sqlalchemy import text

from ml_connector.activity.engagement import fetch_engagement
from ml_connector.activity.queue import queue_activity
from ml_connector.activity.writer import write_activity
from ml_connector.audit import trail
from ml_connector.audit.trail import Selection
from ml_connector.privacy import erasure
from ml_connector.replay import replay
from ml_connector.retention import maintain_audit
from ml_connector.scope import Scope
from ml_connector.store.migrate import upgrade
from ml_connector.sync import guard
from ml_connector.sync.planner import Planned
from ml_connector.sync.undo import find_run, plan_undo
from ml_connector.sync.undo import report as report_undo
from ml_connector.sync.undo_push import write_undo
from tests.integration.audit_journal import Row, assert_audit_matches_journal
from tests.integration.company import Company
from tests.integration.crash_points import Task, Tasks
from tests.integration.receiving import cloud_event, form
from tests.integration.releases import restore
from tests.integration.test_audit_sealed import seal
from tests.integration.test_forget import erase, traces
from tests.integration.test_rotate_keys import NEW, OLD, rotated, vault
from tests.integration.test_undo_killed import assert_every_write_has_a_row
from tests.integration.undoing import last_run, wrong_run


def nothing(_company: Company) -> None:
    """Let nothing happen."""


def told_by_call(company: Company, rows: list[Row], interrupted: bool) -> None:
    """Each write has its row, by the request id."""
    assert_audit_matches_journal(company, interrupted=interrupted, rows=rows)


def told_by_record(company: Company, rows: list[Row], _interrupted: bool) -> None:
    """Each record that was written has a row."""
    assert_every_write_has_a_row(company, rows)


def erased(company: Company, rows: list[Row], _interrupted: bool) -> None:
    """The erasure is proven, and nothing of the person is left."""
    assert "forget" in [row["action"] for row in rows]
    with company.database.begin() as connection:
        assert erasure.unfinished(connection) == []
    who = ("amy@firm-mail.net", "amy2@firm-mail.net")
    assert traces(company, "Too many mails", addresses=who) == []


@dataclass(frozen=True)
class Path:
    """``tasks`` of a company as ``scenario`` left it.

    ``meanwhile``: what happens until a task whose worker died starts again. ``instead``: what
    follows in place of the rest, if nothing starts it again. ``ends``: whether a daily run then has
    nothing to write, or may finish what a death left; "alone" has no daily run. ``proof`` holds the
    audit rows since the scenario against what was done, knowing whether a worker died. ``short``:
    the boundary after which a short test lets it die.
    """

    scenario: Callable[[Company], None]
    tasks: Callable[[Company], Tasks]
    meanwhile: Callable[[Company], None] = nothing
    instead: Callable[[Company], object] | None = None
    ends: Literal["itself", "next day", "alone"] = "itself"
    proof: Callable[[Company, list[Row], bool], None] = told_by_call
    short: str = "commit"


def _in_one_run(company: Company) -> Callable[[], Scope]:
    """Return what opens a scope for each task of one run."""
    company.runs += 1
    return partial(company.scope, f"run-{company.runs}")


# ── the daily run ─────────────────────────────────────────────────────────────────────────────


def a_day(company: Company) -> None:
    """Create, adopt, update, move, archive and restore; opt-outs, one of whom moved; a campaign."""
    company.settings["activity"] = {"write_to": "both"}
    company.seed("adopted@firm-mail.net")
    names = ("Edited", "Moved", "Left", "Back", "Out", "Travels", "Opens")
    ids = {
        name: company.customer(name, f"{name.lower()}@firm-mail.net", Notes=f"{name}'s")
        for name in names
    }
    company.edit(ids["Back"], Active=False)
    company.sync()
    company.edit(ids["Back"], Active=True, DisplayName="Back")
    company.edit(ids["Edited"], FamilyName="Changed")
    company.move(ids["Moved"], "moved2@firm-mail.net")
    company.edit(ids["Left"], Active=False)
    company.person("out@firm-mail.net", "unsubscribe", reason="Too many mails")
    company.person("travels@firm-mail.net", "unsubscribe")
    company.move(ids["Travels"], "travels2@firm-mail.net")
    company.did(company.campaign(recipients=["opens@firm-mail.net"]), "opens@firm-mail.net", "open")
    company.customer("New", "new@firm-mail.net")
    company.customer("Adopted", "adopted@firm-mail.net")
    company.pass_time(hours=13)  # reports are read again
    company.quickbooks_control("POST", "tokens/expire")


def daily_run(company: Company) -> Tasks:
    """The tasks of ``dags/sync_customers.py``."""
    scope = _in_one_run(company)

    def on_plan(step: Callable[[Scope, Planned], Any]) -> Task:
        """A task on the plan of the run, which it finds by the run's id."""

        def task() -> Any:
            opened = scope()
            return step(opened, replace(planned, plan_id=opened.plan_id()))

        return task

    yield lambda: company.fetch(scope())
    planned = yield lambda: company.read_and_plan(scope())
    yield on_plan(lambda opened, plan: guard.hold_plan(opened, plan_id=plan.plan_id))
    yield on_plan(company.push)
    yield on_plan(company.archive)
    yield from write_back(company, scope)
    yield on_plan(
        lambda opened, plan: (
            company.report(opened, plan),
            maintain_audit(company.database, company.vault),
        )
    )


def write_back(company: Company, scope: Callable[[], Scope]) -> Tasks:
    """Its tasks that show on customers what members did."""

    def queued() -> int:
        opened = scope()
        fetch_engagement(opened, company.mailchimp_client(opened.calls))
        return queue_activity(opened)

    def written() -> None:
        opened = scope()
        write_activity(opened, company.quickbooks_client(opened.calls))

    yield queued
    yield written


def an_evening(company: Company) -> None:
    """The audience of a day is written, its activity is not yet."""
    a_day(company)
    scope = company.scope()
    planned = company.decide(scope)
    company.push(scope, planned)
    company.archive(scope, planned)


def activity(company: Company) -> Tasks:
    """Show it."""
    yield from write_back(company, _in_one_run(company))


# ── webhooks ──────────────────────────────────────────────────────────────────────────────────


def an_hour(company: Company) -> None:
    """Events are about to be delivered: an edit, a new customer, one who left, and two opt-outs."""
    company.settings["activity"] = {"write_to": "both"}
    names = ("Edited", "Left", "Out", "Typed")
    ids = {name: company.customer(name, f"{name.lower()}@firm-mail.net") for name in names}
    company.sync()
    company.edit(ids["Edited"], FamilyName="Changed")
    company.edit(ids["Left"], Active=False)
    company.customer("New", "new@firm-mail.net")
    company.person("out@firm-mail.net", "unsubscribe")
    company.person("typed@firm-mail.net", "profile", merge_fields={"FNAME": "Own"})
    company.quickbooks_control("POST", "tokens/expire")


def webhooks(company: Company) -> Tasks:
    """Three deliveries, each brought again if it was not acknowledged, and the worker."""
    found = company.quickbooks_control("GET", "customers")["customers"]
    edits = json.dumps([cloud_event(int(each["Id"]), id=each["Id"]) for each in found]).encode()
    opt_out = form("unsubscribe", email="out@firm-mail.net")
    typed = form("profile", email="typed@firm-mail.net")
    yield lambda: company.deliver_from_quickbooks(edits)
    yield lambda: company.deliver_from_mailchimp(opt_out)
    yield lambda: company.deliver_from_mailchimp(typed)
    yield company.work_off


# ── by hand ───────────────────────────────────────────────────────────────────────────────────


def failures(company: Company) -> None:
    """A parked creation, a write-back that QuickBooks refused, a dead webhook."""
    company.settings["activity"] = {"write_to": "notes"}
    company.customer("Out", "out@firm-mail.net")
    company.sync()
    company.mailchimp_control("PUT", "settings", {"throttled": ["parked@firm-mail.net"]})
    company.customer("Parked", "parked@firm-mail.net")
    company.person("out@firm-mail.net", "unsubscribe")
    fault = {"Error": [{"Message": "no", "Detail": "no", "code": "6000"}], "type": "Fault"}
    answer = {"BatchItemResponse": [{"bId": "0", "Fault": fault}]}
    refused = {"kind": "body", "body": answer}
    company.fault("quickbooks", match={"path": "batch"}, times=1, action=refused)
    company.sync()
    company.clear_faults(company.quickbooks)
    company.mailchimp_control("PUT", "settings", {"throttled": []})
    company.told_by_quickbooks(("updated", "77"))
    for _ in range(5):
        company.make_due()
        company.work_off()
    company.quickbooks_control("POST", "tokens/expire")


def replayed(company: Company) -> Tasks:
    """The tasks of ``dags/replay_audit.py``."""
    with company.database.begin() as connection:
        chosen = trail.select(connection, Selection(failed=True))
    company.runs += 1
    run = f"run-{company.runs}"
    yield lambda: replay(company.open_sync(run), chosen)
    yield lambda: maintain_audit(company.database, company.vault)


def a_wrong_run(company: Company) -> None:
    """A run that created, updated, adopted, archived, restored and moved, by a wrong mapping."""
    ids = {
        name: company.customer(name, f"{name.lower()}@firm-mail.net", FamilyName=f"{name}son")
        for name in ("Stays", "Left", "Back", "Moved")
    }
    company.edit(ids["Back"], Active=False)
    company.sync()
    company.seed("adopted@firm-mail.net", merge_fields={"LNAME": "Typed"})
    company.customer("Adopted", "adopted@firm-mail.net")
    company.customer("New", "new@firm-mail.net")
    company.edit(ids["Left"], Active=False)
    company.edit(ids["Back"], Active=True, DisplayName="Back")
    company.move(ids["Moved"], "moved2@firm-mail.net")
    wrong_run(company)
    company.person("stays@firm-mail.net", "unsubscribe")  # changed since: left as it is


def undone(company: Company) -> Tasks:
    """The tasks of ``dags/undo_run.py``."""
    with company.database.begin() as connection:
        run = find_run(connection, last_run(company))
    scope = _in_one_run(company)

    def planned() -> int:
        opened = scope()
        opened.plan_id("undo")
        return plan_undo(opened, company.mailchimp_client(opened.calls), undone=run)

    def approved() -> None:
        if guard.hold_plan(scope(), plan_id=plan_id) is not None:
            guard.approve(scope(), plan_id=plan_id, person="Ann")

    def written() -> None:
        opened = scope()
        write_undo(opened, company.mailchimp_client(opened.calls), plan_id=plan_id, threads=1)

    plan_id = yield planned
    yield approved
    yield written
    yield lambda: (
        report_undo(scope(), plan_id=plan_id),
        maintain_audit(company.database, company.vault),
    )


def amy(company: Company) -> None:
    """A person with a history, in all that is stored, and others."""
    company.settings["activity"] = {"write_to": "both"}
    amy = company.customer("Amy", "amy@firm-mail.net", Notes="Likes parrots.")
    company.customer("Ben", "ben@firm-mail.net")
    company.sync()
    company.move(amy, "amy2@firm-mail.net")
    company.person("amy@firm-mail.net", "unsubscribe", reason="Too many mails")
    company.told_by_mailchimp("unsubscribe", email="amy@firm-mail.net", id="1")
    company.sync()
    seal(company)
    company.told_by_mailchimp("profile", email="amy2@firm-mail.net", id="2")
    company.quickbooks_control("POST", "tokens/expire")


def forgotten(company: Company, *, delete: bool) -> Tasks:
    """`ml-connector forget`."""
    yield lambda: erase(company, "amy2@firm-mail.net", delete=delete)


def rotation(company: Company) -> Tasks:
    """`ml-connector rotate-keys`, a few rows at a time."""
    company.vault = vault(NEW, OLD)
    yield lambda: rotated(company, NEW, OLD)


def former_release(company: Company) -> None:
    """The database is that of a former release."""
    with company.database.begin() as connection:
        connection.execute(text("DROP SCHEMA ml_connector CASCADE"))
    restore(company.database_url)


def migration(company: Company) -> Tasks:
    """`ml-connector migrate`."""
    yield lambda: upgrade(company.database_url)


PATHS = {
    "daily run, its tasks retried": Path(a_day, daily_run, short="DELETE mailchimp"),
    "daily run, finished by the next": Path(
        a_day, daily_run, instead=Company.sync, short="POST mailchimp"
    ),
    "webhooks": Path(
        an_hour,
        webhooks,
        meanwhile=Company.make_due,
        ends="next day",
        proof=told_by_record,
        short="POST mailchimp",
    ),
    "activity": Path(an_evening, activity, short="POST quickbooks"),
    "replay": Path(failures, replayed, ends="next day", short="POST mailchimp"),
    "undo": Path(a_wrong_run, undone, proof=told_by_record, short="PUT mailchimp"),
    "forget": Path(amy, partial(forgotten, delete=False), proof=erased, short="DELETE mailchimp"),
    "forget and delete": Path(
        amy, partial(forgotten, delete=True), proof=erased, short="POST mailchimp"
    ),
    "rotate-keys": Path(amy, rotation),
    "migrate": Path(former_release, migration, ends="alone"),
}
