"""A company of thousands of customers that lives for a month in front of the running connector.

Its bookkeeper, its marketer and its members act at the mock servers' screens, hour by hour of
virtual time. The connector runs every morning and processes every webhook.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

from local.lived.connector import Connector
from local.lived.history import Company, found_company
from local.lived.life import Life
from local.lived.servers import Servers
from local.lived.virtual_time import VirtualTime
from local.settings import Credentials
from ml_connector.vault import Vault

CUSTOMERS, DAYS = 5000, 30
RUN_AT = time(4, 0)  # as the sync's schedule says
HOURS = (time(10, 40), time(15, 20), time(17, 45))
"""When people do something, in the sync's time zone. The last hour is left to the night's run."""


@dataclass(frozen=True)
class Month:
    """How much is lived. The same ``seed`` makes the same people do the same things."""

    customers: int = CUSTOMERS
    days: int = DAYS
    seed: int = 1


def live(
    credentials: Credentials,
    *,
    database_url: str,
    vault: Vault,
    sync: str,
    settings: Path,
    month: Month = Month(),
    until: datetime | None = None,
    say: Callable[[str], None],
) -> Company:
    """Let the company live until now, or a time before; its last act leaves a plan to be approved.

    Both mock servers and the connector's database are empty before.
    """
    until = until or datetime.now(UTC)
    servers = Servers(credentials)
    clock = VirtualTime(servers, database_url)
    random = Random(month.seed)  # noqa: S311 - a story
    began = until - timedelta(days=month.days)
    # A refresh token that stays the same, since Airflow's Variable has the first one.
    servers.quickbooks("PUT", "settings", {"rotate": 1e9})
    say(f"{month.customers:,} customers enter the company, as over the years before")
    company = found_company(servers, month.customers, random, now=began)
    with (
        clock.begun(began),
        closing(Connector(servers, clock, vault, sync=sync, settings=settings)) as connector,
        connector.receiver() as receiver,
    ):
        first = connector.run(f"lived__{clock.now().isoformat()}")
        say(f"first run: {sum(row[3] for row in first.changes):,} changes, approved by admin")
        servers.begin_webhooks(receiver)
        life = Life(servers, company, random, clock=clock.now)
        _days(connector, clock, life, servers, until=until, say=say)
        servers.report_stranger(receiver)
        connector.process_webhooks()
        servers.end_webhooks()
        life.clear_out()
    servers.quickbooks("PUT", "settings", {"rotate": "daily"})
    return company


def _days(
    connector: Connector,
    clock: VirtualTime,
    life: Life,
    servers: Servers,
    *,
    until: datetime,
    say: Callable[[str], None],
) -> None:
    """Live every day up to ``until``."""
    zone = ZoneInfo(connector.sync.timezone)
    day = clock.now().astimezone(zone).date()
    while (today := datetime.combine(day, RUN_AT, zone)) < until:
        changes = 0
        if today > clock.now():
            clock.pass_until(today.astimezone(UTC))
            report = connector.run(f"lived__{today.astimezone(UTC).isoformat()}")
            changes = sum(row[3] for row in report.changes)
        events = 0
        for hour in HOURS:
            moment = datetime.combine(day, hour, zone)
            if clock.now() < moment < until:
                clock.pass_until(moment.astimezone(UTC))
                life.act(moment)
                servers.deliver_webhooks()
                if hour != HOURS[-1]:
                    events += sum(connector.process_webhooks().values())
        say(f"  {day:%a %d %b}: {changes:,} changes by the daily run, {events:,} webhooks")
        day += timedelta(days=1)
