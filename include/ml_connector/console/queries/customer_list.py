"""Customer list of the console: filters that combine, sorting, keyset paging. Read-only.

A page is found in three steps: the ids of one page and the number of all, both without payloads, then
the rows of the page, decrypted.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, tzinfo
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection, Row, text

from ml_connector.console import words
from ml_connector.model import Customer, Engagement
from ml_connector.store import customers
from ml_connector.store.deciding import FINAL_REFUSALS, UNDONE
from ml_connector.store.engagement import STATE
from ml_connector.vault import Vault

PAGE = 50
"""Customers on a page."""
LONGEST = 200
"""A filter value has at most this many characters."""
_CHUNK = 1000
_AWAY = "('archived', 'forgotten', 'absent', 'moved')"
_LIVE = f"k.status NOT IN {_AWAY}"
EVERYBODY: Mapping[str, str] = {"quickbooks": "all"}
"""The filter that includes every customer."""
_ENGAGEMENT = f"CASE WHEN {_LIVE} THEN {STATE} END"
_SINCE = "coalesce(k.status_since, k.last_changed)"

# A customer's contact is at its address. A contact that another customer owns is that customer's.
# The decision comes first: by it Postgres expects a match, and walks an index for a page.
SOURCE = """ml_connector.customers c LEFT JOIN ml_connector.contacts k
      ON k.sync = c.sync AND k.email_key = c.email_key
     AND (c.decision = 'contact' OR k.owner IS NULL OR k.owner = c.customer_id)"""

_BLOCK = """EXISTS (SELECT 1 FROM ml_connector.activity_blocks b
                    WHERE b.sync = c.sync AND b.customer_id = c.customer_id AND b.state IN {})"""

_HELD = ", ".join(f"'{reason}'" for reason in (*FINAL_REFUSALS, UNDONE))
RETRYABLE_CONTACT = f"""(coalesce(k.refused_reason, '') NOT IN ({_HELD})
    AND (k.refused_reason IS NOT NULL OR coalesce(k.parked_until > now(), false)))"""
"""Its write failed, or waits. Mailchimp does not refuse it permanently, and no undo wrote it."""
# The first condition finds candidates, so that Postgres does not join every customer.
RETRYABLE = f"""(c.customer_id = ANY(ARRAY(
        SELECT own.customer_id FROM ml_connector.contacts k
        JOIN ml_connector.customers own ON own.sync = k.sync AND own.email_key = k.email_key
        WHERE k.sync = :sync AND {RETRYABLE_CONTACT}
        UNION
        SELECT b.customer_id FROM ml_connector.activity_blocks b
        WHERE b.sync = :sync AND b.state IN ('refused', 'parked')))
    AND ({RETRYABLE_CONTACT} OR {_BLOCK.format("('refused', 'parked')")}))"""  # noqa: S608 -- our own words
"""A customer whose contact or activity failed to be written, or waits until a time."""

CHOICES: Mapping[str, Mapping[str, str]] = {
    "status": dict.fromkeys(words.STATUS, "k.status = :status"),
    # Compared as they are stored, so that Postgres knows how many there are.
    "engagement": dict.fromkeys(words.ENGAGEMENT, f"{_LIVE} AND k.engagement = :engagement")
    | {Engagement.NEVER_MAILED.value: f"{_LIVE} AND k.engagement IS NULL"},
    "decision": {
        **dict.fromkeys(("contact", "linked", "skipped"), "c.decision = :decision"),
        "none": "c.decision IS NULL",
    },
    "quickbooks": {
        "active": "c.active AND NOT c.gone",
        "inactive": "NOT c.active AND NOT c.gone",
        "gone": "c.gone",
        "all": "true",
    },
    "audience": {
        "in": _LIVE,
        "out": f"c.decision IS DISTINCT FROM 'linked' AND (k.status IS NULL OR k.status IN {_AWAY})",
    },
    "waiting": {
        "decision": "c.dirty",
        "mailchimp": "k.parked_until IS NOT NULL",
        "quickbooks": _BLOCK.format("('due', 'stale')"),
        "refused": _BLOCK.format("('refused')"),
        "retry": RETRYABLE,
    },
}
"""The values of a filter, each with its condition."""

_UNFIT = """EXISTS (SELECT 1 FROM ml_connector.unfit_values u
                    WHERE u.sync = c.sync AND u.customer_id = c.customer_id
                      AND :unfit IN (u.merge_field, 'any'))"""
_TEXTS = {"reason": "c.reason = :reason", "unfit": _UNFIT}
_TAG = "CAST(:tag AS bytea) = ANY(k.seen_tags)"
DATES = {
    "bounced_since": f"""(k.status = 'cleaned' AND {_SINCE} >= :bounced_since
                          OR k.last_hard_bounce_at >= :bounced_since)""",
    "unsubscribed_since": f"k.status = 'unsubscribed' AND {_SINCE} >= :unsubscribed_since",
    "changed_since": "c.last_updated >= :changed_since",
}
"""Filters by day, in the sync's time zone. ``changed_since``: changed in QuickBooks."""

