"""A first load as a DAG run, on the services of docker-compose.yaml: seconds from trigger to success.

    python -m bench.dag_run --customers 100000 --latency 100

Two Celery workers, Airflow, Postgres and the mock servers share the machine. The services have run
tasks before, as in an installation at work; ``--cold`` measures them right after their start. Ends
with 1 unless the run succeeds and the audience is right.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from bench.controls import control
from bench.table import Row
from tests.e2e.compose import missing_programs
from tests.e2e.distributed import DAG, ENDED, distributed, wait_for

GOAL, LATENCY = 100_000, 100
MOST = 35  # seconds, to reach: 25, and 10 for 102 calls to QuickBooks at its 10 a second

_TASKS = """
    SELECT task_id, count(*), extract(epoch FROM min(t.start_date) - min(r.queued_at)),
           extract(epoch FROM max(t.end_date) - min(r.queued_at))
    FROM task_instance t JOIN dag_run r USING (dag_id, run_id)
    WHERE run_id = %s AND t.start_date IS NOT NULL GROUP BY task_id ORDER BY 3
"""
_RUN = """
    SELECT extract(epoch FROM start_date - queued_at), extract(epoch FROM end_date - queued_at)
    FROM dag_run WHERE run_id = %s
"""


@dataclass(frozen=True)
class Seen:
    """One run; seconds are from its trigger. ``tasks``: name, how many, first begun, last ended."""

    state: str
    begun: float
    ended: float
    tasks: list[tuple[str, int, float, float]]
    contacts: int
    wrong: int


def main() -> int:
    """Run the first load; print when each task began and ended, in seconds from the trigger."""
    parser = argparse.ArgumentParser(prog="python -m bench.dag_run")
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--latency", type=int, default=100, metavar="MS")
    parser.add_argument("--cold", action="store_true", help="nothing ran on these services before")
    options = parser.parse_args()
    if missing := missing_programs():
        sys.stdout.write(f"not installed: {', '.join(missing)} (Debian has both)\n")
        return 1
    seen = measure(options.customers, options.latency, cold=options.cold)
    lines = [
        f"{seen.state} {seen.ended:.1f} s after the trigger; the scheduler began after {seen.begun:.1f} s",
        *(
            f"  {task:<20} {first:6.1f} to {last:6.1f} s, {n} tasks"
            for task, n, first, last in seen.tasks
        ),
        f"{seen.contacts} contacts, {seen.wrong} of them wrong",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(seen.state != "success" or bool(seen.wrong))


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the size and the latency that the figure to reach is about."""
    work = f"first load as a DAG run, {options.run_customers:,} customers, services at work, trigger to success"
    if missing := missing_programs():
        yield Row(work=work, measured=f"not installed: {', '.join(missing)}", reached=False)
        return
    seen = measure(options.run_customers, LATENCY)
    longest = sorted(seen.tasks, key=lambda task: task[2] - task[3])[:3]
    tasks = ", ".join(f"{name} {last - first:.1f}" for name, _, first, last in longest)
    right = seen.state == "success" and not seen.wrong
    goal = options.run_customers == GOAL
    yield Row(
        work=work,
        latency=LATENCY,
        measured=f"{seen.ended:.1f} s ({tasks}), {seen.state}, {seen.wrong} contacts wrong",
        to_reach=f"{MOST} s" if goal else "",
        reached=right and seen.ended <= MOST if goal else None,
    )


def measure(customers: int, latency: int, *, cold: bool = False) -> Seen:
    """Start everything, let the scheduler's first run of the day go through."""
    with distributed(customers) as machines:
        if not cold:
            machines.warm()
        for base in (machines.quickbooks, machines.mailchimp):
            control(base, "PUT", "latency", {"ms": latency})
        run = machines.daily_run()
        wait_for(lambda: machines.airflow.run_state(DAG, run) in ENDED, seconds=1800)
        for base in (machines.quickbooks, machines.mailchimp):
            control(base, "PUT", "latency", {"ms": 0})
        with psycopg.connect(machines.stack.database_url("airflow")) as connection:
            begun, ended = connection.execute(_RUN, (run,)).fetchall()[0]
            tasks = connection.execute(_TASKS, (run,)).fetchall()
        return Seen(
            state=machines.airflow.run_state(DAG, run),
            begun=float(begun),
            ended=float(ended),
            tasks=[(name, n, float(first), float(last)) for name, n, first, last in tasks],
            contacts=len(machines.members()),
            wrong=len(machines.differences()),
        )


if __name__ == "__main__":
    sys.exit(main())
