"""The daily sync by size and by what there was to do, and what a user would run instead."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from bench import processor, side_by_side
from bench.controls import both, control, set_latency
from bench.table import Row, calls_by_system
from local.postgres import EmbeddedPostgres, temporary
from ml_connector.store.migrate import upgrade
from sandbox.running import RunningSandbox, running_as_process

CHANGED = 1_000
EDITED_AT_ONCE = 100
FIRST, QUIET, DELTA = "first load", "nothing changed", f"{CHANGED:,} changed"
GOAL = 100_000
"""Customers that the figures to reach are about; at 100 ms a call."""
SIZE = """
    SELECT sum(pg_total_relation_size(c.oid))::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'ml_connector' AND c.relkind = 'r'
"""


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure every size at every latency, and the peers at the size that is asked for."""
    with temporary() as postgres:
        for latency in options.latencies:
            sizes: dict[int, dict[str, Any]] = {}
            for customers in options.customers:
                measured = measure(postgres, customers, latency)
                sizes[customers] = measured[FIRST]
                yield from _ours(customers, latency, measured)
            yield from _growth(latency, sizes)
            if options.peers and not options.alone:
                yield from _peers(options.peers, latency, sizes)


def measure(postgres: EmbeddedPostgres, customers: int, latency: int) -> dict[str, dict[str, Any]]:
    """Return the figures of a first load and of runs some hours after it, by what there was to do."""

    def sync(run_id: str, hours: int) -> dict[str, Any]:
        before = processor.seconds_of(postgres.pid)
        figures = sync_once(url, sandbox, run_id, hours=hours)
        return figures | {"postgres_cpu": processor.seconds_of(postgres.pid) - before}

    with nothing_loaded(postgres, customers, latency) as (url, sandbox):
        first = sync("first", 0)
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            (first["bytes"],) = connection.execute(SIZE).fetchone() or (0,)
        sync("second", 6)  # meets in the audience what the first one wrote
        quiet = sync("quiet", 12)
        for part in range(CHANGED // EDITED_AT_ONCE):
            _time_passes(sandbox, 12, minutes=20 + part)
            who = {"skip": part * EDITED_AT_ONCE, "count": EDITED_AT_ONCE}
            edit = {**who, "fields": {"GivenName": "Changed {id}"}}
            control(sandbox.quickbooks_url, "POST", "customers/edit-many", edit)
        delta = sync("delta", 18)
    return {FIRST: first, QUIET: quiet, DELTA: delta}


@contextmanager
def nothing_loaded(
    postgres: EmbeddedPostgres, customers: int, latency: int
) -> Iterator[tuple[str, RunningSandbox]]:
    """Yield the URL of an empty database and a made-up company with an empty audience."""
    name = f"bench_{customers}_{latency}"
    postgres.create_database(name)
    upgrade(postgres.url(name))
    with running_as_process(company=str(customers)) as sandbox:
        set_latency(sandbox, latency)
        yield postgres.url(name), sandbox
    postgres.drop_database(name)


def _time_passes(sandbox: RunningSandbox, hours: int, minutes: int = 0) -> None:
    for base in both(sandbox):
        control(base, "PUT", "clock", {"offset_seconds": hours * 3600 + minutes * 60})


def sync_once(url: str, sandbox: RunningSandbox, run_id: str, *, hours: int) -> dict[str, Any]:
    """Sync in a process of its own, ``hours`` from now by the clock of all parts; return its figures."""
    _time_passes(sandbox, hours)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.daily_sync"),
            *(url, sandbox.quickbooks_url, sandbox.mailchimp_url, run_id, str(hours)),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _ours(customers: int, latency: int, measured: dict[str, dict[str, Any]]) -> Iterator[Row]:
    for work, figures in measured.items():
        calls = calls_by_system(figures["calls"])
        steps = ", ".join(f"{name} {seconds}" for name, seconds in figures["steps"].items())
        to_reach, reached = _to_reach(work, customers, latency, figures, sum(calls.values()))
        yield Row(
            work=f"{work}, {customers:,} customers: {figures['changes']:,} changes",
            latency=latency,
            measured=f"{figures['seconds']} s ({steps})",
            to_reach=to_reach,
            reached=reached,
            **calls,
            cpu=figures["cpu"],
            postgres_cpu=figures["postgres_cpu"],
            peak_mb=figures["peak_mb"],
            ratio=figures["seconds"] / measured[FIRST]["seconds"],
        )
    size = measured[FIRST]["bytes"]
    yield Row(
        work=f"database after the first load of {customers:,} customers",
        latency=latency,
        measured=f"{size / 1e6:,.0f} MB, {size / customers:,.0f} bytes a customer",
    )


def _to_reach(
    work: str, customers: int, latency: int, figures: dict[str, Any], calls: int
) -> tuple[str, bool | None]:
    if customers != GOAL or (work == FIRST and latency != 100):
        return "", None
    most_seconds, most_calls, most_mb = {
        FIRST: (12, 302, 200),
        QUIET: (1, 3, 200),
        DELTA: (2.5, 8, 200),
    }[work]
    return f"{most_seconds} s, {most_calls} calls, {most_mb} MB", (
        figures["seconds"] <= most_seconds and calls <= most_calls and figures["peak_mb"] <= most_mb
    )


def _growth(latency: int, sizes: dict[int, dict[str, Any]]) -> Iterator[Row]:
    """Compare the sizes, each with the smallest."""
    least = min(sizes)
    for customers in sorted(set(sizes) - {least}):
        times = customers / least
        seconds, memory = (
            sizes[customers][figure] / sizes[least][figure] for figure in ("seconds", "peak_mb")
        )
        yield Row(
            work=f"first load, {customers:,} customers against {least:,}",
            latency=latency,
            measured=f"{seconds:.1f} times the seconds, {memory:.2f} times the memory",
            to_reach=f"{times:.0f} times the seconds, 1.20 times the memory",
            reached=seconds <= times and memory <= 1.2,
        )


def _peers(customers: int, latency: int, sizes: dict[int, dict[str, Any]]) -> Iterator[Row]:
    ours = sizes[customers]["seconds"] if customers in sizes else None
    for peer in side_by_side.measure(customers, latency):
        figures, (quickbooks, mailchimp) = peer.figures, peer.figures["calls"]
        yield Row(
            work=f"{peer.name}: {peer.does}, {customers:,} customers",
            latency=latency,
            measured=f"{figures['seconds']} s",
            quickbooks=quickbooks,
            mailchimp=mailchimp,
            cpu=figures["cpu"],
            peak_mb=figures["peak_mb"],
            ratio=figures["seconds"] / ours if ours else None,
        )
