"""The audit rows of decisions that write nothing: who is no contact, and which contact stays."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ml_connector.audit.trail import Entry
from ml_connector.rules.decide import Decisions
from ml_connector.scope import Scope

_REFUSALS = (
    "address_changed_in_mailchimp",
    "archived_by_marketer",
    "forgotten",
    "opted_out_elsewhere",
    "owned_by_another_sync",
    "suppressed",
)


def entries_of(
    scope: Scope, people: pd.DataFrame, decisions: Decisions, plan_id: int
) -> Iterator[Entry]:
    """Yield the entries of ``decisions`` on ``people``, as the plan ``plan_id`` holds them."""
    yield from _verdicts(scope, people, decisions, plan_id)
    yield from _left(scope, decisions, plan_id)


def _verdicts(
    scope: Scope, people: pd.DataFrame, decisions: Decisions, plan_id: int
) -> Iterator[Entry]:
    """One entry for every customer that is newly skipped or linked, or for another reason."""
    told = ["decision", "reason", "linked_to"]
    others = decisions.customers[decisions.customers.decision != "contact"]
    columns = people[["customer_id", "email_key", *told]]
    past = columns[columns.customer_id.isin(others.customer_id)].itertuples(index=False, name=None)
    known = {customer_id: (key, values) for customer_id, key, *values in past}
    for row in others.itertuples(index=False):
        key, values = known[row.customer_id]
        after = {name: _plain(getattr(row, name)) for name in told}
        before = {name: _plain(value) for name, value in zip(told, values, strict=True)}
        if after == before:
            continue
        yield Entry(
            sync=scope.name,
            action="link" if row.decision == "linked" else "skip",
            reason=str(row.reason),
            outcome="refused" if row.reason in _REFUSALS else str(row.decision),
            cause=f"plan:{plan_id}",
            origin=scope.origins.get(str(row.customer_id)),
            customer_id=str(row.customer_id),
            email_key=bytes.fromhex(key) if isinstance(key, str) else None,
            attempts=0,
            before=before,
            after=after,
        )


def _left(scope: Scope, decisions: Decisions, plan_id: int) -> Iterator[Entry]:
    """One entry for every contact that stays though no customer is left (A16b, A39)."""
    for row in decisions.left.itertuples(index=False):
        yield Entry(
            sync=scope.name,
            action="archive",
            reason=str(row.why),
            outcome="refused",
            cause=f"plan:{plan_id}",
            customer_id=_plain(row.owner),
            email_key=bytes.fromhex(row.email_key),
            attempts=0,
        )


def _plain(value: Any) -> Any:
    return None if value is None or value != value else value  # noqa: PLR0124 -- NaN is not itself
