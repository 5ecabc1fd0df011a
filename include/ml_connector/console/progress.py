"""Progress of a run under way, in words and numbers. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ml_connector.console.outside import RunUnderWay
from ml_connector.store.plans import PlanProgress

STEPS = {
    "fetch_customers": "Reading customers from QuickBooks",
    "plan": "Reading the audience and deciding",
    "approval": "Comparing the plan with its limits",
    "push": "Writing to Mailchimp",
    "archive": "Archiving orphaned contacts",
    "fetch_activity": "Reading campaign reports",
    "write_activity": "Writing activity to QuickBooks",
    "report": "Summing up",
}
"""The steps of a run by task, in their order."""
PUSH = ("push", "archive")
POLL_SECONDS = 3
"""A page polls this long after the last response."""
WAITING_POLL_SECONDS = 10
"""The same while the run waits for a person."""
STUCK = timedelta(minutes=1)
"""A run that is queued for longer is explained."""
MEASURED = timedelta(seconds=5)
"""The speed of writing is measured for at least this long."""


class Mark(NamedTuple):
    """How many changes were written at a time; a later number gives the speed."""

    at: datetime
    written: int

    def __str__(self) -> str:
        return f"{int(self.at.timestamp())}.{self.written}"


class ProgressLine(NamedTuple):
    """A number that grows. ``total``: where it ends, None if unknown."""

    label: str
    number: int
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """What a page shows of a run. ``ends``: when all is written, at the speed so far.

    ``waits``: for a person. ``mark``: for the next look. ``poll``: seconds until then.
    """

    under_way: RunUnderWay
    plan_id: int | None
    step: str
    hint: str
    error: str
    lines: tuple[ProgressLine, ...]
    waits: bool
    ends: datetime | None
    mark: Mark | None

    @property
    def poll(self) -> int:
        """Return how many seconds a page waits before it asks again."""
        return WAITING_POLL_SECONDS if self.waits else POLL_SECONDS


def progress_of_run(
    under_way: RunUnderWay,
    plan: PlanProgress | None,
    *,
    now: datetime,
    left: int | None = None,
    mark: Mark | None = None,
) -> RunProgress:
    """Return the progress of a run.

    ``plan``: None before its first task. ``left``: records that the current step has yet to look
    at, if it knows. ``mark``: of the page's first look.
    """
    step = next((task for task in STEPS if task in under_way.tasks), "")
    waits = plan is not None and plan.state == "waiting"
    hint = ""
    if under_way.queued and under_way.since and now - under_way.since > STUCK:
        hint = "Airflow has not started it. Check that its scheduler runs and what runs before it."
    writing = plan is not None and step in PUSH
    mark = (mark or Mark(now, plan.settled)) if plan is not None and writing else None
    return RunProgress(
        under_way=under_way,
        plan_id=plan.plan_id if plan else None,
        step="Waits for approval" if waits else _step_label(under_way, step),
        hint=hint,
        error=(plan.error or "") if plan and plan.state == "failed" else "",
        lines=tuple(_lines(plan, step, left, preview=under_way.preview)) if plan else (),
        waits=waits,
        ends=_end(plan, mark, now) if plan and mark else None,
        mark=mark,
    )


def _step_label(under_way: RunUnderWay, step: str) -> str:
    if under_way.queued:
        return "Queued"
    return STEPS.get(step, "Starting the next step")


def _lines(plan: PlanProgress, step: str, left: int | None, *, preview: bool) -> list[ProgressLine]:
    found = [
        ProgressLine(f"{kind.capitalize()} read", *plan.read[kind])
        for kind in ("customers", "members")
        if kind in plan.read
    ]
    if step == "plan" and left:
        found.append(ProgressLine("Customers to decide on", left))
    if plan.changes:
        found.append(ProgressLine("Changes planned", plan.changes))
    if plan.changes and not preview and (step in PUSH or plan.settled):
        found.append(ProgressLine("Changes written", plan.settled, plan.changes))
    if step == "write_activity" and left:
        found.append(ProgressLine("Customers to write in QuickBooks", left))
    return found


def _end(plan: PlanProgress, mark: Mark, now: datetime) -> datetime | None:
    written, took = plan.settled - mark.written, now - mark.at
    if written <= 0 or took < MEASURED:
        return None
    return now + took * ((plan.changes - plan.settled) / written)


def read_mark(text: str, *, now: datetime) -> Mark | None:
    """Return a mark from a URL; None if it is none, or of a time to come."""
    at, _, written = text.partition(".")
    if not (at.isascii() and at.isdecimal() and written.isascii() and written.isdecimal()):
        return None
    if len(at) > 11 or len(written) > 11 or int(at) > now.timestamp():
        return None
    return Mark(datetime.fromtimestamp(int(at), UTC), int(written))
