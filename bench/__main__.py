"""``make bench``: the daily sync at several sizes and latencies, as one table in results.md.

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

import requests

from local.postgres import EmbeddedPostgres, temporary
from ml_connector.store.migrate import upgrade
from sandbox.running import RunningSandbox, running_as_process

RESULTS = Path(__file__).with_name("results.md")
CHANGED = 1_000


def main() -> None:
    """Run every case and write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--latencies", type=int, nargs="+", default=[0, 100], metavar="MS")
    options = parser.parse_args()
    lines = [
        "# Daily sync, measured",
        "",
        f"{options.customers:,} customers, Python {platform.python_version()}, {os.cpu_count()} cores.",
        "The steps without Airflow around them; sandbox and Postgres on the same machine.",
        "",
        "| latency | work | seconds | changes | QuickBooks calls | Mailchimp calls | CPU s | peak MB | steps |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with temporary() as postgres:
        for latency in options.latencies:
            lines += _cases(postgres, options.customers, latency)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write("\n".join(lines) + "\n")


def _cases(postgres: EmbeddedPostgres, customers: int, latency: int) -> list[str]:
    name = f"bench_{latency}"
    postgres.create_database(name)
    url = postgres.url(name)
    upgrade(url)
    rows = []
    with running_as_process(company=str(customers)) as sandbox:
        for base in (sandbox.quickbooks_url, sandbox.mailchimp_url):
            _control(base, "PUT", "latency", {"ms": latency})
        rows.append(_row(latency, "first load", _sync(url, sandbox, "first")))
        rows.append(_row(latency, "nothing changed", _sync(url, sandbox, "quiet")))
        edit = {"count": CHANGED, "fields": {"GivenName": "Changed {id}"}}
        _control(sandbox.quickbooks_url, "POST", "customers/edit-many", edit)
        rows.append(_row(latency, f"{CHANGED:,} changed", _sync(url, sandbox, "delta")))
    return rows


def _sync(url: str, sandbox: RunningSandbox, run_id: str) -> dict[str, Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.daily_sync"),
            *(url, sandbox.quickbooks_url, sandbox.mailchimp_url, run_id),
        ],
        check=True,
        capture_output=True,
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
        f"| {latency} ms | {work} | {figures['seconds']} | {figures['changes']:,} | {quickbooks} "
        f"| {mailchimp} | {figures['cpu']} | {figures['peak_mb']} | {steps} |"
    )


def _control(base: str, method: str, path: str, body: object) -> None:
    answer = requests.request(method, f"{base}/_sandbox/{path}", json=body, timeout=60)
    answer.raise_for_status()


if __name__ == "__main__":
    main()
