"""Check the customers of a response one by one, so that none of them fails the others (A55)."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Optional, Required, TypedDict

import msgspec

from ml_connector.customer_paths import ATTRIBUTES, CUSTOM_FIELDS, PATHS
from ml_connector.model import Unreadable, unreadable_record
from ml_connector.quickbooks.statements import parse_time

Row = dict[str, Any]

Text = str | int | float | bool | None
Flag = bool | None
Id = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9:._-]{1,64}\Z")] | int
"""Stored in clear, listed and logged: an address in the place of an id is none."""

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Other times are nonsense. These leave room to add to and to subtract from."""


class _Times(TypedDict, total=False):
    CreateTime: Any
    LastUpdatedTime: Required[str]


class _Type(TypedDict, total=False):
    value: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9:._-]*\Z")] | int | None
    name: Text


def _part(name: str, parts: frozenset[str]) -> Any:
    if not parts:
        return Text
    shape = TypedDict(f"_{name}", dict.fromkeys(sorted(parts), Text), total=False)  # type: ignore[misc]
    return Optional[shape]  # noqa: UP045 -- mypy takes the shape for a value


_SHAPES: dict[str, Any] = {name: _part(name, parts) for name, parts in PATHS.items()}
_SHAPES |= {
    "Id": Required[Id],
    "SyncToken": Required[Id],
    "MetaData": Required[_Times],
    "Active": Flag,
    "Job": Flag,
    "IsProject": Flag,
    "CustomerTypeRef": _Type | None,
    "status": Any,
}
_NAMED = {name: _SHAPES[name] for name in sorted(ATTRIBUTES)}
_FIELDS = {CUSTOM_FIELDS: list[Any] | None}
CustomerInFull = TypedDict("CustomerInFull", {**_NAMED, **_FIELDS}, total=False)  # type: ignore[misc]
Customer = TypedDict("Customer", _NAMED, total=False)  # type: ignore[misc]

_MISSING = re.compile(r"missing required field `(\w+)`(?: - at `\$\.?([\w.]*)`)?")
_PLACE = re.compile(r"at `\$\.([\w.]+)`")


def read_customer(row: object, *, in_full: bool = False) -> Row | Unreadable:
    """Return a customer with the attributes that may leave QuickBooks, or why it cannot be used.

    ``in_full``: with its custom fields.
    """
    try:
        found: Row = msgspec.convert(row, CustomerInFull if in_full else Customer)
    except msgspec.ValidationError as error:
        updated = _time_of(row)
        return unreadable_record(row, _reason(str(error)), id_=_id_of(row), updated=updated)
    return found


def checked(row: Row, *, latest: datetime) -> Row | Unreadable:
    """Return a customer of the right form, or that its time of update cannot be true.

    ``latest``: an update later than this lies in the future. It would hide every later change of
    the customer, and of all other customers.
    """
    updated = _time_of(row)
    if updated is None or updated > latest:
        why = "its MetaData.LastUpdatedTime is not a time in the past"
        return unreadable_record(row, why, id_=str(row["Id"]))
    if not isinstance(row["Id"], str) or not isinstance(row["SyncToken"], str):
        return {**row, "Id": str(row["Id"]), "SyncToken": str(row["SyncToken"])}
    return row


def _reason(said: str) -> str:
    """Return what msgspec says in our words. It names attributes of ours and quotes no value."""
    if missing := _MISSING.search(said):
        return f"it has no {'.'.join(filter(None, (missing[2], missing[1])))}"
    place = _PLACE.search(said)
    if place is None:
        return "it is not an object"
    empty = "got `null`" in said
    return f"it has no {place[1]}" if empty else f"its {place[1]} has another form than it should"


def _id_of(row: object) -> str:
    try:
        return str(msgspec.convert(row.get("Id"), Id)) if isinstance(row, dict) else ""
    except msgspec.ValidationError:
        return ""


def _time_of(row: object) -> datetime | None:
    times = row.get("MetaData") if isinstance(row, dict) else None
    said = times.get("LastUpdatedTime") if isinstance(times, dict) else None
    try:
        time = parse_time(said) if isinstance(said, str) else None
    except (ValueError, OverflowError):
        return None
    return time if time is not None and EARLIEST <= time < LATEST else None
