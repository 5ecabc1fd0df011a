"""``make companies``: many companies at two o'clock, on Celery.

    python -m bench.many_companies --companies 200 --customers 2000

First loads of all companies are due at the same time, on the services of docker-compose.yaml; one
company is huge, some have an audience that is slow to respond, and all mock servers refuse what
is beyond the vendor's limits. Ends with 1 if a limit was crossed, a run failed or a contact is
missing.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from bench.company_mocks import Company
from bench.company_stack import Companies, running
from tests.e2e.compose import missing_programs
from tests.e2e.distributed import wait_for

LIMITS = {
    ("quickbooks", "at_once"): 10,
    ("quickbooks", "a_second"): 10,
    ("quickbooks", "a_minute"): 500,
    ("quickbooks", "batches_a_minute"): 40,
    ("mailchimp", "at_once"): 10,
}
UNPAUSE = "UPDATE dag SET is_paused = false WHERE dag_id LIKE 'sync_customers__%'"
PARSED = "SELECT count(*) FROM dag WHERE dag_id LIKE 'sync_customers__%'"
STATES = "SELECT state, count(*) FROM dag_run GROUP BY state"
RUNS = """
    SELECT substr(r.dag_id, 17), r.state,
           extract(epoch FROM min(t.start_date) - %(begun)s)::float8,
           extract(epoch FROM r.end_date - %(begun)s)::float8,
           extract(epoch FROM max(t.start_date - t.scheduled_dttm))::float8,
           extract(epoch FROM sum(t.end_date - t.start_date))::float8
    FROM dag_run r JOIN task_instance t USING (dag_id, run_id)
    GROUP BY r.dag_id, r.state, r.end_date
"""


@dataclass(frozen=True)
class Run:
    """One company's run; seconds from the moment all were due."""

    company: str
    state: str
    began: float
    ended: float
    longest_wait: float
    """Of one of its tasks, from ready to started."""
    worked: float


def main() -> int:
    """Run them all; print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.many_companies")
    parser.add_argument("--companies", type=int, default=20)
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument(
        "--huge", type=int, default=20_000, help="customers of one company; 0: none"
    )
    parser.add_argument(
        "--busy", type=int, default=1_250, help="unsubscribed people of one company"
    )
    parser.add_argument("--slow", type=int, default=1, help="companies whose audience is slow")
    parser.add_argument("--slow-ms", type=float, default=10_000, help="a response of those takes")
    parser.add_argument("--concurrency", type=int, default=4, help="tasks of each of two workers")
    parser.add_argument("--shared-pools", action="store_true", help="two slots for all together")
    parser.add_argument("--minutes", type=float, default=35, help="the longest to wait")
    options = parser.parse_args()
    if missing := missing_programs():
        _say(f"not installed: {', '.join(missing)} (Debian has both)")
        return 1
    companies = dict(_companies(options))
    everybody = [company for each in companies.values() for company in each]
    everybody.sort(key=lambda company: company.name)
    with running(
        everybody, concurrency=options.concurrency, own_pools=not options.shared_pools
    ) as machines:
        runs, cpu = _run(machines, len(everybody), options.minutes * 60)
        figures = machines.figures()
        decided = _decided(machines)
    _tell(companies, runs, cpu)
    return int(not _held(everybody, runs, figures, decided))


def _companies(options: argparse.Namespace) -> Iterator[tuple[str, list[Company]]]:
    """Yield the companies by kind; the odd ones are in the middle of the rest."""
    middle = options.companies // 2
    names = [f"c{number:03}" for number in range(options.companies)]
    odd = {"huge": [], "busy": [], "slow": []}  # type: dict[str, list[Company]]
    taken = iter(names[middle:])
    if options.huge:
        odd["huge"].append(Company(next(taken), options.huge, unsubscribed=10))
    if options.busy:
        odd["busy"].append(Company(next(taken), options.customers, unsubscribed=options.busy))
    for _ in range(options.slow):
        name = next(taken)
        odd["slow"].append(
            Company(name, options.customers, unsubscribed=10, latency=options.slow_ms)
        )
    others = {company.name for each in odd.values() for company in each}
    yield (
        "ordinary",
        [Company(name, options.customers, unsubscribed=10) for name in names if name not in others],
    )
    yield from odd.items()


def _run(machines: Companies, number: int, seconds: float) -> tuple[list[Run], dict[str, float]]:
    """Let every run start at once; return them when all have ended, and the CPU seconds it took."""
    url = machines.stack.database_url("airflow")
    with psycopg.connect(url, autocommit=True) as airflow:

        def count(query: str) -> Counter[str]:
            return Counter(dict(airflow.execute(query).fetchall()))

        wait_for(lambda: airflow.execute(PARSED).fetchone() == (number,), seconds=900)
        before = machines.cpu_seconds()
        begun = airflow.execute("SELECT clock_timestamp()").fetchone()
        airflow.execute(UNPAUSE)
        deadline, said = time.monotonic() + seconds, 0.0
        while (states := count(STATES))["success"] + states["failed"] < number:
            if time.monotonic() > deadline:
                _say(f"stopped waiting after {seconds:.0f} s")
                break
            if time.monotonic() > said + 60:
                said = time.monotonic()
                _say(f"  {dict(states)}")
            time.sleep(1)
        after = machines.cpu_seconds()
        rows = airflow.execute(RUNS, {"begun": begun[0] if begun else None}).fetchall()
    cpu = {name: after[name] - before.get(name, 0.0) for name in after}
    return [Run(*(0.0 if each is None else each for each in row)) for row in rows], cpu


def _decided(machines: Companies) -> dict[str, int]:
    """Return how many contacts each company's audience should have."""
    query = """SELECT sync, count(*) FROM ml_connector.contacts WHERE status <> 'archived'
               GROUP BY sync"""
    with psycopg.connect(machines.stack.database_url()) as connection:
        return dict(connection.execute(query).fetchall())


