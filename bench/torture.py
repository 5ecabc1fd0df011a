"""``make torture``: every long test of reliability, one after another, and a table of what came out.

    make torture                                   about five hours
    make torture TORTURE_ARGS="tokens soak"        some of them
    make torture TORTURE_ARGS=--table              run nothing, print the table as it is known

A run keeps its figures in bench/torture.json and writes the table of docs/explanation/reliability.md.
Ends with 1 if a promise was broken.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEPT = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "explanation" / "reliability.md"
HEAD = ("name", "what is tried", "last result", "date", "what it does not show")
PASSED = r"(\d+ passed)"
"""What pytest says at the end."""
_PYTEST = ("-m", "pytest", "-q", "--timeout", "1800")
_INTEGRATION = "tests/integration/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One long test. ``figures``: patterns over its output; what their groups find is the figure."""

    tried: str
    command: Sequence[str]
    not_shown: str
    figures: Sequence[str] = (PASSED,)
    environment: Mapping[str, str] = field(default_factory=dict)

    def result(self, output: str) -> str:
        """Return the figures of an output; empty without any."""
        found = [re.findall(each, output, re.MULTILINE) for each in self.figures]
        return "; ".join(each[-1] for each in found if each)


PROOFS: Mapping[str, Proof] = {
    "tokens": Proof(
        tried="20 processes refresh one QuickBooks token 50 times; the refreshing one is killed",
        command=("-m", "bench.tokens"),
        figures=(r"^stampede, (.*)$", r"^(every promise held)$"),
        not_shown="Intuit's own behaviour: the mock server is stricter than its documentation",
    ),
    "receiver": Proof(
        tried="100,000 changed signatures, slow and endless senders, Postgres stopped under load",
        command=(
            *_PYTEST,
            *(
                f"{_INTEGRATION}test_receiver_{name}.py"
                for name in ("mutations", "abuse", "database_away")
            ),
        ),
        environment={"TORTURE": "1"},
        not_shown="a network between sender and receiver",
    ),
    "webhooks": Proof(
        tried="Airflow's API server, triggerer and scheduler killed under webhooks",
        command=("-m", "bench.webhook_faults"),
        figures=(r"^ +(\d+ events in \d+ tries, \d+ kills)$", r"^(every promise held)$"),
        not_shown="several schedulers at once",
    ),
    "consent": Proof(
        tried="1,500 random sequences of people's acts, runs, faults and kills against a model",
        command=(
            *(*_PYTEST, "-n", "2", "-m", "endurance"),
            f"{_INTEGRATION}test_consent_model.py",
        ),
        environment={"CONSENT_SEQUENCES": "750", "CONSENT_RANDOM": "1"},
        not_shown="acts that Mailchimp's documentation does not name",
    ),
    "simulation": Proof(
        tried="20,000 seeds of interleaved workers, people's acts, lost calls and crashes",
        command=(*_PYTEST, "-n", "2", "-m", "endurance", f"{_INTEGRATION}test_simulation.py"),
        environment={"SIMULATION_SEEDS": "20000"},
        not_shown="undo, erasure and waiting plans at the same time as other workers",
    ),
    "loss": Proof(
        tried="a week without webhooks, 10,080 shuffled events, clocks two days off, DST nights",
        command=(
            *_PYTEST,
            f"{_INTEGRATION}test_loss_and_time.py",
            "tests/dags/test_clock_changes.py",
        ),
        not_shown="a scheduler that itself was off during the night",
    ),
    "kills": Proof(
        tried="a sync, an undo, the audit and a token refresh killed with SIGKILL",
        command=(
            *_PYTEST,
            *(
                f"{_INTEGRATION}test_{name}.py"
                for name in ("killed_anywhere", "undo_killed", "audit_killed", "tokens_crash")
            ),
        ),
        not_shown="a machine that loses power: Postgres promises that, with fsync on",
    ),
    "database": Proof(
        tried="a full disk, a black hole, too many connections, transactions that the server ends",
        command=(*_PYTEST, f"{_INTEGRATION}test_database_faults.py"),
        not_shown="packets that are really dropped",
    ),
    "failover": Proof(
        tried="a standby that lacks the last second takes over, after and in the middle of work",
        command=(*_PYTEST, f"{_INTEGRATION}test_failover.py"),
        not_shown="a standby that is hours behind; two primaries at once",
    ),
    "sweep": Proof(
        tried="runs, webhooks, write-back, replay, undo, erasure, keys, migration: killed anywhere",
        command=(*_PYTEST, "-m", "endurance", f"{_INTEGRATION}test_crash_points.py"),
        environment={"TORTURE": "1"},
        not_shown="two workers at once, which `simulation` shows; power cuts",
    ),
    "fuzz": Proof(
        tried="every route of the console, the JSON interface and the receiver asked for anything",
        command=(
            *_PYTEST,
            *(f"{_INTEGRATION}test_fuzz_{name}.py" for name in ("pages", "receiver")),
        ),
        environment={"HYPOTHESIS_PROFILE": "many"},
        not_shown="Airflow's own routes, and what a proxy makes of odd requests",
    ),
    "soak": Proof(
        tried="20 minutes of daily runs, webhooks, write-back, token refreshes and console readers",
        command=("-m", "bench.soak", "--minutes", "20"),
        figures=(r"^(\d+ virtual days.*)$", r"^(all flat)$"),
        not_shown="Airflow's own processes; weeks of real time",
    ),
    "month": Proof(
        tried="30 virtual days with steady change: the last ten runs against the first ten",
        command=("-m", "bench.soak", "--days", "30"),
        figures=(r"^(\d+ virtual days.*)$", r"^(all flat)$"),
        not_shown="a company that grows",
    ),
    "plants": Proof(
        tried="each planted bug, and the tests that are meant to catch it",
        command=("-m", "tests.plants"),
        figures=(r"^(\d+ caught, \d+ survived)$",),
        not_shown="bugs unlike those in the list",
    ),
}


