"""Where a run can be disturbed, and how: acts, faults and kills at its calls and commits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.integration.consent_watch import Call

numbers = st.integers(0, 999)
skews = st.sampled_from([0, -120, 120, -2700, 2700])

FAULTS: dict[str, dict[str, Any]] = {
    "lost before": {"kind": "drop", "when": "before"},
    "lost after": {"kind": "drop", "when": "after"},
    "429": {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}},
    "500": {"kind": "status", "status": 500},
    "503": {"kind": "html", "status": 503},
}

Act = tuple[str, Callable[[], None]]
"""A kind of act, and how to do it now."""


class Killed(BaseException):
    """The worker dies here: no handler of the product catches this."""


@dataclass(frozen=True)
class Where:
    """A boundary inside a run: the ``nth`` call of a system, or the ``nth`` commit.

    ``writing`` counts calls that write only. ``after``: once the call was applied, before its
    response is heard.
    """

    kind: str
    writing: bool
    after: bool
    nth: int

    def fits(self, call: Call | None, *, after: bool) -> bool:
        if call is None:
            return self.kind == "commit"
        same = self.kind in (call.system, "call") and self.after == after
        return same and (call.writes or not self.writing)


@dataclass(frozen=True)
class Disturbance:
    """What happens at a boundary: ``act`` (by number), ``kill`` or a fault, which may ``last``.

    ``inbox``: all webhooks sent so far arrive and are processed, at the first boundary from there
    on at which the run holds no transaction. One thread plays both, so it cannot wait for a lock.
    """

    where: Where
    what: str
    number: int = 0
    lasts: bool = False


wheres = st.builds(
    Where,
    kind=st.sampled_from(["mailchimp", "mailchimp", "call", "quickbooks", "commit"]),
    writing=st.booleans(),
    after=st.booleans(),
    nth=st.sampled_from([0, 0, 1, 1, 2, 3, 5]),
)
disturbances = st.builds(
    Disturbance,
    where=wheres,
    what=st.sampled_from(["act", "act", "inbox", "kill", *FAULTS]),
    number=numbers,
    lasts=st.booleans(),
)
disturbed = st.lists(disturbances, max_size=2)
