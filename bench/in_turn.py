"""Our first load and what a user would run instead, in turn.

The same program takes up to a third longer from one minute to the next on a machine that is shared.
In turn both meet the same minutes, and the middle one of several ratios counts.
"""

import argparse
import statistics
from collections.abc import Iterator
from contextlib import closing

from bench import side_by_side
from bench.daily import nothing_loaded, sync_once
from bench.table import Row
from local.postgres import temporary

LATENCY = 100
LEAST = 6
"""Times as fast, to reach."""


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Take turns with the piped pair; ``--turns`` of them."""
    if options.alone or not options.peers:
        return
    ours: list[float] = []
    theirs: list[float] = []
    with temporary() as postgres:
        for _ in range(options.turns):
            with nothing_loaded(postgres, options.peers, LATENCY) as (url, sandbox):
                ours.append(sync_once(url, sandbox, "first", hours=0)["seconds"])
            with closing(side_by_side.measure(options.peers, LATENCY)) as peers:
                theirs.append(next(peers).figures["seconds"])
    ratios = [pair / own for own, pair in zip(ours, theirs, strict=True)]
    middle = statistics.median(ratios)
    yield Row(
        work=f"first load and the piped pair in turn, {options.peers:,} customers",
        latency=LATENCY,
        measured=f"{_listed(ours)} s and {_listed(theirs)} s: {_listed(ratios)} times as fast",
        to_reach=f"{LEAST} times as fast",
        reached=middle >= LEAST,
        ratio=middle,
    )


def _listed(numbers: list[float]) -> str:
    return ", ".join(f"{number:.1f}" for number in numbers)
