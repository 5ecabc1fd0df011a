"""QuickBooks query statements for customers.

Grammar:
https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api/data-queries
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from ml_connector.wire.formats import format_time

MAX_RESULTS = 1000
"""Rows per page at most. Without MAXRESULTS a page has 100."""

ANY_ACTIVE_STATE = "Active IN (true, false)"
"""Without this condition a query lists only active customers."""

_UPDATED = "MetaData.LastUpdatedTime"


def literal(text: str) -> str:
    r"""Quote ``text`` for a statement: ``'`` and ``\`` are escaped with a backslash."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def parse_time(text: str) -> datetime:
    """Return QuickBooks' time (any offset, ``Z``, with or without milliseconds) as aware UTC.

    Raises ``ValueError`` if the time has no offset.
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a QuickBooks time without an offset is ambiguous")
    return time.astimezone(UTC)


def changed_statement(
    since: datetime | None,
    until: datetime | None,
    start_position: int = 1,
    max_results: int = MAX_RESULTS,
    *,
    before: datetime | None = None,
) -> str:
    """Select customers updated from ``since`` to ``until`` (both included), oldest update first.

    None means without a bound. ``before`` is a further, exclusive upper bound.
    """
    return _select(
        ["*"],
        _window(since, until, before),
        f"ORDERBY {_UPDATED} STARTPOSITION {start_position} MAXRESULTS {max_results}",
    )


def count_statement(
    since: datetime | None = None, until: datetime | None = None, before: datetime | None = None
) -> str:
    """Count customers, inactive ones included."""
    return _select(["COUNT(*)"], _window(since, until, before))


def ids_statement(ids: Iterable[str], max_results: int = MAX_RESULTS) -> str:
    """Select customers by id, inactive ones included; the response omits unknown ids."""
    return _select(
        ["*"],
        f"Id IN ({_listed(ids)}) AND {ANY_ACTIVE_STATE}",
        f"STARTPOSITION 1 MAXRESULTS {max_results}",
    )


def count_ids_statement(ids: Iterable[str]) -> str:
    """Count the customers that have these ids, inactive ones included."""
    return _select(["COUNT(*)"], f"Id IN ({_listed(ids)}) AND {ANY_ACTIVE_STATE}")


def attachables_statement(customer_id: str) -> str:
    """Select all attachments of a customer.

    Reported to work: https://github.com/intuit/QuickBooks-V3-PHP-SDK/issues/477
    """
    target = "AttachableRef.EntityRef"
    where = f"{target}.Type = 'customer' AND {target}.value = {literal(customer_id)}"
    page = f"STARTPOSITION 1 MAXRESULTS {MAX_RESULTS}"
    return _select(["*"], where, page, entity="Attachable")


def customer_types_statement() -> str:
    """Select the customer types with their names.

    https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/customertype
    """
    page = f"STARTPOSITION 1 MAXRESULTS {MAX_RESULTS}"
    return _select(["*"], "", page, entity="CustomerType")


def _select(columns: Sequence[str], where: str, page: str = "", *, entity: str = "Customer") -> str:
    # The grammar has no parameters. Every value in a condition went through ``literal``.
    condition = f"WHERE {where}" if where else ""
    parts = ["SELECT", ", ".join(columns), "FROM", entity, condition, page]
    return " ".join(part for part in parts if part)


def _listed(ids: Iterable[str]) -> str:
    return ", ".join(literal(id_) for id_ in ids)


def _window(since: datetime | None, until: datetime | None, before: datetime | None) -> str:
    bounds = [
        f"{_UPDATED} {operator} {literal(format_time(bound))}"
        for operator, bound in ((">=", since), ("<=", until), ("<", before))
        if bound is not None
    ]
    return " AND ".join([*bounds, ANY_ACTIVE_STATE])