FILTERS = (*CHOICES, *_TEXTS, "tag", *DATES)
"""Every filter: the name of a parameter. ``tag``: the keyed hash of a tag, in hexadecimal."""

REASONS = (
    "new_customer", "fields_changed", "unchanged", "owner_changed", "adopted", "address_changed",
    "address_returned", "reactivated", "inactive_tagged", "kept_inactive", "shared_address",
    "no_email", "invalid_email", "inactive", "project", "job_excluded", "customer_type_excluded",
    "currency_excluded", "custom_field_excluded", "creation_off", "parked", "signup_throttled",
    "unanswered", "fake_email", "compliance", "forgotten", "archived_by_marketer",
    "address_changed_in_mailchimp", "opted_out_elsewhere", "owned_by_another_sync",
    "left_to_another_sync", "suppressed", "undone",
)  # fmt: skip
"""The reasons of a customer's decision, in the order of the filter."""

_MICROSECONDS = "coalesce((extract(epoch FROM {}) * 1000000)::bigint, 0)"
_PLACED = "coalesce(array_position(CAST(:{0}_order AS text[]), {1}), 99)::bigint"
SORTS = {
    "id": "c.customer_no",
    "changed": _MICROSECONDS.format("c.last_updated"),
    "since": _MICROSECONDS.format(_SINCE),
    "status": _PLACED.format("status", "k.status"),
    "engagement": _PLACED.format("engagement", _ENGAGEMENT),
}
"""What a list is sorted by, as a number; a ``-`` before the name turns the order round."""
_ORDERS = {"status_order": list(words.STATUS), "engagement_order": list(words.ENGAGEMENT)}

_COLUMNS = f"""c.customer_id, c.payload, c.decision, c.reason, c.gone, c.active, c.linked_to,
    c.last_updated, c.email_problem, k.status, {_SINCE} AS since, {_ENGAGEMENT} AS engagement,
    k.last_engaged_at, k.parked_until"""
