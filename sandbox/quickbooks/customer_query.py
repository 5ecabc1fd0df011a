"""Queries on customers: filters, order and pages over the stored rows."""

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sandbox.quickbooks import problems
from sandbox.quickbooks.customer_fields import KNOWN
from sandbox.quickbooks.rows import Row, Rows, Span
from sandbox.quickbooks.statement import Condition, Statement
from sandbox.quickbooks.times import from_text

Test = Callable[[Row], bool]
UPDATED = "metadata.lastupdatedtime"

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Property:
    """A property queries may use: how to get it from a row and to read a literal for it."""

    get: Callable[[Row], Any]
    read: Callable[[str], Any]


def _bool(text: str) -> bool:
    if text.casefold() not in {"true", "false"}:
        raise ValueError(text)
    return text.casefold() == "true"


def _from_body(*path: str) -> Callable[[Row], Any]:
    def get(row: Row) -> str:
        value: Any = row.body()
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return str(value or "").casefold()

    return get


def _balance(row: Row) -> float:
    return float(row.body().get("Balance", 0))


_TEXTS = ["Title", "GivenName", "MiddleName", "FamilyName", "Suffix", "CompanyName"]
PROPERTIES: dict[str, Property] = {
    "id": Property(lambda row: row.id, int),
    "active": Property(lambda row: row.active, _bool),
    "displayname": Property(lambda row: row.name.casefold(), str.casefold),
    "fullyqualifiedname": Property(lambda row: row.full_name.casefold(), str.casefold),
    UPDATED: Property(lambda row: row.updated, from_text),
    "metadata.createtime": Property(lambda row: row.created, from_text),
    "balance": Property(_balance, float),
    "primaryemailaddr": Property(_from_body("PrimaryEmailAddr", "Address"), str.casefold),
    **{
        name.casefold(): Property(_from_body(name), str.casefold)
        for name in [*_TEXTS, "PrintOnCheckName"]
    },
}


@dataclass(frozen=True)
class Result:
    """The rows of one page, or for COUNT(*) how many there are."""

    rows: list[Row]
    total: int


def run(rows: Rows, statement: Statement) -> Result:
    """Run a statement on the customers.

    Inactive customers are left out unless the statement filters on Active itself.

    Raises:
        FaultError: 4001, a property that there is not or that is not queryable.
    """
    conditions = list(statement.conditions)
    if all(each.property.casefold() != "active" for each in conditions):
        conditions.append(Condition("Active", "=", ("true",)))
    lowest, highest, others = _split(conditions)
    tests = [_test(condition) for condition in others if not _is_always_true(condition)]
    found = _candidates(rows, statement, lowest, highest, others)
    if statement.count:
        return Result(
            [], len(found) if isinstance(found, Span) and not tests else _count(found, tests)
        )
    skip = statement.start - 1
    if isinstance(found, Span) and not tests:
        return Result(found.page(skip, statement.page), 0)
    return Result(list(islice(_kept(found, tests), skip, skip + statement.page)), 0)


def _count(found: Iterable[Row], tests: list[Test]) -> int:
    return sum(1 for _ in _kept(found, tests))


def _kept(found: Iterable[Row], tests: list[Test]) -> Iterator[Row]:
    kept = iter(found)
    for test in tests:
        kept = filter(test, kept)
    return kept


def _split(conditions: list[Condition]) -> tuple[float | None, float | None, list[Condition]]:
    """Take the inclusive bounds on LastUpdatedTime out of the conditions."""
    lowest: float | None = None
    highest: float | None = None
    others: list[Condition] = []
    for condition in conditions:
        if condition.property.casefold() == UPDATED and condition.operator in {">=", "<="}:
            bound = _literal(PROPERTIES[UPDATED], condition, condition.values[0])
            if condition.operator == ">=":
                lowest = bound if lowest is None else max(lowest, bound)
            else:
                highest = bound if highest is None else min(highest, bound)
        else:
            others.append(condition)
    return lowest, highest, others


def _candidates(
    rows: Rows,
    statement: Statement,
    lowest: float | None,
    highest: float | None,
    others: list[Condition],
) -> Span | Iterator[Row] | list[Row]:
    """Return the rows to test, in the order asked for, reading as few as the filters allow."""
    orderings = statement.orderings
    span = rows.updated_between(
        lowest, highest, descending=bool(orderings) and orderings[0].descending
    )
    by_updated = len(orderings) == 1 and orderings[0].property.casefold() == UPDATED
    ids = _ids(others)
    if ids is not None:
        named = [row for row in map(rows.get, ids) if row is not None]
        wanted = [
            row
            for row in named
            if (lowest is None or row.updated >= lowest)
            and (highest is None or row.updated <= highest)
        ]
        return _sorted(wanted, statement)
    if by_updated or statement.count:
        return span
    if not orderings and 2 * len(span) >= len(rows):
        return (
            row
            for row in rows.in_name_order()
            if (lowest is None or row.updated >= lowest)
            and (highest is None or row.updated <= highest)
        )
    return _sorted(span, statement)


def _sorted(found: Iterable[Row], statement: Statement) -> list[Row]:
    rows = sorted(found, key=lambda row: (row.full_name.casefold(), row.id))
    for ordering in reversed(statement.orderings):
        key = _property(ordering.property).get
        rows.sort(key=key, reverse=ordering.descending)
    return rows


def _ids(conditions: list[Condition]) -> list[int] | None:
    for condition in conditions:
        if condition.property.casefold() == "id" and condition.operator in {"=", "IN"}:
            return sorted({_literal(PROPERTIES["id"], condition, v) for v in condition.values})
    return None


def _is_always_true(condition: Condition) -> bool:
    return (
        condition.property.casefold() == "active"
        and condition.operator == "IN"
        and {value.casefold() for value in condition.values} == {"true", "false"}
    )


def _property(name: str) -> Property:
    found = PROPERTIES.get(name.casefold())
    if found is None:
        if any(known.casefold() == name.split(".", maxsplit=1)[0].casefold() for known in KNOWN):
            raise problems.query_invalid(f"property '{name}' is not queryable")
        raise problems.query_invalid(f"Property {name} not found for Entity Customer")
    return found


def _literal(asked: Property, condition: Condition, text: str) -> Any:
    try:
        return asked.read(text)
    except ValueError as error:
        raise problems.query_invalid(
            f"value {text!r} is not valid for property {condition.property}"
        ) from error


def _test(condition: Condition) -> Test:
    asked = _property(condition.property)
    get = asked.get
    if condition.property.casefold() == "id" and condition.operator not in {"=", "IN"}:
        raise problems.query_invalid(f"operator {condition.operator} is not supported for Id")
    if condition.operator == "LIKE":
        pattern = re.compile(
            ".*".join(map(re.escape, condition.values[0].casefold().split("%"))), re.DOTALL
        )
        return lambda row: pattern.fullmatch(str(get(row))) is not None
    values = [_literal(asked, condition, text) for text in condition.values]
    if condition.operator == "IN":
        return lambda row: get(row) in values
    compare, value = _COMPARE[condition.operator], values[0]
    if condition.property.casefold() == "active" and condition.operator == "=" and value:
        return operator.attrgetter("active")
    return lambda row: compare(get(row), value)
