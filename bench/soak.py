"""``python -m bench.soak``: mixed load for minutes or virtual days; what must stay flat, does it?

A process of its own is the connector: daily runs with write-back and token refresh, webhooks over
HTTP, a console that is read all the while, retention as in the DAG. Time is virtual, so the daily
runs follow one another. Postgres and both mock servers are processes of their own. After each virtual day the
process is measured: memory, file handles, database connections, bytes a row of each table with its
indexes, and what the daily run cost.

``--minutes 20`` lives days until they are over; ``--days 30`` compares the first ten runs with the
last ten. Exits with 1 if something is not flat.
"""

import argparse
import json
import logging
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as hour
from itertools import count, islice
from zoneinfo import ZoneInfo

import psutil
import psycopg
import requests
import structlog
from starlette.applications import Starlette
from starlette.routing import Mount

from local.lived.connector import Connector
from local.lived.history import found_company
from local.lived.life import REASONS, WAVES, Life
from local.lived.month import HOURS, RUN_AT
from local.lived.people import phone
from local.lived.servers import Servers
from local.lived.virtual_time import VirtualTime
from local.postgres import temporary
from local.settings import REPOSITORY, Ports, sandbox_credentials
from ml_connector import retention
from ml_connector.console.access import PREFIX, Caller
from ml_connector.console.app import build_console
from ml_connector.console.visit import Services
from ml_connector.settings import load_webhooks
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade
from ml_connector.vault import Vault
from sandbox.running import running_as_process, serving_in_thread
from tests.integration.test_console import FakeOutside

SETTINGS = REPOSITORY / "include" / "config" / "syncs.yaml"
KEEP_MONTHS = 1
"""Months of audit and plans that are kept, so that a soak reaches what a year would."""
TEN = 10
TOLERANCE = {"memory": 0.05, "file handles": 0.05, "connections": 0.05, "bytes a row": 0.10}
"""How much more the second half's trend may add, as a share of its mean."""
COST_TOLERANCE = {"cpu": 0.25, "calls": 0.25, "rows_read": 0.25, "dead": 0.50}
"""How much more the last ten runs may cost than the first ten."""
SMALL = 1 << 20
"""A table of fewer bytes is not judged: a page more is a large share of it."""
PAGES = ("", "/customers", "/audit", "/webhooks", "/plans", "/drift")
VAULT = Vault(encryption_keys=[b"s" * 32], index_key=b"i" * 32)


@dataclass(frozen=True)
class Sample:
    """The process and its database after a virtual day. ``tables``: bytes and rows by name."""

    at: float
    memory: int
    handles: int
    connections: int
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What a daily run took. ``rows_read``: by Postgres; ``dead``: row versions it left."""

    changes: int
    cpu: float
    calls: int
    rows_read: int
    dead: int


def main() -> int:
    """Soak, print the tables, return 1 if something grew."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--days", type=int, default=0)
    parser.add_argument("--customers", type=int, default=1000)
    parser.add_argument("--worker", nargs=3, metavar=("DATABASE", "QUICKBOOKS", "MAILCHIMP"))
    options = parser.parse_args()
    days = options.days or (10**6 if options.minutes else 30)
    if options.worker:
        # What is printed is read by the other process.
        structlog.configure(
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        )
        url, *ports = options.worker
        until = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
        for cost, sample in live(
            url,
            tuple(map(int, ports)),
            options.customers,
            days,
            until,
            console=bool(options.minutes),
        ):
            sys.stdout.write(json.dumps([asdict(cost), asdict(sample)]) + "\n")
            sys.stdout.flush()
        return 0
    costs, samples = [], []
    with temporary() as postgres, running_as_process(company="empty") as sandbox:
        postgres.create_database("soak")
        url = postgres.url("soak")
        upgrade(url)
        ports = [
            each.rpartition(":")[2] for each in (sandbox.quickbooks_url, sandbox.mailchimp_url)
        ]
        command = [sys.executable, "-m", "bench.soak", *sys.argv[1:], "--worker", url, *ports]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            for line in running.stdout or ():
                cost, sample = json.loads(line)
                costs.append(Cost(**cost))
                samples.append(Sample(**sample))
        if running.returncode:
            return running.returncode
    sys.stdout.write(f"{len(samples)} virtual days, {options.customers:,} customers\n")
    both = not options.minutes and len(costs) >= 2 * TEN
    lines = [*judged(samples), *(compared(costs) if both else ())]
    for name, measured, good in lines:
        sys.stdout.write(f"{'flat ' if good else 'GROWS'} {name:28} {measured}\n")
    flat = all(good for *_, good in lines)
    sys.stdout.write("all flat\n" if flat else "")
    return int(not flat)


