"""The endpoints: what each returns, its parameters, and the form of its rows. Data, and a reader each."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import Row

from ml_connector.console import words
from ml_connector.console.access import Right
from ml_connector.console.customer_rows import iso_time, row_of
from ml_connector.console.pages.audit import trail_filter
from ml_connector.console.pages.plans import KINDS
from ml_connector.console.pages.webhooks import STATES
from ml_connector.console.queries import audit, customer_list, drift, member_events, plans
from ml_connector.console.queries import inbox as inbox_queries
from ml_connector.console.queries.customer_list import read_filter
from ml_connector.console.visit import PageRequest, number
from ml_connector.sync import targets


class WrongParameter(Exception):
    """A parameter cannot be read. The message names it."""


class ResponsePage(NamedTuple):
    """Rows of one response. ``after``: the token of the next ones, ``""`` at the end."""

    rows: Sequence[dict[str, Any]]
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint.

    ``row``: the type of each value, as a JSON type or ``time``; a ``?`` marks values that may be
    null. ``parameters``: those besides ``sync``, ``limit`` and ``after``, each with what it takes:
    a list of values, ``day``, ``text``, or ``tag``, a tag's keyed hash. ``after``: the pattern of
    the token.
    """

    name: str
    summary: str
    row: Mapping[str, str]
    read: Callable[[PageRequest, int], ResponsePage]
    parameters: Mapping[str, Sequence[str] | str]
    after: str = "[0-9]{1,18}"

    def check(self, query: Mapping[str, str]) -> None:
        """Raise ``WrongParameter`` for a value that its parameter does not take; empty ones do."""
        for name, takes in self.parameters.items():
            given = query.get(name, "")
            if given and not isinstance(takes, str) and given not in takes:
                raise WrongParameter(f"{name}: one of {', '.join(takes)}")
            if given and takes == "day" and not _is_day(given):
                raise WrongParameter(f"{name}: a day, as 2026-11-30")
        if (after := query.get("after", "")) and not re.fullmatch(self.after, after, re.DOTALL):
            raise WrongParameter("after: the token of a response")


def _is_day(given: str) -> bool:
    try:
        return bool(date.fromisoformat(given))
    except ValueError:
        return False


def _customers(visit: PageRequest, limit: int) -> ResponsePage:
    wanted, wrong = read_filter(visit.query, zone=visit.zone)
    if wrong:
        raise WrongParameter("; ".join(f"{name}: {problem}" for name, problem in wrong.items()))
    with visit.services.database.begin() as connection:
        found = customer_list.customers_after(
            connection,
            sync=visit.sync.name,
            wanted=wanted,
            vault=visit.services.vault,
            after=visit.query.get("after", ""),
            limit=limit + 1,
        )
    rows = [row_of(each) for each in found[:limit]]
    return ResponsePage(rows, rows[-1]["id"] if len(found) > limit else "")


def _plans(visit: PageRequest, limit: int) -> ResponsePage:
    with visit.services.database.begin() as connection:
        found = plans.page(
            connection,
            sync=visit.sync.name,
            kind=visit.query.get("kind", ""),
            before=number(visit.query.get("after")),
            limit=limit + 1,
        )
    return _newest(found, _PLAN, limit)


def _audit(visit: PageRequest, limit: int) -> ResponsePage:
    with visit.services.database.begin() as connection:
        found = audit.page(
            connection,
            sync=visit.sync.name,
            wanted=trail_filter(visit),
            before=number(visit.query.get("after")),
            limit=limit + 1,
        )
    return _newest(found, _AUDIT, limit)


def _events(visit: PageRequest, limit: int) -> ResponsePage:
    with visit.services.database.begin() as connection:
        found = member_events.page(
            connection,
            sync=visit.sync.name,
            before=number(visit.query.get("after")),
            limit=limit + 1,
        )
    return _newest(found, _EVENT, limit)


def _webhooks(visit: PageRequest, limit: int) -> ResponsePage:
    with visit.services.database.begin() as connection:
        found = inbox_queries.page(
            connection,
            visit.events(Right.READ),
            state=visit.query.get("state", ""),
            before=number(visit.query.get("after")),
            limit=limit + 1,
        )
    return _newest(found, _WEBHOOK, limit)


def _drift(visit: PageRequest, limit: int) -> ResponsePage:
    after = bytes.fromhex(visit.query.get("after", ""))
    with visit.services.database.begin() as connection:
        names = targets.field_names(visit.sync, connection)
        found = drift.page(
            connection,
            sync=visit.sync.name,
            vault=visit.services.vault,
            after=after,
            limit=limit + 1,
        )
    rows = [_differing(visit, each, names) for each in found[:limit]]
    return ResponsePage(rows, found[limit - 1].email_key.hex() if len(found) > limit else "")


