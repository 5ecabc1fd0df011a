"""Change data capture: full objects changed since a time, then the tombstones of merged ones."""

import msgspec

from sandbox.quickbooks import problems
from sandbox.quickbooks.company import Company
from sandbox.quickbooks.times import from_text, to_text

MAX_OBJECTS = 1000
_EMPTY_ENTITIES = frozenset(
    [
        "vendor",
        "employee",
        "attachable",
        "invoice",
        "payment",
        "item",
        "account",
        "bill",
        "estimate",
    ]
)


def answer(company: Company, entities: str | None, changed_since: str | None) -> bytes:
    """Return the ``"CDCResponse":[...]`` member.

    At most 1000 objects and no paging, as documented: who gets 1000 must query instead.

    Raises:
        FaultError: a parameter is missing or unreadable.
    """
    if not entities:
        raise problems.missing("entities")
    if not changed_since:
        raise problems.missing("changedSince")
    try:
        since = from_text(changed_since)
    except ValueError as error:
        raise problems.query_invalid(f"changedSince {changed_since!r} is not a time") from error
    parts = [_entity(company, name.strip(), since) for name in entities.split(",")]
    return b'"CDCResponse":[{"QueryResponse":[' + b",".join(parts) + b"]}]"


def _entity(company: Company, name: str, since: float) -> bytes:
    if name.casefold() in _EMPTY_ENTITIES:
        return b"{}"
    if name.casefold() != "customer":
        raise problems.query_invalid(f"invalid context declaration: {name}")
    objects = [row.raw for row in company.rows.updated_between(since).page(0, MAX_OBJECTS)]
    for tombstone in company.tombstones:
        if tombstone.at >= since and len(objects) < MAX_OBJECTS:
            objects.append(
                msgspec.json.encode(
                    {
                        "domain": "QBO",
                        "status": "Deleted",
                        "Id": str(tombstone.id),
                        "MetaData": {"LastUpdatedTime": to_text(tombstone.at)},
                    }
                )
            )
    if not objects:
        return b"{}"
    tail = b'],"startPosition":1,"maxResults":%d}' % len(objects)
    return b'{"Customer":[' + b",".join(objects) + tail
