"""Consent, checked step by step against the model of ``consent_model``.

Customers, members, marketers and clocks act in any order and at any boundary inside a run, calls
fail, and workers die. After every step nobody is mailed more than the model allows, every audit row
says what its call met, and in the end both sides agree and nothing is left to write.
"""

import logging
import os
import sys
from collections import Counter
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.integration.consent_acts import ACTS_OF_PEOPLE, ACTS_OF_THE_BOOKKEEPER, EDITS
from tests.integration.consent_boundaries import FAULTS
from tests.integration.consent_rules import ANSWERS, FATES, SPELLINGS, Machine
from tests.integration.consent_watch import Servers

SEQUENCES = int(os.environ.get("CONSENT_SEQUENCES", "100"))
"""Of each batch contract in CI; `make torture` takes more."""
ENOUGH = 200
"""From this many sequences on, whatever never fired fails the check."""

STEPS = 15


def check(fresh_company: Any, mock_apps: Any, contract: str, sequences: int) -> Counter[str]:
    """Play ``sequences`` sequences; return how often everything fired."""
    case = {
        "open_company": staticmethod(fresh_company),
        "servers": Servers(mock_apps["mailchimp"], mock_apps["quickbooks"]),
        "contract": contract,
        "fired": Counter(),
    }
    machine = type("Case", (Machine,), case)
    fired: Counter[str] = machine.fired  # type: ignore[attr-defined]
    try:
        _play(machine, sequences)
    except AssertionError as error:
        error.add_note(f"sequence {fired['failed']} of {sequences} failed")
        raise
    return fired


def _play(machine: Any, sequences: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=sequences,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="CONSENT_RANDOM" not in os.environ,
            phases=[Phase.generate] if "CONSENT_QUICK" in os.environ else list(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )


def missing(fired: Counter[str]) -> list[str]:
    """Return the kinds of acts, faults, runs and deliveries that never fired."""
    wanted = [
        *(f"{kind} (" for kind in (*ACTS_OF_PEOPLE, *ACTS_OF_THE_BOOKKEEPER, *EDITS)),
        *("act: before a call", "act: after a call", "act: commit"),
        *("kill: before a call", "kill: after a call", "kill: commit"),
        *(f"{what}: {system}" for what in FAULTS for system in ("mailchimp", "quickbooks")),
        *("daily run: calm", "full run: calm", "preview: calm", "inbox: calm", "erasure: calm"),
        *(
            "inbox: inside a run",
            "replay of rows: calm",
            "replay of failed rows",
            "erased people looked for",
        ),
        *("plan held", *(f"plan {answer}: calm" for answer in ANSWERS)),
        *(f"webhooks {fate}" for fate in (*FATES, *SPELLINGS)),
        *("the worker's clock is set", "1 s pass", "1500 s pass"),
    ]
    return [name for name in wanted if not any(each.startswith(name) for each in fired)]


@pytest.fixture(autouse=True)
def _silent():
    """Log nothing: a sequence logs thousands of lines."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(wrapper_class=before)


@pytest.mark.parametrize("contract", ["current", "status_required"])
def test_nobody_is_mailed_more_than_the_model_of_consent_allows(fresh_company, mock_apps, contract):
    check(fresh_company, mock_apps, contract, 5)


@pytest.mark.endurance
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("contract", ["current", "status_required"])
def test_nobody_is_mailed_more_than_the_model_allows_in_many_sequences(
    fresh_company, mock_apps, contract, capsys
):
    fired = check(fresh_company, mock_apps, contract, SEQUENCES)
    lines = [f"  {number:7,}  {name}" for name, number in sorted(fired.items())]
    with capsys.disabled():
        sys.stdout.write("\n".join([f"\n{contract}, {SEQUENCES} sequences", *lines, ""]))
    assert SEQUENCES < ENOUGH or missing(fired) == [], "what never fired proves nothing"
