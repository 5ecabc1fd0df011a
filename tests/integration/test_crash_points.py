"""Killed before or after any commit, call or stored token, every path ends as if nothing happened.

Paths are in ``crash_paths``, points of death in ``crash_points``, what is compared in
``crash_state``.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from tests.integration.company import Company
from tests.integration.crash_paths import PATHS, Path
from tests.integration.crash_points import Boundary, Worker, distinct, every_side, perform
from tests.integration.crash_state import difference, state
from tests.integration.in_process import InProcess
from tests.integration.test_audit_sealed import verify

SHARE = 3
"""Every third death by turns of days, so that CI takes a minute. TORTURE=1 takes all."""


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    """Log nothing: a sweep logs thousands of lines."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(wrapper_class=before)


@pytest.fixture
def company_at(company_after, mock_apps):
    """Opens the company of a path, with one thread and no sockets, so that boundaries repeat."""

    @contextmanager
    def opened(path: Path) -> Iterator[Company]:
        with company_after(path.scenario) as company:
            wire = InProcess({getattr(company, name): app for name, app in mock_apps.items()})
            company.sender, company.control = (lambda _system: wire), wire.control
            company.threads = 1
            company.clear_journals()
            yield company
            wire.close()

    return opened


def play(company: Company, path: Path, worker: Worker) -> dict[str, Any]:
    """Play a path and the next daily run, whatever becomes of the worker; return what they leave."""
    before = len(company.audit())

    def again() -> bool:
        path.meanwhile(company)
        if path.instead is not None:
            path.instead(company)
        return path.instead is None

    perform(company, path.tasks(company), worker, again=again)
    written = len(company.writes())
    if path.ends != "alone":
        company.sync()
    if path.ends == "itself" or not worker.dead:
        assert company.writes()[written:] == [], "left to the next daily run"
    path.proof(company, company.audit()[before:], worker.dead)
    assert verify(company).findings == []
    return state(company)


Death = tuple[int, bool]


def sweep(company_at: Any, name: str, choose: Callable[[list[Boundary]], list[Death]]) -> str:
    """Let the worker of a path die at each chosen point; return how many there are."""
    path, alive = PATHS[name], Worker()
    with company_at(path) as company:
        calm = play(company, path, alive)
    deaths = choose(alive.passed)
    assert deaths, "a path without a boundary proves nothing"
    for nth, after in deaths:
        what = alive.passed[nth - 1].what
        at = f"{name}: killed {'after' if after else 'before'} boundary {nth}, {what}"
        with company_at(path) as company:
            worker = Worker(nth, after)
            try:
                found = difference(calm, play(company, path, worker))
            except Exception as error:
                error.add_note(at)
                raise
            assert worker.dead, f"{at}: it was not reached"
            assert not found, f"{at}: {found}"
    every, apart = list(every_side(alive.passed)), list(distinct(alive.passed))
    return (
        f"\n{name}: {len(alive.passed)} boundaries, {len(every)} sides, {len(apart)} states that a "
        f"death can leave, {len(deaths)} tried"
    )


@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_is_killed_midway_ends_as_if_nothing_had_happened(company_at, name):
    def chosen(passed: Sequence[Boundary]) -> list[Death]:
        """The first death there that leaves something."""
        here = (nth for nth, after in distinct(passed) if after)
        return [next((n, True) for n in here if passed[n - 1].what == PATHS[name].short)]

    sweep(company_at, name, chosen)


@pytest.mark.endurance
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_is_killed_anywhere_ends_as_if_nothing_had_happened(company_at, name, capsys):
    def chosen(passed: Sequence[Boundary]) -> list[Death]:
        if os.environ.get("TORTURE"):
            return list(every_side(passed))
        deaths = list(distinct(passed))
        turn = datetime.now(UTC).toordinal() // SHARE  # CI may take the test itself every third day
        return deaths[turn % min(SHARE, len(deaths)) :: SHARE]

    told = sweep(company_at, name, chosen)
    with capsys.disabled():
        sys.stdout.write(told)