def _differing(
    visit: PageRequest, each: drift.DifferingContact, names: Mapping[str, str]
) -> dict[str, Any]:
    customer = each.customer
    return {
        "customer_id": customer.id if customer else None,
        "name": customer.display_name if customer else None,
        "email": next(iter(customer.addresses), None) if customer else None,
        "observed_at": iso_time(each.observed_at),
        "fields": [
            {
                "tag": tag,
                "name": names[tag],
                "in_quickbooks": customer.merge_fields.get(tag) if customer else None,
                "in_mailchimp": each.seen.merge_fields.get(tag),
                "since": since or None,
                "rule": visit.sync.edit_rules[tag] if since else visit.sync.adopt,
            }
            for tag, since in each.differences.items()
            if tag in names
        ],
    }


def _newest(found: Sequence[Row[Any]], row: Mapping[str, str], limit: int) -> ResponsePage:
    rows = [
        {
            name: iso_time(value) if kind.startswith("time") else value
            for name, kind in row.items()
            for value in (getattr(each, name),)
        }
        for each in found[:limit]
    ]
    return ResponsePage(rows, str(rows[-1]["id"]) if len(found) > limit else "")


_CUSTOMER = {
    "id": "string", "name": "string", "email": "string?", "status": "string?",
    "status_since": "time?", "engagement": "string?", "last_engaged_at": "time?",
    "decision": "string?", "reason": "string?", "in_quickbooks": "string", "changed_at": "time",
    "linked_to": "string?", "retry_at": "time?",
}  # fmt: skip
_PLAN = {
    "id": "integer", "run_id": "string", "kind": "string", "state": "string", "error": "string?",
    "created_at": "time", "finished_at": "time?", "changes": "integer", "failed": "integer",
    "pending": "integer",
}  # fmt: skip
_AUDIT = {
    "id": "integer", "at": "time", "system": "string", "action": "string", "reason": "string",
    "outcome": "string", "error": "string?", "customer_id": "string?", "attempts": "integer",
    "request_id": "string?", "cause": "string", "dag_id": "string", "run_id": "string",
    "task_id": "string", "try_number": "integer", "actor": "string",
}  # fmt: skip
_EVENT = {
    "id": "integer", "customer_id": "string?", "kind": "string", "before": "string?",
    "after": "string?", "happened_at": "time", "seen_at": "time", "source": "string",
    "written_to_quickbooks_at": "time?",
}  # fmt: skip
_WEBHOOK = {
    "id": "integer", "system": "string", "kind": "string", "entity_id": "string?",
    "state": "string", "reason": "string?", "attempts": "integer", "next_try_at": "time?",
    "occurred_at": "time?", "received_at": "time", "settled_at": "time?",
}  # fmt: skip
_DRIFT = {
    "customer_id": "string?", "name": "string?", "email": "string?", "observed_at": "time?",
    "fields": "array",
}  # fmt: skip

ENDPOINTS = (
    Endpoint(
        name="customers",
        summary="Customers with their contact, by QuickBooks id. The filters are the console's.",
        row=_CUSTOMER,
        read=_customers,
        after=".+",
        parameters={
            **{name: list(values) for name, values in customer_list.CHOICES.items()},
            "reason": list(customer_list.REASONS),
            "unfit": "text",
            "tag": "tag",
            **dict.fromkeys(customer_list.DATES, "day"),
        },
    ),
    Endpoint(
        name="plans",
        summary="Runs and previews, newest first, with the number of their changes.",
        row=_PLAN,
        read=_plans,
        parameters={"kind": KINDS},
    ),
    Endpoint(
        name="audit",
        summary="The audit trail, newest first, without the states before and after.",
        row=_AUDIT,
        read=_audit,
        parameters={
            **dict.fromkeys(
                ("system", "action", "outcome", "reason", "customer_id", "run_id", "cause"), "text"
            ),
            "since": "day",
            "until": "day",
        },
    ),
    Endpoint(
        name="events",
        summary="Member events, newest first: " + ", ".join(words.EVENT) + ".",
        row=_EVENT,
        read=_events,
        parameters={},
    ),
    Endpoint(
        name="webhooks",
        summary="Webhook events, newest first, without their bodies.",
        row=_WEBHOOK,
        read=_webhooks,
        parameters={"state": STATES},
    ),
    Endpoint(
        name="drift",
        summary="Contacts that showed other values than QuickBooks when the audience was last read.",
        row=_DRIFT,
        read=_drift,
        after="([0-9a-f]{2})+",
        parameters={},
    ),
)
"""Every endpoint, in the order of the description."""
