"""A first load as a DAG run, on the services of docker-compose.yaml: seconds from trigger to success.

    python -m bench.dag_run --customers 100000 --latency 100

Two Celery workers, Airflow, Postgres and the stand-ins share the machine. Ends with 1 unless the run
succeeds and the audience is right.
"""

import argparse
import sys

import psycopg

from bench.controls import control
from tests.e2e.compose import missing_programs
from tests.e2e.distributed import DAG, ENDED, Distributed, distributed, wait_for

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


def main() -> int:
    """Run the first load; print when each task began and ended, in seconds from the trigger."""
    parser = argparse.ArgumentParser(prog="python -m bench.dag_run")
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--latency", type=int, default=100, metavar="MS")
    options = parser.parse_args()
    if missing := missing_programs():
        sys.stdout.write(f"not installed: {', '.join(missing)} (Debian has both)\n")
        return 1
    with distributed(options.customers) as machines:
        for base in (machines.quickbooks, machines.mailchimp):
            control(base, "PUT", "latency", {"ms": options.latency})
        run = machines.daily_run()
        wait_for(lambda: machines.airflow.run_state(DAG, run) in ENDED, seconds=1800)
        for base in (machines.quickbooks, machines.mailchimp):
            control(base, "PUT", "latency", {"ms": 0})
        return _told(machines, run)


def _told(machines: Distributed, run: str) -> int:
    with psycopg.connect(machines.stack.database_url("airflow")) as connection:
        begun, ended = connection.execute(_RUN, (run,)).fetchall()[0]
        tasks = connection.execute(_TASKS, (run,)).fetchall()
    state, wrong = machines.airflow.run_state(DAG, run), machines.differences()
    lines = [
        f"{state} {ended:.1f} s after the trigger; the scheduler began after {begun:.1f} s",
        *(
            f"  {task:<20} {first:6.1f} to {last:6.1f} s, {n} tasks"
            for task, n, first, last in tasks
        ),
        f"{len(machines.members())} contacts, {len(wrong)} of them wrong",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(state != "success" or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
