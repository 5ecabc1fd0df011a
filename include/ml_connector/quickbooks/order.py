"""The order of a list of customers by their last update, where single times are wrong (A55e)."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise

from ml_connector.errors import IncompleteRead

MOST_WRONG = 10
"""Of a full page, at most one time in so many may be wrong. More of them are no order."""

MOST_DISTRUSTED = 100
"""Wrong times that one read steps back from. Each costs a call."""


def in_order(times: Sequence[datetime]) -> Sequence[datetime]:
    """Return the times without the fewest that break the order: a longest run that never falls."""
    if all(earlier <= later for earlier, later in pairwise(times)):
        return times
    tails: list[datetime] = []  # the lowest last time of a run of each length
    places: list[int] = []  # where it stands
    before: list[int] = []  # for each time, where the one before it in its run stands
    for place, time in enumerate(times):
        length = bisect_right(tails, time)
        before.append(places[length - 1] if length else -1)
        tails[length:] = [time, *tails[length + 1 :]]
        places[length:] = [place, *places[length + 1 :]]
    run, place = [], places[-1]
    while place >= 0:
        run.append(times[place])
        place = before[place]
    return run[::-1]


def demand_order(rows: int, times: Sequence[datetime]) -> None:
    """Raise ``IncompleteRead`` if a full page of ``rows`` has too few ``times`` that are in order."""
    if not times or rows - len(times) > max(1, rows // MOST_WRONG):
        raise IncompleteRead(
            "QuickBooks: the list is not in the order asked for, so its pages cannot be"
            " joined; nothing was planned"
        )


class WrongTimes:
    """Seconds that no page can start at: the server's list does not have their rows there."""

    def __init__(self) -> None:
        """Start with none."""
        self._wrong: set[datetime] = set()
        self._earlier: list[datetime] = []

    def trusted(self, seconds: Iterable[datetime]) -> list[datetime]:
        """Return the different seconds of a page, in order, without those known to be wrong."""
        listed = sorted(set(seconds))
        found = [each for each in listed if each not in self._wrong] or listed
        self._earlier = found[:-1]
        return found

    def step_back(self, second: datetime | None) -> datetime | None:
        """Distrust a second; return the one before it on the last page, None if there is none."""
        if second is None or not self._earlier:
            return None
        if len(self._wrong) >= MOST_DISTRUSTED:
            demand_order(MOST_WRONG, [])
        self._wrong.add(second)
        return self._earlier.pop()

    def joined(self) -> None:
        """Forget the last page: the next one need not show its rows."""
        self._earlier = []
