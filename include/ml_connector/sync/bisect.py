"""Bisect a batch that Mailchimp refuses as a whole, unless it refuses every row for one reason.

Bisecting finds k bad rows among n with at most ``2 * k * (log2(n) + 1)`` calls (A26). If every row
is bad these are twice as many calls as rows, and no row is to blame. Therefore some rows are sent
alone first (A56).
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ml_connector.store.claims import ClaimedChange
from ml_connector.sync.calls import ALL_ALIKE, EveryOneRefused, SplitBatch

PROBES = 12
"""Rows of a refused batch that are sent alone at most, before it counts as refused for one reason.
They are chosen at random: if only most rows are bad, the next run gets through."""


class Alone(NamedTuple):
    """What came of a row alone: whether it was sent (another thread may have it), how refused."""

    sent: bool
    refused: SplitBatch | None = None


def halves(claimed: Sequence[ClaimedChange]) -> tuple[Sequence[ClaimedChange], ...]:
    """Return both halves of a refused batch."""
    middle = len(claimed) // 2
    return claimed[:middle], claimed[middle:]


def one_reason(
    claimed: Sequence[ClaimedChange], send_alone: Callable[[ClaimedChange], Alone]
) -> EveryOneRefused | None:
    """Return why Mailchimp refuses every row of a batch; None if it takes one, or has two reasons."""
    if len(claimed) < ALL_ALIKE:
        return None
    found = []
    for change in random.sample(claimed, min(len(claimed), PROBES)):
        sent, refused = send_alone(change)
        if refused is not None:
            found.append(refused)
        if (sent and refused is None) or len({each.message for each in found}) > 1:
            return None
    if len(found) < ALL_ALIKE:
        return None
    return EveryOneRefused(found[0].message, code=found[0].code)
