"""``make bench``: everything that has a figure to reach, and what a user would run instead.

    make bench                                       some 45 minutes; 65 with a million customers
    make bench BENCH_ARGS="--only daily --customers 100000 --latencies 100 --alone"

One table with the figure to reach next to the one measured; bench/results.md keeps it, unless only
some parts are run. Machines are shared and noisy: compare calls, memory and ratios within one table.
"""

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import (
    audit_page,
    customer_list,
    dag_run,
    daily,
    drift,
    imports,
    in_turn,
    webhook_latency,
    webhook_load,
    write_back,
)
from bench.table import Row, head, missed

RESULTS = Path(__file__).with_name("results.md")
PARTS: dict[str, Callable[[argparse.Namespace], Iterable[Row]]] = {
    "daily": daily.rows,
    "in-turn": in_turn.rows,
    "drift": drift.rows,
    "write-back": write_back.rows,
    "webhook": webhook_latency.rows,
    "receiver": webhook_load.rows,
    "audit": audit_page.rows,
    "customer-list": customer_list.rows,
    "imports": imports.rows,
    "dag-run": dag_run.rows,
}


def main() -> None:
    """Run the parts and write the table; each row is shown as soon as it is there."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--customers", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--million", action="store_true", help="and 1,000,000: 20 minutes more")
    parser.add_argument("--latencies", type=int, nargs="+", default=[0, 100], metavar="MS")
    parser.add_argument("--peers", type=int, default=100_000, help="customers the peers carry")
    parser.add_argument("--turns", type=int, default=3, help="of ours and the piped pair")
    parser.add_argument("--alone", action="store_true", help="leave the peers out")
    parser.add_argument("--events", type=int, default=30, help="webhooks timed to their contact")
    parser.add_argument("--webhooks", type=int, default=10_000, help="that the receiver is sent")
    parser.add_argument("--run-customers", type=int, default=100_000, help="of the DAG run")
    options = parser.parse_args()
    options.customers += [1_000_000] if options.million else []
    lines = [
        "# Measured",
        "",
        f"Python {platform.python_version()}, {os.cpu_count()} cores, mock servers and Postgres on the same",
        "ones. The daily sync: its steps without Airflow around them.",
        "",
    ]
    found: list[Row] = []
    _say("\n".join([*lines, *head()]))
    for part in options.only:
        for row in PARTS[part](options):
            _say(row.line())
            found.append(row)
    lines += [*head(), *(row.line() for row in found)]
    if set(options.only) == set(PARTS):
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if short := missed(found):
        _say(f"\nshort of the figure to reach: {'; '.join(short)}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