# ── the load ─────────────────────────────────────────────────────────────────────────────────


class SteadyLife(Life):
    """People who leave and come at one rate: neither company nor audience grows or shrinks."""

    _left: Sequence[str] = ()

    def _bookkeeper(self, pace: float) -> None:
        for _ in range(self._times(8 * pace)):
            self._edit(self._some(), self._new_detail())
        for _ in range(self._times(pace)):
            self._move(self._some())
        for _ in range(self._times(0.3 * pace)):
            self._new_customer()
            person = self._some()
            self._edit(person, {"Active": False})
            person.active = False

    def _members(self, pace: float) -> None:
        for email in self._left:  # who left the hour before signs up and confirms
            self._servers.person(email, "subscribe")
            self._servers.person(email, "confirm")
        self._left = self._subscribed(self._times(pace))
        for email in self._left:
            self._servers.person(email, "unsubscribe", by="self", reason=REASONS[0])
        for email in self._subscribed(self._times(2 * pace)):
            self._servers.person(email, "profile", merge_fields={"PHONE": phone(self._random)})

    def _react(self) -> None:
        if self._waves:
            campaign, wave = self._waves.pop(0)
            opens, clicks, soft, _ = WAVES[wave]
            shares = {"opens": opens, "clicks": clicks, "soft_bounces": soft, "seed": wave}
            self._servers.mailchimp("POST", f"campaigns/{campaign}/simulate", shares)


def live(
    url: str,
    ports: tuple[int, ...],
    customers: int,
    days: int,
    until: float = float("inf"),
    *,
    console: bool = False,
) -> Iterator[tuple[Cost, Sample]]:
    """Let a company live day by day in front of the connector in this process; yield each day's cost.

    ``console``: its pages are read all the while, which a run's cost then includes.
    """
    servers = Servers(sandbox_credentials(Ports(quickbooks_port=ports[0], mailchimp_port=ports[1])))
    plain = url.replace("+psycopg", "")
    clock, chance = VirtualTime(servers, plain), random.Random(1)
    began = datetime.now(UTC).replace(hour=20, minute=0) - timedelta(days=730)
    company = found_company(servers, customers, chance, now=began)
    with (
        clock.begun(began),
        closing(Connector(servers, clock, VAULT, sync="main", settings=SETTINGS)) as connector,
        closing(Database(clock.database_url, connections=2)) as database,
        connector.receiver() as receiver,
        psycopg.connect(plain, autocommit=True) as watching,
        _read(connector, database, clock.now) if console else nullcontext(),
    ):
        connector.run("soak__first")
        servers.begin_webhooks(receiver)
        life = SteadyLife(servers, company, chance, clock=clock.now)
        zone = ZoneInfo(connector.sync.timezone)
        first = clock.now().astimezone(zone).date()
        for number in islice(count(1), days):
            if time.monotonic() > until:
                break
            today = first + timedelta(days=number)

            def moment(at: hour, day: date = today) -> datetime:
                return datetime.combine(day, at, zone)

            clock.pass_until(moment(RUN_AT).astimezone(UTC))
            cost = _costs(watching, lambda at=today: connector.run(f"soak__{at}"))
            _retain(connector, database, clock.now())
            for at in HOURS:
                clock.pass_until(moment(at).astimezone(UTC))
                life.act(moment(at))
                servers.deliver_webhooks()
                if at != HOURS[-1]:
                    connector.process_webhooks()
            for each in ("quickbooks", "mailchimp"):
                getattr(servers, each)("DELETE", "journal")
            yield cost, _sample(watching)
        servers.end_webhooks()


def _retain(connector: Connector, database: Database, now: datetime) -> None:
    """Delete by age, as the last task of the DAG does."""
    retention.maintain_audit(database, VAULT, keep_months=KEEP_MONTHS, clock=lambda: now)
    retention.drop_old_plans(database, sync=connector.sync.name, now=now, keep_months=KEEP_MONTHS)
    retention.drop_old_events(database, keep_days=load_webhooks(SETTINGS).keep_days)


