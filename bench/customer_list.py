"""``python -m bench.customer_list``: the console's customer list over 100,000 customers.

Every filter, every sorting and a page far back are asked over HTTP, each several times. ``--explain``
prints Postgres' plan of each filter instead.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import requests
from sqlalchemy import Engine, create_engine, event, text

from bench.table import Row
from local.postgres import temporary
from ml_connector.console.access import PREFIX
from ml_connector.console.queries import customer_list
from ml_connector.console.queries.customers import scan_names
from ml_connector.model import Customer, Status
from ml_connector.rules.tags import tag_key
from ml_connector.store import contacts, customers
from ml_connector.store.contacts import ContactState
from ml_connector.store.migrate import upgrade
from ml_connector.vault import Vault
from sandbox.running import serving_in_thread
from tests.integration.company import Company, MockServers
from tests.integration.test_console_hostile import console

LIMIT = 0.3  # seconds
CUSTOMERS, TIMES, CHUNK = 100_000, 10, 2_000
TAG = "Retail"
_STARTED = datetime(2026, 1, 1, tzinfo=UTC)

# As a company that has lived for a year: 1 of 50 without an address, 1 of 20 inactive.
_DECIDED = """
    UPDATE ml_connector.customers SET dirty = customer_no % 5000 = 7, contact_key = email_key,
        (decision, reason) = (
            SELECT CASE WHEN email_problem IS NOT NULL OR NOT active THEN 'skipped'
                        WHEN customer_no % 40 = 3 THEN 'linked' ELSE 'contact' END,
                   CASE WHEN email_problem IS NOT NULL THEN email_problem
                        WHEN NOT active THEN 'inactive'
                        WHEN customer_no % 40 = 3 THEN 'shared_address' ELSE 'unchanged' END),
        gone = customer_no % 500 = 9"""
_LIVED = """
    UPDATE ml_connector.contacts SET
        engagement = CASE WHEN status = 'cleaned' THEN 'bounced'
                          WHEN owner::int % 10 < 4 THEN 'engaged' WHEN owner::int % 10 < 7 THEN 'quiet'
                          WHEN owner::int % 97 = 0 THEN 'bouncing' END,
        last_engaged_at = CASE WHEN owner::int % 10 < 7
                               THEN now() - owner::int % 300 * interval '1 day' END,
        last_hard_bounce_at = CASE WHEN status = 'cleaned'
                                   THEN now() - owner::int % 300 * interval '1 day' END,
        status_since = now() - owner::int % 365 * interval '1 day',
        parked_until = CASE WHEN owner::int % 4000 = 11 THEN now() + interval '1 hour' END"""
_BESIDE = (
    """INSERT INTO ml_connector.unfit_values (sync, customer_id, merge_field, reason)
       SELECT sync, customer_id, 'PHONE', 'it is no US phone number'
       FROM ml_connector.customers WHERE customer_no % 300 = 5""",
    """INSERT INTO ml_connector.activity_blocks (sync, customer_id, customer_no, state)
       SELECT sync, customer_id, customer_no,
              CASE WHEN customer_no % 50 = 1 THEN 'due' WHEN customer_no % 2000 = 3 THEN 'refused'
                   ELSE 'shown' END
       FROM ml_connector.customers WHERE customer_no % 4 < 3""",
)


def main() -> int:
    """Fill, ask, print; 1 if a page took longer than the limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.customer_list")
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--explain", action="store_true")
    options = parser.parse_args()
    lines = [
        f"{options.customers:,} customers, {options.times} times each",
        "",
        "| page | median ms | slowest ms |",
        "|---|---|---|",
    ]
    asked = measure(options.customers, options.times, explain=options.explain)
    for name, took in asked.items():
        lines.append(f"| {name} | {statistics.median(took) * 1000:.0f} | {max(took) * 1000:.0f} |")
    sys.stdout.write("\n".join(lines) + "\n")
    return int(max((statistics.median(took) for name, took in _filters(asked)), default=0) > LIMIT)


def rows(_options: argparse.Namespace) -> Iterator[Row]:
    """Yield the filter that takes longest, and the search by name."""
    asked = measure(CUSTOMERS, TIMES)
    listed = dict(_filters(asked))
    name = max(listed, key=lambda page: statistics.median(listed[page]))
    median = statistics.median(listed[name])
    yield Row(
        work=f"customer list over {CUSTOMERS:,}: of {len(listed)} filters the slowest ({name})",
        measured=f"median {median * 1000:.0f} ms",
        to_reach=f"{LIMIT * 1000:.0f} ms",
        reached=median <= LIMIT,
    )
    scan = statistics.median(asked[SCAN])
    yield Row(
        work=f"every name of {CUSTOMERS:,} customers decrypted for a search",
        measured=f"{scan:.1f} s, {CUSTOMERS / scan:,.0f} a second",
    )


SCAN = "search by name, every customer decrypted (CPU)"
OVERVIEW = "overview"


def _filters(asked: dict[str, list[float]]) -> Iterator[tuple[str, list[float]]]:
    return ((name, took) for name, took in asked.items() if name not in (SCAN, OVERVIEW))


def measure(number: int, times: int, *, explain: bool = False) -> dict[str, list[float]]:
    """Fill a database and ask for each page so many times; return the seconds by page."""
    with temporary() as postgres:
        postgres.create_database("customers")
        url = postgres.url("customers")
        upgrade(url)
        mock_servers = MockServers(quickbooks="http://127.0.0.1:9", mailchimp="http://127.0.0.1:9")
        company = Company(mock_servers=mock_servers, database_url=url, folder=Path())
        fill(company, number)
        if explain:
            _explain(company)
            company.close()
            return {}
        with serving_in_thread({"console": console(company)}) as urls:
            asked = _ask(f"{urls['console']}{PREFIX}/main", pages(company.vault), times)
        asked[SCAN] = [_scan(company)]
        company.close()
    return asked