_TOKEN = re.compile(r"(-?[0-9]{1,19})\.(.{1,100})", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerFilter:
    """A filter of customers: valid values by name. Without any, all that QuickBooks still has."""

    given: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo = UTC

    def query(self, **changed: str) -> str:
        """Return the filter as the query of a URL, with parameters changed; ``""`` leaves one out."""
        return urlencode({k: v for k, v in {**self.given, **changed}.items() if v})


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerEntry:
    """A customer in a list, with its contact as far as there is one."""

    customer_id: str
    customer: Customer
    decision: str | None
    reason: str | None
    gone: bool
    active: bool
    linked_to: str | None
    changed_at: datetime
    problem: str | None
    status: str | None
    since: datetime | None
    engagement: str | None
    engaged_at: datetime | None
    retry_at: datetime | None

    @property
    def email(self) -> str:
        """Return the customer's first address, ``""`` without one."""
        return next(iter(self.customer.addresses), "")

    @property
    def merge_name(self) -> str:
        """Return the person's name if it differs from the customer's, else ``""``."""
        fields = self.customer.merge_fields
        parts = [str(fields.get(tag, "")) for tag in ("FNAME", "LNAME")]
        name = " ".join(part for part in parts if part)
        return "" if name == self.customer.display_name else name


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerPage:
    """A page of the list. ``total``: customers of the filter. ``after``: where the next begins."""

    entries: Sequence[CustomerEntry]
    total: int
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Customers counted, without those gone from QuickBooks; each figure is that of a filter."""

    status: Mapping[str, int]
    engagement: Mapping[str, int]
    decisions: Sequence[tuple[str, str | None, int]]
    live: int


def read_filter(given: Mapping[str, str], *, zone: tzinfo) -> tuple[CustomerFilter, dict[str, str]]:
    """Return a filter from parameters, and what is wrong with those left out, by name."""
    valid: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for name in FILTERS:
        value = given.get(name, "").strip()[:LONGEST]
        if not value:
            continue
        if problem := _problem(name, value):
            wrong[name] = problem
        else:
            valid[name] = value
    return CustomerFilter(given=valid, zone=zone), wrong


def _problem(name: str, value: str) -> str:
    if name in CHOICES and value not in CHOICES[name]:
        return f"one of {', '.join(CHOICES[name])}"
    if name in DATES and _day(value) is None:
        return "a day, as 2026-11-30"
    if name == "tag" and not re.fullmatch("[0-9a-f]{16}", value):
        return "the keyed hash of a tag, as the console's list links it"
    return ""


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def filter_conditions(wanted: CustomerFilter, *, sync: str) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions of a WHERE clause over ``SOURCE``, and their parameters."""
    where, values = ["c.sync = :sync"], {"sync": sync}
    if "quickbooks" not in wanted.given:
        where.append("NOT c.gone")
    for name, value in wanted.given.items():
        condition = {**_TEXTS, **DATES, "tag": _TAG}.get(name) or CHOICES[name][value]
        where.append(f"({condition})")
        if f":{name}" in condition:
            values[name] = _typed(name, value, wanted.zone)
    return where, values


def _typed(name: str, value: str, zone: tzinfo) -> Any:
    if name == "tag":
        return bytes.fromhex(value)
    if name in DATES:
        return datetime.combine(date.fromisoformat(value), time(), zone)
    return value


def page(
    connection: Connection,
    *,
    sync: str,
    wanted: CustomerFilter,
    vault: Vault,
    sort: str = "id",
    after: str = "",
    limit: int = PAGE,
) -> CustomerPage:
    """Return the page that begins after the token ``after``."""
    key = SORTS.get(sort.removeprefix("-"), SORTS["id"])
    compare, order = ("<", "DESC") if sort.startswith("-") else (">", "ASC")
    where, values = filter_conditions(wanted, sync=sync)
    token = _TOKEN.fullmatch(after)
    if token:
        where.append(f"({key}, c.customer_id) {compare} (:place, :after)")
        values |= {"place": _bigint(token[1]), "after": token[2]}
    values |= {name: order for name, order in _ORDERS.items() if f":{name}" in key}
    found = connection.execute(
        text(f"""SELECT c.customer_id, {key} AS place FROM {SOURCE}
                 WHERE {" AND ".join(where)}
                 ORDER BY place {order}, c.customer_id {order} LIMIT :limit"""),  # noqa: S608
        {**values, "limit": limit + 1},
    ).all()
    shown = found[:limit]
    return CustomerPage(
        entries=entries_of(
            connection, sync=sync, ids=[row.customer_id for row in shown], vault=vault
        ),
        total=count(connection, sync=sync, wanted=wanted),
        after=f"{shown[-1].place}.{shown[-1].customer_id}" if len(found) > limit else "",
    )


def _bigint(number: str) -> int:
    return max(-(2**63), min(int(number), 2**63 - 1))


def count(connection: Connection, *, sync: str, wanted: CustomerFilter) -> int:
    """Return how many customers a filter has."""
    where, values = filter_conditions(wanted, sync=sync)
    found = connection.execute(
        text(f"SELECT count(*) FROM {SOURCE} WHERE {' AND '.join(where)}"),  # noqa: S608
        values,
    )
    return int(found.scalar_one())


def entries_of(
    connection: Connection, *, sync: str, ids: Sequence[str], vault: Vault
) -> list[CustomerEntry]:
    """Return customers in the order of their ``ids``."""
    found = select_entries(
        connection, sync=sync, vault=vault, where="c.customer_id = ANY(:ids)", ids=list(ids)
    )
    by_id = {each.customer_id: each for each in found}
    return [by_id[each] for each in ids if each in by_id]


def select_entries(
    connection: Connection,
    *,
    sync: str,
    vault: Vault,
    where: str,
    order: str = "c.customer_id",
    limit: int | None = None,
    **values: Any,
) -> list[CustomerEntry]:
    """Return the customers for which the SQL condition ``where`` holds."""
    rows = connection.execute(
        text(f"""SELECT {_COLUMNS} FROM {SOURCE} WHERE c.sync = :sync AND {where}
                 ORDER BY {order} LIMIT :limit"""),  # noqa: S608 -- our own words
        {"sync": sync, "limit": limit, **values},
    ).all()
    return [_entry(row, sync, vault) for row in rows]


def customers_after(
    connection: Connection,
    *,
    sync: str,
    wanted: CustomerFilter,
    vault: Vault,
    after: str,
    limit: int = _CHUNK,
) -> list[CustomerEntry]:
    """Return up to ``limit`` customers of a filter with an id after ``after``, by their id."""
    where, values = filter_conditions(wanted, sync=sync)
    return select_entries(
        connection,
        vault=vault,
        where=" AND ".join([*where, "c.customer_id > :after"]),
        limit=limit,
        **{**values, "after": after},
    )


def iter_customers(
    begin: Callable[[], AbstractContextManager[Connection]],
    *,
    sync: str,
    wanted: CustomerFilter,
    vault: Vault,
) -> Iterator[CustomerEntry]:
    """Yield every customer of a filter, by id.

    A thousand are in memory at a time, each thousand read in its own transaction.
    """
    after = ""
    while True:
        with begin() as connection:
            found = customers_after(connection, sync=sync, wanted=wanted, vault=vault, after=after)
        yield from found
        if len(found) < _CHUNK:
            return
        after = found[-1].customer_id


def take_census(connection: Connection, *, sync: str) -> Census:
    """Count customers by status and engagement of their contact, and by decision, in one pass."""
    rows = connection.execute(
        text(f"""SELECT c.decision, c.reason, k.status, {_ENGAGEMENT} AS engagement,
                        count(*) AS customers
                 FROM {SOURCE} WHERE c.sync = :sync AND NOT c.gone GROUP BY 1, 2, 3, 4"""),  # noqa: S608
        {"sync": sync},
    ).all()
    live = [(row.engagement, row.customers) for row in rows if row.engagement]
    decided = _summed(((row.decision, row.reason), row.customers) for row in rows if row.decision)
    return Census(
        status=_ordered(((row.status, row.customers) for row in rows if row.status), words.STATUS),
        engagement=_ordered(live, words.ENGAGEMENT),
        decisions=[(*key, n) for key, n in sorted(decided.items(), key=lambda each: -each[1])],
        live=sum(number for _, number in live),
    )


def _summed(numbers: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    total: dict[Any, int] = {}
    for name, number in numbers:
        total[name] = total.get(name, 0) + number
    return total


def _ordered(numbers: Iterable[tuple[str, int]], order: Iterable[str]) -> dict[str, int]:
    """Return sums by name, in the order of the words: that of their meaning."""
    total = _summed(numbers)
    return {name: total[name] for name in [*order, *sorted(total)] if name in total}


def _entry(row: Row[Any], sync: str, vault: Vault) -> CustomerEntry:
    return CustomerEntry(
        customer_id=row.customer_id,
        customer=customers.decrypted(
            row.payload, sync=sync, customer_id=row.customer_id, vault=vault
        ),
        decision=row.decision,
        reason=row.reason,
        gone=row.gone,
        active=row.active,
        linked_to=row.linked_to,
        changed_at=row.last_updated,
        problem=row.email_problem,
        status=row.status,
        since=row.since,
        engagement=row.engagement,
        engaged_at=row.last_engaged_at,
        retry_at=row.parked_until,
    )
