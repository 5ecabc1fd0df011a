"""``python -m bench.write_back``: an opt-out of each of 1,000 customers shown at QuickBooks.

A company takes 40 batches a minute and 10 calls a second from an app; the mock server refuses more.
The limits are held as the tasks hold them, in the database. Only the write-back is timed.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from bench.controls import forget_calls, set_latency
from bench.table import Row, head
from local.postgres import temporary
from ml_connector.activity.queue import queue_activity
from ml_connector.activity.writer import write_activity
from ml_connector.store import pacing
from ml_connector.store.migrate import upgrade
from ml_connector.sync.fetch_customers import fetch_customers
from ml_connector.sync.fetch_members import fetch_members
from ml_connector.sync.planner import make_plan
from sandbox.running import running_as_process
from tests.integration.company import Company, MockServers

A_MINUTE = 40  # batches
ABOVE = 1.2  # times the time that the limit allows, to reach
SEEDED_AT_ONCE = 500


@dataclass(frozen=True)
class Written:
    """What showing so many customers took."""

    shown: int
    batches: int
    reads: int
    refused: int
    seconds: float
    cpu: float


def main() -> None:
    """Print 1,000 customers, and twice as many, which cannot be done in one go."""
    parser = argparse.ArgumentParser(prog="python -m bench.write_back")
    parser.add_argument("--latencies", type=int, nargs="+", default=[0, 100], metavar="MS")
    lines = [*head(), *(row.line() for row in rows(parser.parse_args()))]
    sys.stdout.write("\n".join(lines) + "\n")


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """1,000 customers at each latency; 2,000 at the last of them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    works = [(1_000, latency) for latency in options.latencies]
    for customers, latency in [*works, (2_000, options.latencies[-1])]:
        written = measure(customers, latency)
        allowed = written.batches / A_MINUTE * 60
        batches = -(-customers // 25)
        yield Row(
            work=f"write-back on {customers:,} customers: {written.batches} batches",
            latency=latency,
            measured=(
                f"{written.seconds:.1f} s; 40 a minute are {allowed:.0f} s: "
                f"{written.seconds / allowed:.2f} times; {written.refused} refused"
            ),
            to_reach=f"{batches} batches, no read, {ABOVE:g} times",
            reached=(written.shown, written.batches, written.reads, written.refused)
            == (customers, batches, 0, 0)
            and written.seconds <= ABOVE * allowed,
            quickbooks=written.batches + written.reads,
            mailchimp=0,
            cpu=written.cpu,
        )


def measure(customers: int, latency: int) -> Written:
    """Make a company all of whose customers unsubscribed, then show it on each of them."""
    with (
        temporary() as postgres,
        running_as_process(company="empty") as sandbox,
        tempfile.TemporaryDirectory() as folder,
    ):
        postgres.create_database("write_back")
        url = postgres.url("write_back")
        upgrade(url)
        mock_servers = MockServers(
            quickbooks=sandbox.quickbooks_url, mailchimp=sandbox.mailchimp_url
        )
        company = Company(mock_servers=mock_servers, database_url=url, folder=Path(folder))
        _everybody_left(company, customers)
        company.quickbooks_control("PUT", "settings", {"enforce_limits": True})
        company.pace = partial(_pace, company, pacing.reserve)
        company.pace_batch = partial(_pace, company, pacing.reserve_batch)
        set_latency(sandbox, latency)
        scope = company.scope()
        client = company.quickbooks_client(scope.calls)
        queue_activity(scope)
        client.company()  # the token is there, as after the day's reading
        forget_calls(sandbox)
        began, cpu = time.perf_counter(), time.process_time()
        done = write_activity(scope, client)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        calls = company.calls("quickbooks")
        company.close()
    batches = [call for call in calls if call["path"].endswith("/batch")]
    return Written(
        shown=done.get("shown", 0),
        batches=len(batches),
        reads=len(calls) - len(batches),
        refused=sum(call["status"] == 429 for call in calls),
        seconds=seconds,
        cpu=cpu,
    )


def _everybody_left(company: Company, customers: int) -> None:
    """Customers that are contacts, and have unsubscribed before we looked."""
    people = [f"c{number}@firm-mail.net" for number in range(customers)]
    for email in people:
        company.customer(email.partition("@")[0], email, Notes="Theirs.")
    for first in range(0, customers, SEEDED_AT_ONCE):
        members = [
            {"email_address": email, "status": "unsubscribed", "origin": "self"}
            for email in people[first : first + SEEDED_AT_ONCE]
        ]
        company.mailchimp_control("POST", "members", {"members": members})
    scope = company.scope()
    fetch_customers(scope, company.quickbooks_client(scope.calls))
    fetch_members(scope, company.mailchimp_client(scope.calls))
    make_plan(scope)


def _pace(company: Company, reserve: Callable[..., float]) -> None:
    """Wait as a task does (plugins/ml_connector_airflow/wiring.py)."""
    with company.database.begin() as connection:
        wait = reserve(connection, account="quickbooks_default")
    time.sleep(wait)


if __name__ == "__main__":
    main()
