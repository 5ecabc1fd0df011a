"""``python -m bench.audit_page``: the console's audit page over a million rows.

Pages are asked over HTTP, each several times; the table says how long the slowest took.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import requests
from sqlalchemy import create_engine, text

from bench.table import Row
from local.postgres import temporary
from ml_connector.console.access import PREFIX
from ml_connector.store.migrate import upgrade
from sandbox.running import serving_in_thread
from tests.integration.company import Company, MockServers
from tests.integration.test_console_hostile import console

FILL = """
    INSERT INTO ml_connector.audit
        (id, at, sync, system, action, reason, customer_id, email_key, outcome, error, attempts, cause,
         dag_id, run_id, task_id, try_number, actor, seal_id)
    SELECT nextval('ml_connector.audit_id_seq'), now() - (:rows - n) * interval '1 year' / :rows, 'main',
        CASE WHEN n % 4 = 0 THEN 'quickbooks' ELSE 'mailchimp' END,
        CASE WHEN n % 4 = 0 THEN 'write_notes' WHEN n % 7 = 0 THEN 'create' ELSE 'update' END,
        'fields_changed', (n % 100000)::text, sha256((n % 100000)::text::bytea),
        CASE WHEN n % 5000 = 0 THEN 'failed' ELSE 'applied' END, '', 1, 'change:' || n,
        'sync_customers__main', 'scheduled__' || n / 3000, 'push', 1, '', n::text
    FROM generate_series(1, :rows) n"""
PAGES = {
    "newest": "",
    "half a million rows back": "?before={half}",
    "failed ones (1 of 5,000)": "?outcome=failed",
    "failed ones, half a million rows back": "?outcome=failed&before={half}",
    "one customer (1 of 100,000)": "?customer_id=4711",
    "one address": "?key={key}",
    "one run (3,000 rows)": "?run_id=scheduled__7",
    "one month, a year ago": "?until={year_ago}",
    "an outcome that never was": "?outcome=parked",
    "one row": "/{half}",
}
LIMIT = 0.2  # seconds
ROWS, TIMES = 1_000_000, 15


def main() -> int:
    """Fill, ask, print; 1 if a page took longer than the limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit_page")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--times", type=int, default=TIMES)
    options = parser.parse_args()
    lines = [
        f"{options.rows:,} rows, {options.times} times each",
        "",
        "| page | median ms | slowest ms |",
        "|---|---|---|",
    ]
    asked = measure(options.rows, options.times)
    for name, took in asked.items():
        lines.append(f"| {name} | {statistics.median(took) * 1000:.0f} | {max(took) * 1000:.0f} |")
    sys.stdout.write("\n".join(lines) + "\n")
    return int(max(map(max, asked.values())) > LIMIT)


def rows(_options: argparse.Namespace) -> Iterator[Row]:
    """Yield the page that takes longest."""
    asked = measure(ROWS, TIMES)
    name = max(asked, key=lambda page: statistics.median(asked[page]))
    median, slowest = statistics.median(asked[name]), max(map(max, asked.values()))
    yield Row(
        work=f"audit page over {ROWS:,} rows: of {len(asked)} kinds of page the slowest ({name})",
        measured=f"median {median * 1000:.0f} ms; slowest response {slowest * 1000:.0f} ms",
        to_reach=f"{LIMIT * 1000:.0f} ms",
        reached=slowest <= LIMIT,
    )


def measure(number: int, times: int) -> dict[str, list[float]]:
    """Fill a database and ask for each page so many times; return the seconds by page."""
    with temporary() as postgres:
        postgres.create_database("audit")
        url = postgres.url("audit")
        upgrade(url)
        fill(url, number)
        mock_servers = MockServers(quickbooks="http://127.0.0.1:9", mailchimp="http://127.0.0.1:9")
        company = Company(mock_servers=mock_servers, database_url=url, folder=Path())
        with serving_in_thread({"console": console(company)}) as urls:
            asked = _ask(f"{urls['console']}{PREFIX}/main/audit", pages(number), times)
        company.close()
    return asked


def fill(url: str, rows: int) -> None:
    """Write rows of a year: 100,000 customers, runs of 3,000 rows, one failure in 5,000."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT ml_connector.make_audit_partition(date_trunc('month', now()) "
                "- n * interval '1 month') FROM generate_series(0, 12) n"
            )
        )
        connection.execute(text(FILL), {"rows": rows})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE ml_connector.audit"))
    engine.dispose()


def pages(rows: int) -> dict[str, str]:
    """Return what is asked of the audit page, by name, once there are so many rows."""
    values = {
        "half": rows // 2,
        "key": "4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a",
        "year_ago": time.strftime("%Y-%m-%d", time.gmtime(time.time() - 340 * 86400)),
    }
    return {name: query.format(**values) for name, query in PAGES.items()}


def _ask(base: str, queries: dict[str, str], times: int) -> dict[str, list[float]]:
    session = requests.Session()
    asked: dict[str, list[float]] = {}
    for name, query in queries.items():
        took = []
        for _ in range(times + 1):
            began = time.monotonic()
            session.get(base + query, timeout=60).raise_for_status()
            took.append(time.monotonic() - began)
        asked[name] = took[1:]  # the first one fills the caches of Postgres and of the templates
    return asked


if __name__ == "__main__":
    sys.exit(main())
