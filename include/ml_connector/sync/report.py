"""Run report: counts by kind and reason, calls, contacts by status."""

from dataclasses import dataclass, field
from typing import Any

import structlog

from ml_connector.audit import trail
from ml_connector.scope import Scope
from ml_connector.store import (
    approvals,
    changes,
    contacts,
    deciding,
    member_events,
    plans,
    problems,
    unreadable,
)
from ml_connector.store.database import MANY_ROWS, analyze
from ml_connector.store.unreadable import UnreadableCount
from ml_connector.sync import first_run

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Counts of one run.

    ``changes``: (kind, reason, state, number). ``others``: (decision, reason, number). ``events``:
    member events by kind. ``written_back``: writes to QuickBooks customers by outcome.
    ``unfit``: values that merge fields cannot take. ``unreadable``: records that were skipped.
    """

    plan_id: int
    changes: list[tuple[str, str, str, int]]
    others: list[tuple[str, str, int]]
    contacts: dict[str, int]
    events: dict[str, int] = field(default_factory=dict)
    written_back: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    unfit: list[problems.UnfitCount] = field(default_factory=list)
    unreadable: list[UnreadableCount] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the report as lists and dicts."""
        return {
            "plan_id": self.plan_id,
            "changes": [list(row) for row in self.changes],
            "others": [list(row) for row in self.others],
            "contacts": self.contacts,
            "events": self.events,
            "written_back": self.written_back,
            "calls": self.calls,
            "unfit": [list(row) for row in self.unfit],
            "unreadable": [list(row) for row in self.unreadable],
        }


def make_report(scope: Scope, *, plan_id: int, complete: bool = True) -> Report:
    """Close the plan, log one summary line, and return the report.

    A run that is not ``complete`` counts as failed, whatever it did.
    """
    with scope.database.begin() as connection:
        since = plans.created_at(connection, plan_id=plan_id)
        report = Report(
            plan_id=plan_id,
            changes=changes.counts(connection, plan_id=plan_id),
            others=deciding.count_by_decision(connection, sync=scope.name),
            contacts=contacts.by_status(connection, sync=scope.name),
            events=member_events.counts(connection, sync=scope.name, since=since),
            written_back=trail.counts(connection, run=scope.run, system="quickbooks", since=since),
            calls=plans.calls_of(connection, plan_id=plan_id),
            unfit=problems.unfit_counts(connection, sync=scope.name),
            unreadable=unreadable.counts(connection, sync=scope.name),
        )
        rejected = approvals.approval_of(connection, plan_id=plan_id)[0] == "rejected"
        written = plans.plan_kind(connection, plan_id=plan_id) == "sync" and not rejected
        if written and complete and first_run.why_ask(scope, connection) is None:
            first_run.remember(scope, connection)
        state = "rejected" if rejected else "finished" if complete else "failed"
        plans.finish(connection, plan_id=plan_id, state=state, counts=report.as_json())
    if sum(number for *_, number in report.changes) >= MANY_ROWS:
        with scope.database.begin() as connection:
            analyze(connection, "contacts", "changes", "change_batches")
    log.info("sync_finished", sync=scope.name, **report.as_json())
    return report
