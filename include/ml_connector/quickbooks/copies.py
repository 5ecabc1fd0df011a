"""Records of a response with the same Id: the newest one counts, the rest are ignored (A55d)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ml_connector.model import Unreadable, anonymous, unreadable_record
from ml_connector.quickbooks import protocol

Row = dict[str, Any]
Found = Row | Unreadable

MAX_COPIED = 1_000
"""Ids that a client remembers as named more than once. With more of them a list proves nothing."""

UNORDERED = "QuickBooks lists two customers with its Id, and neither is newer"


def id_of(row: Found) -> str:
    """Return the id that a record is known by."""
    return row.record if isinstance(row, Unreadable) else str(row["Id"])


def updated_at(row: Found) -> datetime | None:
    """Return a record's last update; None if it has none."""
    return row.updated if isinstance(row, Unreadable) else protocol.updated(row)


def newest_only(found: Iterable[Found]) -> list[Found]:
    """Return one record for each Id: the newest, or that they contradict each other."""
    kept: list[Found] = []
    places: dict[str, int] = {}
    for row in found:
        if anonymous(row) or (place := places.setdefault(id_of(row), len(kept))) == len(kept):
            kept.append(row)
        else:
            kept[place] = _newer(kept[place], row)
    return kept


class Copies:
    """Ids that a single response named more than once: evidence that a list is complete.

    A count counts records. ``different``: further records of an id that differ from each other.
    ``equal``: further records that do not. QuickBooks may have them, or may have repeated one row
    in the place of another.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.different: dict[str, int] = {}
        self.equal: dict[str, int] = {}

    def look(self, found: Iterable[Found]) -> None:
        """Learn from a response."""
        listed = list(found)
        if len(listed) == len({id_of(row) for row in listed}):
            return
        by_id: dict[str, list[Found]] = {}
        for row in listed:
            if not anonymous(row):
                by_id.setdefault(id_of(row), []).append(row)
        for id_, rows in by_id.items():
            unlike = [row for place, row in enumerate(rows) if row not in rows[:place]]
            _raise(self.different, id_, len(unlike) - 1)
            _raise(self.equal, id_, len(rows) - len(unlike))


def _raise(known: dict[str, int], id_: str, number: int) -> None:
    if number > known.get(id_, 0) and (id_ in known or len(known) < MAX_COPIED):
        known[id_] = number


def _newer(one: Found, other: Found) -> Found:
    if one == other:
        return one
    if isinstance(one, Unreadable) or isinstance(other, Unreadable):
        return _newer_readable(one, other)
    tokens = (one["SyncToken"], other["SyncToken"])
    if all(token.isdecimal() for token in tokens) and int(tokens[0]) != int(tokens[1]):
        return one if int(tokens[0]) > int(tokens[1]) else other
    times = (protocol.updated(one), protocol.updated(other))
    if times[0] != times[1]:
        return max(one, other, key=protocol.updated)
    return unreadable_record(one, UNORDERED, id_=one["Id"], updated=times[0])


def _newer_readable(one: Found, other: Found) -> Found:
    """Return the newer of two records. An unreadable record must be marked as such."""
    if isinstance(one, Unreadable) and not isinstance(other, Unreadable):
        one, other = other, one
    time, later = updated_at(one), updated_at(other)
    return other if later is not None and (time is None or later > time) else one


def counted_twice(copies: Mapping[str, int], ids: Iterable[str], total: int) -> int:
    """Return how many of the ``copies`` of these ids are in QuickBooks, which counts ``total``."""
    listed = list(ids)
    return max(0, min(total - len(listed), sum(copies[id_] for id_ in listed)))
