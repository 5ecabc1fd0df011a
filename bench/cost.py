"""Measure the processor time of a first load a customer, by step: ours and Postgres'.

    python -m bench.cost [CUSTOMERS] [--statements] [--again]

One process and one push thread, so that figures of two checkouts compare. To compare, set
``PYTHONPATH`` to each checkout in turn. ``--statements`` adds Postgres' time by statement.
``--again`` adds a run with 1,000 changed customers.
"""

import argparse
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import structlog

from bench import processor
from bench.controls import control
from bench.daily import SIZE, nothing_loaded
from bench.daily_sync import Setting
from local.postgres import temporary
from ml_connector.audit.chain import seal
from ml_connector.sync.archive import archive_contacts
from ml_connector.sync.fetch_customers import fetch_customers
from ml_connector.sync.fetch_members import fetch_members
from ml_connector.sync.follow_up import follow_up
from ml_connector.sync.planner import Planned, make_plan
from ml_connector.sync.preflight import check_audience
from ml_connector.sync.push import push_shard
from ml_connector.sync.report import make_report

CHANGED = 1_000
Result = TypeVar("Result")
_step = "-"
_statements: Counter[str] = Counter()


def main() -> None:
    """Load a made-up company once and print what each step took a customer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("customers", type=int, nargs="?", default=20_000)
    parser.add_argument("--statements", action="store_true")
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if options.statements:
        _measure_statements()
    with (
        temporary() as postgres,
        nothing_loaded(postgres, options.customers, 0) as (url, sandbox),
    ):
        _load(url, sandbox, postgres.pid, options.customers, "first")
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            (size,) = connection.execute(SIZE).fetchone() or (0,)
        _told(f"{size / options.customers:,.0f} bytes a customer")
        if options.again:
            _load(url, sandbox, postgres.pid, options.customers, "second", hours=6)
            for base in (sandbox.quickbooks_url, sandbox.mailchimp_url):
                control(base, "PUT", "clock", {"offset_seconds": 12 * 3600})
            edit = {"skip": 0, "count": CHANGED, "fields": {"GivenName": "Changed {id}"}}
            control(sandbox.quickbooks_url, "POST", "customers/edit-many", edit)
            _load(url, sandbox, postgres.pid, CHANGED, "1,000 changed", hours=18)
    for statement, nanoseconds in _statements.most_common(60 if options.statements else 0):
        _told(f"{nanoseconds / 1000 / options.customers:7.2f}  {statement}")


def _load(url: str, sandbox: Any, pid: int, customers: int, run: str, *, hours: int = 0) -> None:
    for base in (sandbox.quickbooks_url, sandbox.mailchimp_url):
        control(base, "PUT", "clock", {"offset_seconds": hours * 3600})
    setting = Setting(url, sandbox.quickbooks_url, sandbox.mailchimp_url, run, str(hours))
    scope = setting.scope()
    quickbooks, mailchimp = setting.quickbooks(scope), setting.mailchimp(scope)
    sums = [0.0, 0.0]

    def step(name: str, work: Callable[[], Result]) -> Result:
        global _step  # noqa: PLW0603 -- read where statements are counted
        _step = name
        ours, theirs, wall = time.process_time(), processor.seconds_of(pid), time.perf_counter()
        result = work()
        took = time.process_time() - ours, processor.seconds_of(pid) - theirs
        micro = [1e6 * seconds / customers for seconds in took]
        sums[:] = [total + each for total, each in zip(sums, micro, strict=True)]
        _told(f"{name:8} {micro[0]:7.1f} {micro[1]:7.1f}  {time.perf_counter() - wall:6.2f} s")
        return result

    def plan() -> Planned:
        planned = make_plan(scope)
        if planned.changes:
            check_audience(scope, mailchimp)
        return planned

    _told(f"{run}: microseconds a customer, ours and Postgres'")
    step("fetch", lambda: fetch_customers(scope, quickbooks))
    step("members", lambda: fetch_members(scope, mailchimp))
    planned = step("plan", plan)

    def push() -> None:
        for shard in planned.shards:
            push_shard(scope, mailchimp, plan_id=planned.plan_id, shard=shard, threads=1)

    step("push", push)
    step("follow", lambda: follow_up(scope, mailchimp, plan_id=planned.plan_id))

    def report() -> None:
        archive_contacts(scope, mailchimp, plan_id=planned.plan_id)
        make_report(scope, plan_id=planned.plan_id)

    step("report", report)
    step("seal", lambda: seal(scope.database, scope.vault))
    scope.database.close()
    _told(f"sum      {sums[0]:7.1f} {sums[1]:7.1f}  {sum(sums):7.1f} together")


def _measure_statements() -> None:
    """Count what each statement's backend used of the processor while it ran (Linux)."""
    lock = threading.Lock()
    execute, commit = psycopg.Cursor.execute, psycopg.Connection.commit

    def used(pid: int) -> int:
        return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0])

    def count(connection: Any, query: object, begun: int) -> None:
        text = query.decode() if isinstance(query, bytes) else str(query)
        with lock:
            _statements[f"{_step:8} {' '.join(text.split())[:120]}"] += (
                used(connection.info.backend_pid) - begun
            )

    def executed(self: Any, query: Any, *args: Any, **named: Any) -> Any:
        begun = used(self.connection.info.backend_pid)
        try:
            return execute(self, query, *args, **named)
        finally:
            count(self.connection, query, begun)

    def committed(self: Any) -> None:
        begun = used(self.info.backend_pid)
        commit(self)
        count(self, "COMMIT", begun)

    opened = psycopg.Cursor.copy

    def copying(self: Any, statement: Any, *args: Any, **named: Any) -> Any:
        manager = opened(self, statement, *args, **named)
        cursor = self

        class Counted:
            def __enter__(self) -> Any:
                self.begun = used(cursor.connection.info.backend_pid)
                return manager.__enter__()

            def __exit__(self, *error: Any) -> Any:
                done = manager.__exit__(*error)
                count(cursor.connection, statement, self.begun)
                return done

        return Counted()

    psycopg.Cursor.execute = executed
    psycopg.Cursor.copy = copying
    psycopg.Connection.commit = committed


def _told(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
