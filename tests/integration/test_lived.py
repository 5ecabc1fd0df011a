"""The company of `make run LIVED=1`: a short and small month of it, lived for real."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from sqlalchemy import text

from local.lived.month import Month, live
from local.lived.people import iter_customers
from local.settings import Ports, sandbox_credentials
from ml_connector.audit import chain
from ml_connector.sync import guard

SETTINGS = Path(__file__).resolve().parents[2] / "include" / "config" / "syncs.yaml"
DAYS = 2
CLOCKS = """
    SELECT DISTINCT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
    JOIN pg_class c ON c.oid = d.adrelid
    WHERE c.relnamespace = 'ml_connector'::regnamespace
      AND pg_get_expr(d.adbin, d.adrelid) LIKE '%clock%'"""


def test_a_lived_month_is_a_real_past_and_ends_with_a_plan_that_waits(company):
    ports = {
        f"{system}_port": int(url.rpartition(":")[2])
        for system, url in vars(company.mock_servers).items()
    }
    live(
        sandbox_credentials(Ports(**ports)),
        database_url=company.database_url.replace("+psycopg", ""),
        vault=company.vault,
        sync="main",
        settings=SETTINGS,
        month=Month(customers=60, days=DAYS),
        say=lambda _: None,
    )
    now = datetime.now(UTC)
    with company.database.begin() as connection:
        runs = connection.execute(
            text("SELECT created_at FROM ml_connector.plans WHERE kind = 'sync' ORDER BY id")
        ).scalars()
        days = {at.date() for at in runs}
        clocks = connection.execute(text(CLOCKS)).scalars().all()
        schemas = connection.execute(text("SELECT nspname FROM pg_namespace")).scalars().all()
    with company.database.begin() as connection:
        audit = chain.verify(connection, company.vault)
    assert min(days) == (now - timedelta(days=DAYS)).date()
    assert len(days) > DAYS
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
