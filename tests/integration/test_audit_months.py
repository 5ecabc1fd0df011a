"""The audit by month: made ahead and on demand, dropped by age once sealed, still verifiable."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

import ml_connector.store
from ml_connector.audit import chain, partitions, trail
from ml_connector.audit.trail import Entry
from ml_connector.model import RunContext
from ml_connector.retention import maintain_audit
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade
from ml_connector.vault import Vault
from tests.integration.company import Company
from tests.integration.test_audit_sealed import found, tamper, verify, write

NOW = datetime.now(UTC)


def tables(company: Company) -> list[str]:
    with company.database.begin() as connection:
        return [month.table for month in partitions.months(connection)]


def past(company: Company, months: int, number: int = 3) -> datetime:
    """Put rows into a month gone by."""
    at = partitions.month_of(NOW, later=-months) + timedelta(days=3)
    put(company, at, number)
    return at


def put(company: Company, at: datetime, number: int) -> None:
    """Write rows in one batch, the first one at a time."""
    entry = Entry(sync="main", action="create", reason="r", outcome="applied", cause="change:1")
    batch = trail.encrypted([entry] * number, run=RunContext(), vault=company.vault)
    since_2000 = (at - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    with company.database.begin() as connection:
        for month in (at, at + timedelta(days=1)):
            connection.execute(text("SELECT ml_connector.make_audit_partition(:at)"), {"at": month})
        trail.write_batch(connection, batch, at=since_2000, vault=company.vault)


def keep(company: Company, months: int = 0) -> None:
    maintain_audit(company.database, company.vault, keep_months=months, clock=lambda: NOW)


def test_this_month_and_the_next_three_are_made_ahead(company):
    keep(company)
    expected = [partitions.month_of(NOW, later=n) for n in range(4)]
    assert tables(company) == [f"audit_{month:%Y_%m}" for month in expected]


def test_a_missing_month_is_made_by_whoever_writes_first(company):
    for table in tables(company):
        tamper(company, f"DROP TABLE ml_connector.{table}")
    write(company, 2)
    assert f"audit_{NOW:%Y_%m}" in tables(company)
    assert len(company.audit()) == 2


def test_months_older_than_the_setting_are_dropped_and_the_chain_stays_verifiable(company):
    for months in (5, 4, 2):
        past(company, months)
    write(company, 2)
    keep(company)
    assert len(company.audit()) == 11
    keep(company, 3)
    assert len(company.audit()) == 5
    assert (verify(company).sound, found(company)) == (5, [])
    write(company, 2, first=50)
    keep(company, 1)
    assert (verify(company).sound, found(company)) == (4, [])
    tamper(company, "DELETE FROM ml_connector.audit WHERE id = 10")
    assert found(company) == [("removed", 10)]


def test_a_month_that_somebody_reads_is_dropped_by_a_later_run_and_nobody_waits_for_it(company):
    """A backup holds what it reads until it ends."""
    past(company, 5)
    with company.database.begin() as reader:
        reader.execute(text("SELECT count(*) FROM ml_connector.audit"))
        keep(company, 3)
        write(company, 2)
        assert len(company.audit()) == 5
    keep(company, 3)
    assert len(company.audit()) == 2


def test_rows_of_a_dropped_month_among_newer_ones_are_no_fault(company):
    past(company, 5)
    write(company, 1)
    past(company, 5, number=1)
    keep(company, 3)
    assert (verify(company).sound, found(company)) == (1, [])


def test_a_batch_across_two_months_loses_the_older_one_only(company):
    put(company, partitions.month_of(NOW, later=-3) - timedelta(microseconds=2), 5)
    write(company, 2)
    keep(company, 3)
    assert [row["id"] for row in company.audit()] == [3, 4, 5, 6, 7]
    assert (verify(company).sound, found(company)) == (5, [])
    tamper(company, "DELETE FROM ml_connector.audit WHERE id = 4")
    assert found(company) == [("removed", 4)]


def test_the_default_keeps_everything(company):
    past(company, 40)
    keep(company)
    assert len(company.audit()) == 3


def test_a_month_with_a_row_that_is_not_sealed_is_not_dropped(company):
    past(company, 5)
    chain.seal(company.database, company.vault)
    past(company, 5, number=1)
    with company.database.begin() as connection:
        assert not partitions.drop_old(connection, company.vault, now=NOW, keep_months=3)
    assert len(company.audit()) == 4


def test_a_forged_checkpoint_is_found(company):
    past(company, 5)
    write(company, 2)
    keep(company, 3)
    tamper(
        company, "UPDATE ml_connector.audit_checkpoints SET dropped_before = now() + interval '1 d'"
    )
    assert ("seal altered", 3) in found(company)


@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET error = 'x'", "DELETE FROM {}", "TRUNCATE {}"]
)
def test_every_month_is_append_only_by_itself(company, statement):
    past(company, 2)
    for table in ("audit", *tables(company)):
        with company.database.begin() as connection:
            rows = connection.execute(
                text(f"SELECT count(*) FROM ml_connector.{table}")
            ).scalar_one()
        if not rows and not statement.startswith("TRUNCATE"):
            continue
        with pytest.raises(DBAPIError, match="append-only"), company.database.begin() as connection:
            connection.execute(text(statement.format(f"ml_connector.{table}")))


def test_rows_from_before_the_months_are_kept_as_they_were(postgres):
    """The shipped table becomes the first partition, nothing copied; ids go on."""
    postgres.create_database("former")
    url = postgres.url("former")
    database = Database(url)
    config = Config()
    folder = Path(ml_connector.store.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    insert = text("""INSERT INTO ml_connector.audit (sync, system, action, reason, outcome, attempts,
                         cause, dag_id, run_id, task_id, try_number, actor, seal_id, after)
                     SELECT 'main', 'mailchimp', 'create', 'r', 'applied', 1, 'change:' || n, '', '',
                            '', 1, '', 's', 'sealed' FROM generate_series(1, 5) n""")
    listed = text("SELECT id, at, cause, after FROM ml_connector.audit ORDER BY id")
    with database.begin() as connection:
        connection.execute(text("CREATE SCHEMA ml_connector"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
    with database.begin() as connection:
        connection.execute(insert)
        before = connection.execute(listed).all()
    upgrade(url)
    entry = Entry(sync="main", action="create", reason="r", outcome="applied", cause="change:1")
    vault = Vault(encryption_keys=[bytes(32)], index_key=bytes(32))
    with database.begin() as connection:
        assert connection.execute(listed).all() == before
        trail.append(connection, [entry] * 5, run=RunContext(), vault=vault)
        ids = [row.id for row in connection.execute(listed)]
    assert ids == list(range(1, 11))
    for statement in ("DELETE FROM ml_connector.audit", "TRUNCATE ml_connector.audit"):
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as connection:
            connection.execute(text(statement))
    database.close()
    postgres.drop_database("former")
