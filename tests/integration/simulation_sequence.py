"""What happens in a simulation, as a list of events: drawn from a seed, written down, shrunk.

An event says at which step it happens. A step is a call, before or after it, or a commit, of any
worker. Without events one worker after the other runs to its end, so a short list is a short story.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PEOPLE = ("person", "person", "edit", "books", "books", "books")
JOBS = ("run", "receive", "process", "process", "refresh", "replay", "seal")
FAULTS = ("lost_before", "lost_after", "429", "500", "503")
HAPPENINGS = (
    *("switch",) * 8,
    *("crash",) * 3,
    *PEOPLE,
    *JOBS,
    *("receive", "process"),
    *FAULTS,
    *("expire", "time"),
)


@dataclass(frozen=True)
class Event:
    """``what`` happens at step ``at``, 0 before the first; ``number`` chooses among possibilities."""

    at: int
    what: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.at}:{self.what}:{self.number}"


def written(events: Sequence[Event]) -> str:
    """Return a sequence as text, for a command line."""
    return " ".join(map(str, events))


def read(text: str) -> list[Event]:
    """Return the sequence that ``written`` wrote."""
    parts = (each.split(":") for each in text.split())
    return [Event(int(at), what, int(number)) for at, what, number in parts]


def drawn(seed: int) -> list[Event]:
    """Return the sequence of a seed: who begins, what has happened before, and what comes."""
    rng = random.Random(seed)
    before = [*rng.choices(PEOPLE, k=rng.randint(1, 4)), "receive", "run"]
    before += rng.choices(JOBS, k=rng.randint(1, 3))
    last = rng.choice((30, 60, 120))
    later = rng.choices(HAPPENINGS, k=rng.randint(2, 12))
    events = [Event(0, what, rng.randrange(1000)) for what in ("setup", *before)]
    events += [Event(rng.randint(1, last), what, rng.randrange(1000)) for what in later]
    return sorted(events, key=lambda each: each.at)


def shrunk(events: list[Event], fails: Callable[[list[Event]], bool]) -> list[Event]:
    """Leave out events as long as the rest still ``fails``: halves first, single ones in the end."""
    size = len(events)
    while size := size // 2:
        start = 0
        while start < len(events):
            fewer = events[:start] + events[start + size :]
            if fewer and fails(fewer):
                events = fewer
            else:
                start += size
    return events
