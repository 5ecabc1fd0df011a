"""``python -m bench.token_refresh``: what refreshing the tokens of many companies costs.

    python -m bench.token_refresh --companies 100 --runs 4

Runs of ``refresh_quickbooks_tokens`` on the services of docker-compose.yaml, one after the other,
with a mock server for each company. CPU seconds are those of all services but the mock servers,
less what the services use when nothing runs. From them follows the cost of a day of 10,000
connections. Ends with 1 unless every run succeeds.
"""

import argparse
import sys
import time
from dataclasses import dataclass

import psycopg

from bench.company_mocks import Company
from bench.company_stack import Companies, running
from tests.e2e.compose import missing_programs
from tests.e2e.distributed import wait_for

DAG = "refresh_quickbooks_tokens"
MANY = 10_000
RUNS_A_DAY = 1440 / 50 / 7
"""Of very many connections a seventh is refreshed in each run; those that are triggered refresh all."""
MOST = 5  # core-hours a day, to reach
IDLE = 30.0
"""Seconds for which the services are watched with nothing to do."""

_PARSED = "SELECT count(*) FROM dag WHERE dag_id = %s"
_RUNS = "SELECT state, count(*) FROM dag_run WHERE dag_id = %s AND state IN ('success', 'failed') GROUP BY state"
_TASKS = """
    SELECT count(*), extract(epoch FROM avg(end_date - start_date))::float8
    FROM task_instance WHERE dag_id = %s AND task_id = 'refresh' AND state = 'success'
"""


@dataclass(frozen=True)
class Cost:
    """What some runs took; seconds are the processor's and leave the idle services out."""

    companies: int
    runs: int
    seconds: dict[str, float]
    wall: float
    tasks: int
    task_seconds: float

    @property
    def each(self) -> float:
        """CPU seconds of one connection, its share of the tasks included."""
        return sum(self.seconds.values()) / (self.runs * self.companies)

    @property
    def core_hours(self) -> float:
        """Core-hours of a day of ``MANY`` connections."""
        return self.each * MANY * RUNS_A_DAY / 3600


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.token_refresh")
    parser.add_argument("--companies", type=int, default=100)
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    if missing := missing_programs():
        _say(f"not installed: {', '.join(missing)} (Debian has both)")
        return 1
    companies = [Company(f"c{number:03}", 1) for number in range(options.companies)]
    with running(companies, concurrency=4, own_pools=False) as machines:
        cost = measure(machines, options.companies, options.runs)
    parts = ", ".join(f"{name} {used:.1f}" for name, used in sorted(cost.seconds.items()))
    _say(
        f"{cost.runs} runs of {cost.companies} connections in {cost.wall:.0f} s, "
        f"{cost.tasks} tasks of {cost.task_seconds:.1f} s; CPU s: {parts}"
    )
    _say(
        f"{cost.each * 1000:.0f} ms of CPU a connection: {cost.core_hours:.1f} core-hours a day for "
        f"{MANY:,} connections, {MOST} to reach"
    )
    return 0


def measure(machines: Companies, companies: int, runs: int) -> Cost:
    """Let one run warm the services, watch them idle, then let ``runs`` follow one another."""
    url = machines.stack.database_url("airflow")
    with psycopg.connect(url, autocommit=True) as airflow:

        def ended() -> int:
            states = dict(airflow.execute(_RUNS, (DAG,)).fetchall())
            assert not states.get("failed"), "a run failed"
            return int(states.get("success", 0))

        def run() -> None:
            before = ended()
            machines.trigger(DAG)
            wait_for(lambda: ended() > before, seconds=900)

        wait_for(lambda: airflow.execute(_PARSED, (DAG,)).fetchone() == (1,), seconds=900)
        airflow.execute("UPDATE dag SET is_paused = false WHERE dag_id = %s", (DAG,))
        wait_for(lambda: ended() >= 1, seconds=900)  # the schedule's own
        run()
        before = _cpu(machines)
        time.sleep(IDLE)
        between = _cpu(machines)
        begun = time.monotonic()
        for _ in range(runs):
            run()
        wall = time.monotonic() - begun
        after = _cpu(machines)
        tasks, seconds = airflow.execute(_TASKS, (DAG,)).fetchone() or (0, 0.0)
    idle = {name: (between[name] - before[name]) / IDLE for name in after}
    used = {name: after[name] - between[name] - idle[name] * wall for name in after}
    return Cost(companies, runs, used, wall, tasks, seconds)


def _cpu(machines: Companies) -> dict[str, float]:
    found = machines.cpu_seconds()
    del found["mock servers"]
    return found


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