def main() -> int:
    """Run the chosen proofs, keep their figures and print the table."""
    parser = argparse.ArgumentParser(prog="make torture")
    parser.add_argument("names", nargs="*", choices=[[], *PROOFS], metavar=" | ".join(PROOFS))
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    held = True
    if not options.table:
        for name in options.names or PROOFS:
            held &= run(name)
    table = "\n".join(lines())
    before, mark, _ = PAGE.read_text(encoding="utf-8").partition("<!-- make torture -->\n")
    PAGE.write_text(f"{before}{mark}\n{table}\n", encoding="utf-8")
    sys.stdout.write(table + "\n")
    return 0 if held else 1


def run(name: str) -> bool:
    """Run a proof, show its output, and keep its figure; return whether it held."""
    proof, said, begun = PROOFS[name], list[str](), time.monotonic()
    sys.stdout.write(f"== {name}: {proof.tried}\n")
    with subprocess.Popen(
        [sys.executable, *proof.command],
        cwd=ROOT,
        env={**os.environ, **proof.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            sys.stdout.write(line)
            sys.stdout.flush()
    held = process.returncode == 0
    result = proof.result("".join(said)) or f"exit code {process.returncode}"
    minutes = (time.monotonic() - begun) / 60
    kept = known() | {
        name: {
            "result": f"{'' if held else 'FAILED: '}{result}, {minutes:.0f} min",
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
        }
    }
    KEPT.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return held


def known() -> dict[str, dict[str, str]]:
    """Return the kept results and their dates, by name."""
    return dict(json.loads(KEPT.read_text(encoding="utf-8"))) if KEPT.exists() else {}


def lines() -> list[str]:
    """Return the table in Markdown: every proof, whether it ever ran or not."""
    kept = known()
    rows = [
        (
            f"`{name}`",
            proof.tried,
            kept.get(name, {}).get("result", "not run yet"),
            kept.get(name, {}).get("date", ""),
            proof.not_shown,
        )
        for name, proof in PROOFS.items()
    ]
    return [f"| {' | '.join(row)} |" for row in (HEAD, ("---",) * len(HEAD), *rows)]


if __name__ == "__main__":
    sys.exit(main())
