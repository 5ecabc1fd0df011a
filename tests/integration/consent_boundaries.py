"""Where a run can be disturbed, and how: acts, faults and kills at its calls and commits."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.integration.consent_watch import Call

SEEDS = 2**32
numbers = st.integers(0, SEEDS - 1)
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


# Hypothesis draws some values far more often than others, so that in a hundred sequences many kinds
# of disturbance never come. A seed spreads them; 0 is the plainest.


def _where(seed: int) -> Where:
    chance = Random(seed)
    return Where(
        kind=chance.choice(
            ["mailchimp", "mailchimp", "quickbooks", "quickbooks", "call", "commit"]
        ),
        writing=chance.random() < 0.4,
        after=chance.random() < 0.5,
        nth=chance.choice([0, 0, 0, 1, 1, 2, 3, 5]),
    )


def _disturbed(seed: int) -> list[Disturbance]:
    chance = Random(seed)
    return [
        Disturbance(
            where=_where(chance.randrange(SEEDS)),
            what=chance.choice(["act", "act", "act", "inbox", "kill", *FAULTS]),
            number=chance.randrange(SEEDS),
            lasts=chance.random() < 0.4,
        )
        for _ in range(chance.choice([1, 1, 2]) if seed else 0)
    ]


wheres = numbers.map(_where)
disturbed = st.one_of(st.just([]), numbers.map(_disturbed), numbers.map(_disturbed))
