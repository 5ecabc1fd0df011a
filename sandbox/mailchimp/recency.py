"""Members in the order of their last change, so that a page of the newest is found at once."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import attrgetter

from sandbox.mailchimp.members import Member
from sandbox.memory import Remembered

_last_changed = attrgetter("last_changed")


class Recency(Remembered):
    """An ordering by `last_changed`; within one second, by the order of the writes.

    As long as the clock runs forward a write only moves the member to the end; after the clock
    was set back, the next reading sorts once.
    """

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._newest = 0
        self._in_order = True
        self._view: list[Member] | None = None

    def touch(self, member: Member) -> None:
        """Move the member to its place after a write."""
        self._members.pop(member.contact_id, None)
        self._members[member.contact_id] = member
        self._in_order = self._in_order and member.last_changed >= self._newest
        self._newest = max(self._newest, member.last_changed)
        self._view = None

    def drop(self, member: Member) -> None:
        """Remove the member."""
        self._members.pop(member.contact_id, None)
        self._view = None

    def between(self, after: int | None, before: int | None) -> Iterable[Member]:
        """Return members changed after and before these seconds, both excluded, the oldest first."""
        if self._view is None:
            if not self._in_order:
                ordered = sorted(self._members.values(), key=_last_changed)
                self._members = {each.contact_id: each for each in ordered}
                self._in_order = True
            self._view = list(self._members.values())
        first = 0 if after is None else bisect_right(self._view, after, key=_last_changed)
        last = None if before is None else bisect_left(self._view, before, key=_last_changed)
        return self._view[first:last]
