"""Customers as stored: encoded once, sent many times, kept in the orders queries ask for.

A row holds its JSON as bytes, so that a page of a thousand is joined rather than built, and a
hundred thousand customers fit in some 150 MB.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from sandbox.memory import Remembered
from sandbox.quickbooks.times import to_text

Json = dict[str, Any]
CUSTOM_FIELDS = "CustomField"


@dataclass(frozen=True, slots=True)
class Row:
    """One customer; ``raw`` is the JSON a query returns, the rest what queries filter and sort by.

    ``custom`` is the JSON of the custom fields, which only come if they are asked for.
    """

    id: int
    sync_token: int
    active: bool
    name: str
    full_name: str
    parent: int | None
    created: int
    updated: int
    raw: bytes
    custom: bytes = b""

    def __setstate__(self, kept: list[Any]) -> None:
        """Fill a row from a state file; a row of an older version has no custom fields."""
        for each, value in zip(fields(self), [*kept, b""], strict=False):
            object.__setattr__(self, each.name, value)

    def shown(self, *, custom_fields: bool) -> bytes:
        """Return the JSON of a response, with the custom fields if they are asked for."""
        if not custom_fields or not self.custom:
            return self.raw
        return b'%s,"%s":%s}' % (self.raw[:-1], CUSTOM_FIELDS.encode(), self.custom)

    def body(self) -> Json:
        """Decode the customer's JSON, custom fields included; the caller may change the result."""
        body: Json = msgspec.json.decode(self.shown(custom_fields=True))
        return body


def encode(body: Json, *, row_id: int, sync_token: int, created: int, updated: int) -> Row:
    """Build a row from a customer's JSON; Id, SyncToken and MetaData are set from the arguments."""
    body["Id"] = str(row_id)
    body["SyncToken"] = str(sync_token)
    body["MetaData"] = {"CreateTime": to_text(created), "LastUpdatedTime": to_text(updated)}
    parent = body.get("ParentRef")
    custom = body.get(CUSTOM_FIELDS)
    without = {name: value for name, value in body.items() if name != CUSTOM_FIELDS}
    return Row(
        id=row_id,
        sync_token=sync_token,
        active=body["Active"],
        name=body["DisplayName"],
        full_name=body["FullyQualifiedName"],
        parent=int(parent["value"]) if parent else None,
        created=created,
        updated=updated,
        raw=msgspec.json.encode(without),
        custom=msgspec.json.encode(custom) if custom else b"",
    )


class Rows(Remembered):
    """All customers by id, by LastUpdatedTime and by FullyQualifiedName."""

    def __init__(self) -> None:
        self._by_id: dict[int, Row] = {}
        self._by_updated: list[tuple[int, int]] = []
        self._by_name: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, row_id: int) -> bool:
        return row_id in self._by_id

    def get(self, row_id: int) -> Row | None:
        """Return a row, or None."""
        return self._by_id.get(row_id)

    def load(self, rows: Iterable[Row]) -> None:
        """Put many rows at once, replacing those with the same ids."""
        for row in rows:
            self._by_id[row.id] = row
        self._by_updated = sorted((row.updated, row.id) for row in self._by_id.values())
        self._by_name = sorted(_name_key(row) for row in self._by_id.values())

    def put(self, row: Row) -> None:
        """Insert or replace one row."""
        self.discard(row.id)
        self._by_id[row.id] = row
        insort(self._by_updated, (row.updated, row.id))
        insort(self._by_name, _name_key(row))

    def discard(self, row_id: int) -> Row | None:
        """Remove a row and return it, if it was there."""
        row = self._by_id.pop(row_id, None)
        if row is not None:
            del self._by_updated[bisect_left(self._by_updated, (row.updated, row.id))]
            del self._by_name[bisect_left(self._by_name, _name_key(row))]
        return row

    def in_name_order(self) -> Iterator[Row]:
        """Yield rows by FullyQualifiedName, the order a query without ORDERBY has."""
        return (self._by_id[row_id] for _, row_id in self._by_name)

    def updated_between(
        self, lowest: float | None = None, highest: float | None = None, *, descending: bool = False
    ) -> "Span":
        """Return the rows with ``lowest <= LastUpdatedTime <= highest``, oldest first."""
        keys = self._by_updated
        start = 0 if lowest is None else bisect_left(keys, (lowest,))
        stop = len(keys) if highest is None else bisect_right(keys, (highest, float("inf")))
        return Span(self._by_id, keys, start, max(start, stop), descending=descending)


class Span:
    """A stretch of the LastUpdatedTime order: knows its length, pages without walking."""

    def __init__(
        self,
        rows: dict[int, Row],
        keys: list[tuple[int, int]],
        start: int,
        stop: int,
        *,
        descending: bool,
    ) -> None:
        self._rows = rows
        self._keys = keys
        self._start = start
        self._stop = stop
        self._descending = descending

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[Row]:
        return iter(self.page(0, len(self)))

    def page(self, skip: int, take: int) -> list[Row]:
        """Return up to ``take`` rows after the first ``skip``."""
        if self._descending:
            stop = max(self._start, self._stop - skip)
            keys = self._keys[max(self._start, stop - take) : stop][::-1]
        else:
            start = self._start + skip
            keys = self._keys[start : min(self._stop, start + take)]
        return [self._rows[row_id] for _, row_id in keys]


def _name_key(row: Row) -> tuple[str, int]:
    return (row.full_name.casefold(), row.id)