@contextmanager
def _read(connector: Connector, database: Database, now: Callable[[], datetime]) -> Iterator[None]:
    """Serve the console, and read its pages in turn until the block ends."""
    services = Services(
        database=database,
        vault=VAULT,
        syncs=lambda: {"main": connector.sync},
        identify=_operator,
        outside=FakeOutside(),
        clock=now,
    )
    app = Starlette(routes=[Mount(PREFIX, build_console(services))])
    ended, wrong = threading.Event(), []
    with serving_in_thread({"console": app}) as urls, requests.Session() as http:

        def read() -> None:
            for number in count():
                path = PAGES[number % len(PAGES)]
                answer = http.get(f"{urls['console']}{PREFIX}/main{path}", timeout=60)
                if answer.status_code != 200:
                    wrong.append((path, answer.status_code))
                if ended.wait(0.2):
                    return

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
    if wrong:
        raise RuntimeError(f"{len(wrong)} pages failed, the first: {wrong[0]}")


async def _operator(_request: object) -> Caller:
    return Caller(name="operator", may=lambda *_: True)


# ── what is measured ─────────────────────────────────────────────────────────────────────────


def _costs(watching: psycopg.Connection, run: Callable[[], object]) -> Cost:
    before, used = _counters(watching), time.process_time()
    run()
    cpu = time.process_time() - used
    after = _counters(watching)
    changes, calls, read, dead = (new - old for new, old in zip(after, before, strict=True))
    return Cost(changes, round(cpu, 3), calls, read, dead)


def _counters(watching: psycopg.Connection) -> tuple[int, ...]:
    """Return changes, calls, rows read and dead row versions so far."""
    row = watching.execute("""
        SELECT (SELECT coalesce(sum(changes), 0) FROM ml_connector.change_counts),
               (SELECT coalesce(sum(calls), 0) FROM ml_connector.api_usage),
               (SELECT tup_returned + tup_fetched FROM pg_stat_database
                WHERE datname = current_database()),
               (SELECT sum(n_tup_upd + n_tup_del) FROM pg_stat_user_tables)""").fetchone()
    return tuple(int(value) for value in row or ())


def _sample(watching: psycopg.Connection) -> Sample:
    process = psutil.Process()
    (connections,) = watching.execute(
        """SELECT count(*) FROM pg_stat_activity
           WHERE datname = current_database() AND backend_type = 'client backend'"""
    ).fetchone() or (0,)
    # Autovacuum sleeps a minute of real time, in which many virtual days pass.
    watching.execute("VACUUM (ANALYZE)")
    tables = watching.execute("""
        SELECT c.relname, pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint
        FROM pg_class c WHERE c.relkind = 'r' AND NOT c.relispartition
          AND c.relnamespace = 'ml_connector'::regnamespace""").fetchall()
    return Sample(
        at=time.monotonic(),
        memory=process.memory_info().rss,
        handles=process.num_fds(),
        connections=int(connections),
        tables={name: (int(size), int(rows)) for name, size, rows in tables},
    )


# ── the verdict ──────────────────────────────────────────────────────────────────────────────

Line = tuple[str, str, bool]


def judged(samples: Sequence[Sample]) -> Iterator[Line]:
    """Judge what the second half adds by its trend, as a share of its mean."""
    half = samples[len(samples) // 2 :]
    series: dict[str, list[float]] = {
        "memory": [each.memory for each in half],
        "file handles": [each.handles for each in half],
        "connections": [each.connections for each in half],
    }
    for name, (size, rows) in half[-1].tables.items():
        if size >= SMALL and rows:
            each_row = [one.tables[name][0] / max(one.tables[name][1], 1) for one in half]
            series[f"bytes a row, {name}"] = each_row
    for name, values in series.items():
        growth = trend(values)
        most = TOLERANCE[name.partition(",")[0]]
        mean = statistics.fmean(values)
        yield name, f"mean {mean:,.0f}, trend {growth:+.1%} (at most {most:.0%})", growth <= most


def trend(values: Sequence[float]) -> float:
    """Return what a straight line through the values adds from first to last, as a share of the mean."""
    mean = statistics.fmean(values)
    if len(values) < 2 or not mean:
        return 0.0
    slope, _ = statistics.linear_regression(range(len(values)), values)
    return slope * (len(values) - 1) / mean


def compared(costs: Sequence[Cost]) -> Iterator[Line]:
    """Compare the last ten runs with the first ten."""
    first, last = costs[:TEN], costs[-TEN:]
    for name, most in COST_TOLERANCE.items():
        then, now = (sum(getattr(each, name) for each in some) / TEN for some in (first, last))
        grown = now / then - 1 if then else 0.0
        said = f"{then:,.4g} in the first ten, {now:,.4g} in the last ({grown:+.0%})"
        yield f"cost of a run, {name}", said, grown <= most
    changes = [sum(each.changes for each in some) / TEN for some in (first, last)]
    yield "changes of a run", f"{changes[0]:,.1f} and {changes[1]:,.1f}", True


if __name__ == "__main__":
    sys.exit(main())