def _tell(
    companies: Mapping[str, Sequence[Company]], runs: Sequence[Run], cpu: Mapping[str, float]
) -> None:
    by_name = {run.company: run for run in runs}
    _say("| companies | | first | median | 95th percentile | last |")
    _say("|---|---|---|---|---|---|")
    for kind, each in companies.items():
        found = [by_name[company.name] for company in each if company.name in by_name]
        for what in ("began", "ended", "longest_wait", "worked"):
            if found:
                values = sorted(getattr(run, what) for run in found)
                spread = [values[0], statistics.median(values), _p95(values), values[-1]]
                cells = " | ".join(f"{value:.0f} s" for value in spread)
                _say(f"| {len(found)} {kind} | {what.replace('_', ' ')} | {cells} |")
    _say("CPU s: " + ", ".join(f"{name} {used:.0f}" for name, used in sorted(cpu.items())))
    _say(f"  {sum(cpu.values()) / max(1, len(runs)):.1f} a company")


def _held(
    companies: Sequence[Company],
    runs: Sequence[Run],
    figures: Mapping[str, Mapping[str, Any]],
    decided: Mapping[str, int],
) -> bool:
    """Say how near each limit came, and whether everything went right."""
    right = len(runs) == len(companies) and all(run.state == "success" for run in runs)
    _say(f"runs: {dict(Counter(run.state for run in runs))}")
    for (system, what), limit in LIMITS.items():
        values = {name: one[system][what] for name, one in figures.items()}
        most = max(values, key=values.__getitem__)
        right &= values[most] <= limit
        _say(
            f"{system}, {what.replace('_', ' ')}: median of the companies "
            f"{statistics.median(values.values()):.0f}, most {values[most]} ({most}), limit {limit}"
        )
    for system in ("quickbooks", "mailchimp"):
        refused = sum(one[system]["refused"] for one in figures.values())
        calls = sum(one[system]["calls"] for one in figures.values())
        right &= not refused
        _say(f"{system}: {calls} calls, {refused} refused for a limit")
    wrong = [name for name, one in figures.items() if one["members"] != decided.get(name)]
    right &= not wrong
    _say(f"contacts: {sum(decided.values())}, companies with another number of members: {wrong}")
    _say("every limit held" if right else "A PROMISE WAS BROKEN")
    return right


def _p95(values: Sequence[float]) -> float:
    return values[min(len(values) - 1, int(len(values) * 0.95))]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
