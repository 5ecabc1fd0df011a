"""Guard: a plan above the configured limits waits for approval (A31), and so does a first (A46)."""

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.display import counted
from ml_connector.errors import PlanOutdated
from ml_connector.model import Kind
from ml_connector.scope import Scope
from ml_connector.store import approvals, changes, plans
from ml_connector.store.approvals import Size
from ml_connector.sync import first_run
from ml_connector.sync.forecast import Forecast, forecast

SAMPLES = 5
PREVIEWS = ("preview", "undo_preview")
"""Plans that need no approval, because they are previews."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPlan:
    """A plan that waits for approval.

    ``first``: why it waits whatever its size, in words; ``""`` if it need not. ``limits``: the
    exceeded limits, in words. ``samples``: (kind, reason, customer ids).
    """

    plan_id: int
    forecast: Forecast
    first: str
    limits: tuple[str, ...]
    samples: tuple[tuple[str, str, tuple[str, ...]], ...]

    @property
    def why(self) -> str:
        """Return why the plan waits, in one sentence."""
        return self.limits[0] if self.limits else f"nothing was written yet: {self.first}"


def hold_plan(scope: Scope, *, plan_id: int) -> HeldPlan | None:
    """Hold a first plan, or a plan that exceeds a limit; return None if it may proceed."""
    guard = scope.sync.guard
    with scope.database.begin() as connection:
        if plans.plan_kind(connection, plan_id=plan_id) in PREVIEWS:
            told = forecast(scope, connection, plan_id=plan_id).as_json()
            plans.note_forecast(connection, plan_id=plan_id, forecast=told)
            return None
        size = approvals.size_of(connection, sync=scope.name, plan_id=plan_id)
        limits = []
        if (asked := _too_many_archives(scope, size)) is not None:
            limits.append(asked)
        if size.updates > guard.max_updates:
            limits.append(
                f"{counted(size.updates, 'contact')} would be changed,"
                f" {counted(guard.max_updates, 'is', 'are')} allowed"
            )
        first = first_run.why_ask(scope, connection) if size.changes else None
        state, seen = approvals.approval_of(connection, plan_id=plan_id)
        held = bool(limits) or first is not None
        if not held and state == "open":
            return None
        found_now = approvals.fingerprint(connection, plan_id=plan_id)
        if state == "approved" and seen == found_now:
            return None  # retry after the approval: do not ask twice
        if not held:  # replanned: the earlier approval was for another plan
            approvals.set_state(connection, plan_id=plan_id, state="open")
            return None
        approvals.set_state(connection, plan_id=plan_id, state="waiting", fingerprint=found_now)
        found = approvals.samples(connection, plan_id=plan_id, each=SAMPLES)
        expected = forecast(scope, connection, plan_id=plan_id)
        plans.note_forecast(
            connection, plan_id=plan_id, why=first or limits[0], forecast=expected.as_json()
        )
    samples = tuple((kind, reason, tuple(ids)) for kind, reason, ids in found)
    return HeldPlan(
        plan_id=plan_id,
        forecast=expected,
        first=first or "",
        limits=tuple(limits),
        samples=samples,
    )


def leave_to_daily_run(scope: Scope, *, plan_id: int) -> int:
    """Drop the archives of a plan that need approval in a daily run; return their number.

    This holds however the customers became inactive, and however small the portions in which
    webhooks reported them.
    """
    with scope.database.begin() as connection:
        if approvals.approval_of(connection, plan_id=plan_id)[0] == "approved":
            return 0
        size = approvals.size_of(connection, sync=scope.name, plan_id=plan_id)
        if _too_many_archives(scope, size) is None:
            return 0
        return changes.supersede(connection, sync=scope.name, plan_id=plan_id, kind=Kind.ARCHIVE)


def _too_many_archives(scope: Scope, size: Size) -> str | None:
    guard = scope.sync.guard
    most = max(guard.max_archives, int(guard.max_archive_share * (size.audience + size.already)))
    if not size.archives or size.archives + size.already <= most:
        return None
    told = f", {counted(size.already, 'was', 'were')} archived by webhooks since the last run"
    return (
        f"{counted(size.archives, 'contact')} would be archived{told if size.already else ''},"
        f" {counted(most, 'is', 'are')} allowed"
    )


def plan_state(scope: Scope, *, plan_id: int) -> str:
    """Return the state of a plan: ``open``, ``waiting``, ``approved``, ``rejected`` ..."""
    with scope.database.begin() as connection:
        return approvals.approval_of(connection, plan_id=plan_id)[0]


def is_shown(scope: Scope, *, plan_id: int, fingerprint: str) -> bool:
    """Return whether ``fingerprint`` is that of the question about a plan."""
    with scope.database.begin() as connection:
        return approvals.approval_of(connection, plan_id=plan_id)[1] == fingerprint


def approve(scope: Scope, *, plan_id: int, person: str) -> None:
    """Approve a waiting plan exactly as it was shown, and record the choice in the audit.

    Raises ``PlanOutdated`` if the data changed since. Then nothing of the plan is written, and the
    next run decides again.
    """
    with scope.database.begin() as connection:
        _, seen = approvals.approval_of(connection, plan_id=plan_id)
        moved = seen != approvals.fingerprint(connection, plan_id=plan_id)
        if moved:
            changes.supersede(connection, sync=scope.name, plan_id=plan_id)
        state = "outdated" if moved else "approved"
        if not moved and plans.plan_kind(connection, plan_id=plan_id) == "sync":
            part = plans.is_part(connection, plan_id=plan_id)
            first_run.remember(scope, connection, part=part)
        approvals.set_state(connection, plan_id=plan_id, state=state)
        _audit(scope, connection, plan_id, state, person)
    if moved:
        raise PlanOutdated(
            "the plan is no longer what was approved: customers or contacts changed since it was "
            "shown. Nothing was written; run the sync again for a new plan"
        )


def reject(scope: Scope, *, plan_id: int, person: str) -> int:
    """Drop a waiting plan; return the number of changes. The next run decides on them again.

    Without ``person`` the approval timed out. The audit records it as unanswered, not as a choice.
    """
    outcome = "rejected" if person else "unanswered"
    with scope.database.begin() as connection:
        dropped = changes.supersede(connection, sync=scope.name, plan_id=plan_id)
        approvals.set_state(connection, plan_id=plan_id, state="rejected")
        _audit(scope, connection, plan_id, outcome, person)
    return dropped


def _audit(scope: Scope, connection: Connection, plan_id: int, outcome: str, person: str) -> None:
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
