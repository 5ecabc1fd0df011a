"""What a run did, in one summary: counts by kind and reason, calls, contacts by status."""

from dataclasses import dataclass, field
from typing import Any

import structlog

from ml_connector.scope import Scope
from ml_connector.store import changes, contacts, customers, plans

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Counts only. ``changes``: (kind, reason, state, number); ``others``: (decision, reason, number)."""

    plan_id: int
    changes: list[tuple[str, str, str, int]]
    others: list[tuple[str, str, int]]
    contacts: dict[str, int]
    calls: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the report as lists and dicts."""
        return {
            "plan_id": self.plan_id,
            "changes": [list(row) for row in self.changes],
            "others": [list(row) for row in self.others],
            "contacts": self.contacts,
            "calls": self.calls,
        }


def make_report(scope: Scope, *, plan_id: int) -> Report:
    """Close the plan, log one summary line, and return the report."""
    with scope.database.begin() as connection:
        report = Report(
            plan_id=plan_id,
            changes=changes.counts(connection, plan_id=plan_id),
            others=customers.report(connection, sync=scope.name),
            contacts=contacts.by_status(connection, sync=scope.name),
            calls=plans.calls_of(connection, plan_id=plan_id),
        )
        plans.finish(connection, plan_id=plan_id, state="finished", counts=report.as_json())
    log.info("sync_finished", sync=scope.name, **report.as_json())
    return report