def fill(company: Company, number: int) -> None:
    """Stage so many customers and store their contacts, through the store itself."""
    database, vault = company.database, company.vault
    for first in range(1, number + 1, CHUNK):
        chunk = [_customer(n) for n in range(first, min(first + CHUNK, number + 1))]
        sealed = customers.encrypted(chunk, sync="main", vault=vault)
        with database.begin() as connection:
            customers.stage(connection, sealed, sync="main", vault=vault, unknown=True)
            owned = [each for each in chunk if each.addresses and int(each.id) % 40 != 3]
            contacts.record(
                connection,
                [_contact(each, vault) for each in owned],
                sync="main",
                vault=vault,
                unknown=True,
            )
    with database.begin() as connection:
        for statement in (_DECIDED, _LIVED, *_BESIDE):
            connection.execute(text(statement))
    _vacuum(company.database_url)


def _vacuum(url: str) -> None:
    engine = create_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


def _customer(n: int) -> Customer:
    at = n - 1 if n % 40 == 3 else n  # 1 of 40 shares an address
    address = () if n % 50 in (1, 2) else (f"customer{at}@example.org",)
    problem = {1: "no_email", 2: "invalid_email"}.get(n % 50) if not address else None
    return Customer(
        id=str(n),
        sync_token=str(n % 9),
        active=n % 20 != 0,
        is_job=False,
        is_project=False,
        last_updated=_STARTED + timedelta(minutes=n * 4),
        display_name=f"Customer {n} of Bayshore",
        addresses=address,
        email_problem=problem,
        merge_fields={
            "FNAME": f"First{n}",
            "LNAME": f"Last{n}",
            "COMPANY": f"Company {n}",
            "PHONE": f"(415) 555-{n % 10000:04}",
            "ADDRESS": {
                "addr1": f"{n} Finch St.",
                "city": "Bayshore",
                "state": "CA",
                "zip": "94326",
            },
        },
        tags=("QuickBooks", TAG) if n % 25 == 0 else ("QuickBooks",),
    )


def _contact(customer: Customer, vault: Vault) -> ContactState:
    n = int(customer.id)
    status = Status.ARCHIVED if not customer.active else Status.SUBSCRIBED
    if customer.active and n % 100 < 9:
        status = Status.UNSUBSCRIBED if n % 100 < 6 else Status.CLEANED
    return ContactState(
        email_key=vault.email_key(customer.addresses[0]),
        status=status,
        owner=customer.id,
        pushed_hash=vault.fields_hash(customer.merge_fields),
        sent_fields=list(customer.merge_fields),
        profile_hash=vault.fields_hash(customer.id),
        seen_tags=[tag_key(tag, vault) for tag in customer.tags or ()],
        payload={"email": customer.addresses[0], "merge_fields": customer.merge_fields},
    )


def pages(vault: Vault) -> dict[str, str]:
    """Return what is asked, by name."""
    days = dict.fromkeys(customer_list.DATES, f"{datetime.now(UTC) - timedelta(days=30):%Y-%m-%d}")
    single = {
        f"{name}={value}": f"/customers?{name}={value}"
        for name, values in customer_list.CHOICES.items()
        for value in values
    }
    return {
        "no filter": "/customers",
        **single,
        "reason=invalid_email": "/customers?reason=invalid_email",
        "reason that never was": "/customers?reason=undone",
        "unfit=PHONE": "/customers?unfit=PHONE",
        "tag": f"/customers?tag={tag_key(TAG, vault).hex()}",
        **{f"{name} a month ago": f"/customers?{name}={day}" for name, day in days.items()},
        "bounced, active, in the audience": "/customers?status=cleaned&quickbooks=active&audience=in",
        **{f"sorted by -{name}": f"/customers?sort=-{name}" for name in customer_list.SORTS},
        "50,000 customers back": "/customers?after=50000.50000",
        OVERVIEW: "",
    }


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


def _scan(company: Company) -> float:
    """Return the seconds of our own CPU: the user waits for slices of 1.5 seconds."""
    began = time.process_time()
    scan_names(
        company.database.begin,
        sync="main",
        needle="name without a customer",
        within=customer_list.CustomerFilter(),
        vault=company.vault,
        seconds=600,
    )
    return time.process_time() - began


def _explain(company: Company) -> None:
    heard = []

    def noted(_connection, _cursor, statement, parameters, _context, _many) -> None:
        heard.append((statement, parameters))

    for name, query in pages(company.vault).items():
        given = dict(parse_qsl(query.partition("?")[2]))
        wanted, _ = customer_list.read_filter(given, zone=ZoneInfo("UTC"))
        heard.clear()
        event.listen(Engine, "before_cursor_execute", noted)
        with company.database.begin() as connection:
            customer_list.page(
                connection, sync="main", wanted=wanted, vault=company.vault,
                sort=given.get("sort", "id"), after=given.get("after", ""),
            )  # fmt: skip
        event.remove(Engine, "before_cursor_execute", noted)
        statement, parameters = next(each for each in heard if "hits" in each[0])
        with company.database.begin() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters)
            sys.stdout.write(f"\n{name}\n" + "\n".join(plan.scalars()) + "\n")


if __name__ == "__main__":
    sys.exit(main())
