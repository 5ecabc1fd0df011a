"""``make bench``: the daily sync and what a user would run instead, as one table in results.md.

    make bench BENCH_ARGS="--customers 100000 --latencies 0 100"

These machines are shared and noisy: compare calls, memory and ratios within one table.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import side_by_side
from bench.controls import both, control, set_latency
from local.postgres import EmbeddedPostgres, temporary
from ml_connector.store.migrate import upgrade
from sandbox.running import RunningSandbox, running_as_process

RESULTS = Path(__file__).with_name("results.md")
COLUMNS = (
    *("latency", "work", "seconds", "QuickBooks calls", "Mailchimp calls"),
    *("CPU s", "peak MB", "steps", "to ours"),
)
CHANGED = 1_000
EDITED_AT_ONCE = 100


def main() -> None:
    """Run every case and write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--latencies", type=int, nargs="+", default=[0, 100], metavar="MS")
    parser.add_argument("--alone", action="store_true", help="leave the peers out")
    options = parser.parse_args()
    lines = [
        "# Daily sync, measured",
        "",
        f"{options.customers:,} customers, Python {platform.python_version()}, {os.cpu_count()} cores.",
        "The steps without Airflow around them; sandbox and Postgres on the same machine. CPU is that",
        "of the program measured, without the database's and the sandbox's. The last column: how many",
        "times as long as our first load at the same latency.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with temporary() as postgres:
        for latency in options.latencies:
            measured = measure(postgres, options.customers, latency)
            lines += [_row(latency, work, figures) for work, figures in measured.items()]
            if not options.alone:
                ours = measured["first load"]["seconds"]
                peers = side_by_side.measure(options.customers, latency)
                lines += [_peer_row(latency, peer, ours) for peer in peers]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write("\n".join(lines) + "\n")


def measure(postgres: EmbeddedPostgres, customers: int, latency: int) -> dict[str, dict[str, Any]]:
    """Return the figures of a first load and of runs some hours after it, by what there was to do."""
    name = f"bench_{customers}_{latency}"
    postgres.create_database(name)
    url = postgres.url(name)
    upgrade(url)
    with running_as_process(company=str(customers)) as sandbox:
        set_latency(sandbox, latency)
        first = _sync(url, sandbox, "first", hours=0)
        _sync(url, sandbox, "second", hours=6)  # meets in the audience what the first one wrote
        quiet = _sync(url, sandbox, "quiet", hours=12)
        for part in range(CHANGED // EDITED_AT_ONCE):
            _time_passes(sandbox, 12, minutes=20 + part)
            who = {"skip": part * EDITED_AT_ONCE, "count": EDITED_AT_ONCE}
            edit = {**who, "fields": {"GivenName": "Changed {id}"}}
            control(sandbox.quickbooks_url, "POST", "customers/edit-many", edit)
        delta = _sync(url, sandbox, "delta", hours=18)
    return {"first load": first, "nothing changed": quiet, f"{CHANGED:,} changed": delta}


def _time_passes(sandbox: RunningSandbox, hours: int, minutes: int = 0) -> None:
    for base in both(sandbox):
        control(base, "PUT", "clock", {"offset_seconds": hours * 3600 + minutes * 60})


def _sync(url: str, sandbox: RunningSandbox, run_id: str, *, hours: int) -> dict[str, Any]:
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


def _row(latency: int, work: str, figures: dict[str, Any]) -> str:
    calls = figures["calls"]
    quickbooks, mailchimp = (
        sum(n for name, n in calls.items() if name.startswith(system))
        for system in ("quickbooks.", "mailchimp.")
    )
    steps = ", ".join(f"{name} {seconds}" for name, seconds in figures["steps"].items())
    return (
        f"| {latency} ms | {work}, {figures['changes']:,} changes | {figures['seconds']} | {quickbooks}"
        f" | {mailchimp} | {figures['cpu']} | {figures['peak_mb']} | {steps} | |"
    )


def _peer_row(latency: int, peer: side_by_side.Peer, ours: float) -> str:
    figures = peer.figures
    quickbooks, mailchimp = figures["calls"]
    return (
        f"| {latency} ms | {peer.name} | {figures['seconds']} | {quickbooks} | {mailchimp}"
        f" | {figures['cpu']} | {figures['peak_mb']} | {peer.does}"
        f" | {figures['seconds'] / ours:.1f} |"
    )


if __name__ == "__main__":
    main()
