"""Plans larger than the settings allow wait for a person (A31)."""

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.errors import PlanOutdated
from ml_connector.model import Kind
from ml_connector.scope import Scope
from ml_connector.store import approvals, changes
from ml_connector.store.approvals import Size

SAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPlan:
    """Why a plan waits. ``limits``: what is exceeded, in words; ``samples``: kind, reason, ids."""

    plan_id: int
    size: Size
    limits: tuple[str, ...]
    samples: tuple[tuple[str, str, tuple[str, ...]], ...]


def hold_plan(scope: Scope, *, plan_id: int) -> HeldPlan | None:
    """Return why the plan has to wait, and have it wait; None if it may go on."""
    guard = scope.sync.guard
    with scope.database.begin() as connection:
        size = approvals.size_of(connection, sync=scope.name, plan_id=plan_id)
        limits = []
        if (asked := _too_many_archives(scope, size)) is not None:
            limits.append(asked)
        if size.updates > guard.max_updates:
            limits.append(
                f"{size.updates} contacts would be changed, {guard.max_updates} are allowed"
            )
        state, seen = approvals.shown(connection, plan_id=plan_id)
        if not limits:
            if state != "open":  # planned anew: an earlier answer was about another plan
                approvals.set_state(connection, plan_id=plan_id, state="open")
            return None
        found_now = approvals.fingerprint(connection, plan_id=plan_id)
        if state == "approved" and seen == found_now:
            return None  # a try that ended after the answer: a person is not asked twice
        approvals.set_state(connection, plan_id=plan_id, state="waiting", fingerprint=found_now)
        found = approvals.samples(connection, plan_id=plan_id, each=SAMPLES)
    samples = tuple((kind, reason, tuple(ids)) for kind, reason, ids in found)
    return HeldPlan(plan_id=plan_id, size=size, limits=tuple(limits), samples=samples)


def leave_to_daily_run(scope: Scope, *, plan_id: int) -> int:
    """Drop the archives of a plan that a daily run has to ask about; return how many.

    However a mass of customers was made inactive, and in however small portions we were told.
    """
    with scope.database.begin() as connection:
        if approvals.shown(connection, plan_id=plan_id)[0] == "approved":
            return 0
        size = approvals.size_of(connection, sync=scope.name, plan_id=plan_id)
        if _too_many_archives(scope, size) is None:
            return 0
        return changes.drop(connection, sync=scope.name, plan_id=plan_id, kind=Kind.ARCHIVE)


def _too_many_archives(scope: Scope, size: Size) -> str | None:
    guard = scope.sync.guard
    most = max(guard.max_archives, int(guard.max_archive_share * (size.audience + size.already)))
    if not size.archives or size.archives + size.already <= most:
        return None
    told = f", {size.already} were archived by webhooks since the last run" if size.already else ""
    return f"{size.archives} contacts would be archived{told}, {most} are allowed"


def state_of(scope: Scope, *, plan_id: int) -> str:
    """Return where a plan stands: ``open``, ``waiting``, ``approved``, ``rejected`` ..."""
    with scope.database.begin() as connection:
        return approvals.shown(connection, plan_id=plan_id)[0]


def approve(scope: Scope, *, plan_id: int, person: str) -> None:
    """Let a waiting plan go on, exactly as it was shown; the choice is in the audit.

    Raises ``PlanOutdated`` if facts moved since: then nothing of it is written, and the next run
    decides anew.
    """
    with scope.database.begin() as connection:
        _, seen = approvals.shown(connection, plan_id=plan_id)
        moved = seen != approvals.fingerprint(connection, plan_id=plan_id)
        if moved:
            changes.drop(connection, sync=scope.name, plan_id=plan_id)
        state = "outdated" if moved else "approved"
        approvals.set_state(connection, plan_id=plan_id, state=state)
        _tell(scope, connection, plan_id, state, person)
    if moved:
        raise PlanOutdated(
            "the plan is no longer what was approved: customers or contacts changed since it was "
            "shown. Nothing was written; run the sync again for a new plan"
        )


def reject(scope: Scope, *, plan_id: int, person: str) -> int:
    """Drop a waiting plan; return how many changes. The next run decides on them again.

    Without a person nobody answered in time, and the audit says so: it is no choice of anybody.
    """
    outcome = "rejected" if person else "unanswered"
    with scope.database.begin() as connection:
        dropped = changes.drop(connection, sync=scope.name, plan_id=plan_id)
        approvals.set_state(connection, plan_id=plan_id, state="rejected")
        _tell(scope, connection, plan_id, outcome, person)
    return dropped


def _tell(scope: Scope, connection: Connection, plan_id: int, outcome: str, person: str) -> None:
    entry = Entry(
        sync=scope.name,
        system="connector",
        action="large_plan",
        reason="guard",
        outcome=outcome,
        cause=f"plan:{plan_id}",
        attempts=0,
    )
    run = replace(scope.run, actor=person)
    trail.append(connection, [entry], run=run, vault=scope.vault)
