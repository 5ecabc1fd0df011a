"""The company of `make run LIVED=1`: a short and small month of it, lived for real."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

from sqlalchemy import text

from local.lived.month import RUN_AT, Month, live
from local.lived.people import iter_customers
from local.settings import Ports, sandbox_credentials
from ml_connector.audit import chain
from ml_connector.settings import load_sync
from ml_connector.sync import guard

SETTINGS = Path(__file__).resolve().parents[2] / "include" / "config" / "syncs.yaml"
DAYS = 2
FRIDAY, HOUR = 4, 20
CLOCKS = """
    SELECT DISTINCT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
    JOIN pg_class c ON c.oid = d.adrelid
    WHERE c.relnamespace = 'ml_connector'::regnamespace
      AND pg_get_expr(d.adbin, d.adrelid) LIKE '%clock%'"""


def latest_friday() -> datetime:
    """Return an hour of the last Friday that is over; no campaign is sent in the days before it."""
    today = datetime.now(UTC).replace(hour=HOUR, minute=0, second=0, microsecond=0)
    return today - timedelta(days=(today.weekday() - FRIDAY - 1) % 7 + 1)


def test_a_lived_month_is_a_real_past_and_ends_with_a_plan_that_waits(company):
    ports = {
        f"{system}_port": int(url.rpartition(":")[2])
        for system, url in vars(company.mock_servers).items()
    }
    until = latest_friday()
    live(
        sandbox_credentials(Ports(**ports)),
        database_url=company.database_url.replace("+psycopg", ""),
        vault=company.vault,
        sync="main",
        settings=SETTINGS,
        month=Month(customers=60, days=DAYS),
        until=until,
        say=lambda _: None,
    )
    with company.database.begin() as connection:
        first, *daily = connection.execute(
            text("SELECT created_at FROM ml_connector.plans WHERE kind = 'sync' ORDER BY id")
        ).scalars()
        clocks = connection.execute(text(CLOCKS)).scalars().all()
        schemas = connection.execute(text("SELECT nspname FROM pg_namespace")).scalars().all()
    with company.database.begin() as connection:
        audit = chain.verify(connection, company.vault)
    zone = ZoneInfo(load_sync("main", SETTINGS).timezone)
    assert until - timedelta(days=DAYS) <= first < daily[0]
    assert len(daily) == DAYS
    assert {at.astimezone(zone).hour for at in daily} == {RUN_AT.hour}
    assert daily[-1] < until
    assert clocks == ["clock_timestamp()"]
    assert "lived" not in schemas
    assert company.inbox().keys() == {"done", "quarantined"}
    assert audit.findings == []

    scope = company.scope()
    planned = company.decide(scope)
    held = guard.hold_plan(scope, plan_id=planned.plan_id)
    assert held is not None
    assert "would be archived" in held.why


def test_its_people_are_invented_and_the_same_for_the_same_seed():
    people = list(iter_customers(400, Random(7)))
    assert people == list(iter_customers(400, Random(7)))
    for own, body in people:
        assert not own or own.endswith(".example")
        number = body.get("PrimaryPhone", {}).get("FreeFormNumber", "555-01")
        assert "555-01" in number
