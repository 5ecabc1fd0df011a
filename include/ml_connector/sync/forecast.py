"""Forecast of a plan: what a run would do to the audience, in counts without personal data.

A person decides on it: in Airflow's question, on the plan's page, at the end of ``make run`` and in
a rehearsal.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection

from ml_connector.display import about_seconds, counted, grouped
from ml_connector.model import Status
from ml_connector.rules.reasons import short_reason
from ml_connector.scope import Scope
from ml_connector.store import approvals, customers, deciding, plans, problems
from ml_connector.store.approvals import Size
from ml_connector.sync.overwrites import OverwriteCount, OverwriteSample, overwrite_counts

ROWS_A_BATCH = 500
SECONDS_A_BATCH = (5, 60)
"""What Mailchimp takes for a batch, fewest and most: it publishes no figure, and ends a call after
120 s (https://mailchimp.com/developer/marketing/docs/fundamentals/)."""
AT_ONCE = 6
"""Batches on their way to Mailchimp at once."""

OPT_OUTS = ("unsubscribed", "cleaned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a plan would do.

    ``creates``: new contacts by the status they would get. ``matched``: members of the audience who
    are customers, by the status they have and keep. ``left_out``: customers without a contact of
    their own by (decision, reason). ``overwrites``: values in the audience that would be replaced.
    ``not_ready``: why the audience cannot take the plan. ``reads``: calls to QuickBooks so
    far, which its plans meter. ``seconds``: about how long Mailchimp takes, fewest and most.
    """

    size: Size
    creates: dict[str, int]
    matched: dict[str, int]
    left_out: list[tuple[str, str, int]]
    unfit: list[problems.UnfitCount]
    customers: int
    reads: int
    overwrites: list[OverwriteCount] = field(default_factory=list)
    not_ready: str = ""

    @property
    def opt_outs(self) -> int:
        """Return how many customers opted out or cannot be reached; they stay unchanged."""
        return sum(self.matched.get(status, 0) for status in OPT_OUTS)

    @property
    def seconds(self) -> tuple[int, int]:
        """Return about how long Mailchimp takes for the writes, fewest and most."""
        batches = -(-(self.size.creates + self.size.updates) // ROWS_A_BATCH)
        rounds = -(-batches // AT_ONCE)
        fewest, most = SECONDS_A_BATCH
        return rounds * fewest, rounds * most

    def as_json(self) -> dict[str, Any]:
        """Return the forecast as lists and dicts."""
        return {**asdict(self), "opt_outs": self.opt_outs, "seconds": list(self.seconds)}

    def sentences(self, samples: Sequence[OverwriteSample] = ()) -> Iterator[str]:
        """Yield the forecast as short sentences, with ``samples`` of what it overwrites."""
        size = self.size
        yield f"{counted(size.creates, 'new contact')}{_by_status(self.creates)}"
        yield f"{counted(size.updates, 'contact')} changed"
        if size.archives:
            yield f"{counted(size.archives, 'contact')} archived"
        if self.matched:
            total = sum(self.matched.values())
            yield f"{counted(total, 'customer')} already in the audience{_by_status(self.matched)}"
        if self.opt_outs:
            yield f"{counted(self.opt_outs, 'opt-out or bounce', 'opt-outs and bounces')} respected"
        for each in self.overwrites:
            yield each.sentence
            yield from (sample.sentence for sample in samples if sample.field == each.field)
        for _, reason, number in self.left_out:
            yield f"{counted(number, 'customer')} without a contact: {short_reason(reason)}"
        for unfit in self.unfit:
            yield unfit.sentence(self.customers)
        if self.not_ready:
            yield self.not_ready
        yield f"{counted(self.reads, 'call')} to QuickBooks for this plan"
        fewest, most = self.seconds
        if most:
            yield f"Mailchimp takes about {about_seconds(fewest)} to {about_seconds(most)}"


def forecast(scope: Scope, connection: Connection, *, plan_id: int) -> Forecast:
    """Return what a plan would do, from counts in the store and the values it would write."""
    kind = plans.plan_kind(connection, plan_id=plan_id)
    told = plans.rehearsed(connection, plan_id=plan_id)
    calls = plans.calls_of(connection, plan_id=plan_id)
    made = sum(number for name, number in calls.items() if name.startswith("quickbooks."))
    made += sum(n for name, n in scope.calls.items() if name.startswith("quickbooks."))
    return Forecast(
        size=approvals.size_of(connection, sync=scope.name, plan_id=plan_id),
        creates=approvals.creates_by_status(connection, plan_id=plan_id),
        matched=approvals.matched_by_status(connection, sync=scope.name),
        left_out=_left_out(scope, connection, told.get("left_out")),
        unfit=problems.unfit_counts(connection, sync=scope.name),
        customers=customers.count_known(connection, sync=scope.name),
        reads=made,
        overwrites=overwrite_counts(scope, connection, plan_id=plan_id)
        if kind in ("sync", "preview")
        else [],
        not_ready=told.get("not_ready", ""),
    )


def _left_out(
    scope: Scope, connection: Connection, previewed: Sequence[tuple[str, str, int]] | None
) -> list[tuple[str, str, int]]:
    """Return the customers without a contact; a preview's decisions are with its plan alone."""
    found = Counter(
        {
            (decision, reason): number
            for decision, reason, number in deciding.count_by_decision(
                connection, sync=scope.name, decided=previewed is not None
            )
        }
    )
    found.update({(decision, reason): n for decision, reason, n in previewed or ()})
    return [(*key, number) for key, number in sorted(found.items())]


def shown(stored: Mapping[str, Any] | None) -> Forecast | None:
    """Return the forecast that a plan was stored with, if it has one."""
    return msgspec.convert(stored, Forecast, strict=False) if stored else None


def _by_status(numbers: dict[str, int]) -> str:
    order = list(Status)
    found = sorted(numbers.items(), key=lambda each: order.index(Status(each[0])))
    told = ", ".join(f"{grouped(number)} {status}" for status, number in found)
    return f" ({told})" if told else ""
