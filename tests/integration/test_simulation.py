"""Deterministic simulation: seeds choose who goes on at each call and commit, and what goes wrong.

The whole connector runs in one process on a real Postgres and the mock servers. A seed that fails is
shrunk, and the few events that are left are printed with the command that plays them again.
"""

import logging
import os
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from tests.integration.consent_watch import Servers
from tests.integration.simulation_sequence import (
    FAULTS,
    JOBS,
    Event,
    drawn,
    read,
    shrunk,
    written,
)
from tests.integration.simulation_world import Simulation

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "200"))
FIRST = int(os.environ.get("SIMULATION_FROM", "0"))
PARTS = 4
"""Workers of a test run take a part each."""
ENOUGH = 200
"""From this many seeds on, whatever never fired fails the check."""

FILE = "tests/integration/test_simulation.py"

CAUGHT = [
    # Two workers refresh the token, and one is interrupted before its call.
    "0:refresh:1 0:refresh:2 4:switch:0",
    # The write-back reads a customer again that has moved, and a replay creates its new contact.
    (
        "0:books:835 0:books:468 0:person:778 0:receive:133 0:run:357 0:replay:662 1:process:397"
        " 6:switch:37 12:books:621 21:books:597"
    ),
]

Play = Callable[[list[Event]], tuple[Simulation, str]]


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    """Log nothing: a sequence logs thousands of lines."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(wrapper_class=before)


@pytest.fixture
def play(fresh_company, mock_apps) -> Play:
    """Plays a sequence; returns what was played, and what did not hold, if anything."""
    case = {
        "open_company": staticmethod(fresh_company),
        "servers": Servers(mock_apps["mailchimp"], mock_apps["quickbooks"]),
        "fired": Counter(),
    }
    kind = type("Case", (Simulation,), case)

    def played(events: list[Event]) -> tuple[Simulation, str]:
        simulation: Any = kind(events)
        try:
            simulation.play()
        except Exception as error:  # noqa: BLE001 -- whatever went wrong is shrunk
            simulation.trace = "".join(traceback.format_exception(error))
            return simulation, f"{type(error).__name__}: {error}"
        finally:
            simulation.close()
        return simulation, ""

    return played


def check(play: Play, seeds: range) -> Counter[str]:
    """Play the sequences of ``seeds``; a failure is shrunk and told as a story."""
    fired: Counter[str] = Counter()
    for seed in seeds:
        events = drawn(seed)
        simulation, wrong = play(events)
        fired = simulation.fired
        if wrong:
            events = shrunk(events, lambda fewer: bool(play(fewer)[1]))
            simulation, wrong = play(events)
            command = f'SIMULATION="{written(events)}" pytest {FILE} -k again'
            raise AssertionError(
                "\n".join([f"seed {seed}: {wrong}", *simulation.log, simulation.trace, command])
            )
    return fired


@pytest.mark.skipif("SIMULATION" not in os.environ, reason="no sequence to play again")
def test_a_sequence_plays_again(play):
    simulation, wrong = play(read(os.environ["SIMULATION"]))
    assert not wrong, "\n".join([wrong, *simulation.log])


@pytest.mark.parametrize("sequence", CAUGHT)
def test_a_sequence_that_caught_a_planted_bug_ends_as_promised(play, sequence):
    simulation, wrong = play(read(sequence))
    assert not wrong, "\n".join([wrong, *simulation.log])


def test_few_seeds_end_as_promised(play):
    check(play, range(6))


@pytest.mark.endurance(always=True)
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_many_seeds_end_as_promised(play, part):
    seeds = range(FIRST + part, FIRST + SEEDS, PARTS)
    fired = check(play, seeds)
    wanted = {"crash", "a lock is waited for", *JOBS, *(each.replace("_", " ") for each in FAULTS)}
    assert len(seeds) < ENOUGH or wanted <= set(+fired), "what never fired proves nothing"


def test_a_seed_plays_the_same_each_time(play):
    for seed in (6, 7):
        first, again = (_without_ids(play(drawn(seed))[0].log) for _ in range(2))
        assert first == again


def _without_ids(log: list[str]) -> list[str]:
    return [re.sub(r"[0-9a-f]{10,}", "…", line) for line in log]
