"""The audit by month: made ahead and on demand, dropped by age once sealed, still verifiable."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

import ml_connector.store
from ml_connector.audit import chain, partitions
from ml_connector.retention import maintain_audit
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade
from tests.integration.firm import Firm
from tests.integration.test_audit_sealed import found, tamper, verify, write

NOW = datetime.now(UTC)


def tables(firm: Firm) -> list[str]:
    with firm.database.begin() as connection:
        return [month.table for month in partitions.months(connection)]


def past(firm: Firm, months: int, number: int = 3) -> datetime:
    """Put rows into a month gone by."""
    at = partitions.month_of(NOW, later=-months) + timedelta(days=3)
    with firm.database.begin() as connection:
        connection.execute(text("SELECT ml_connector.make_audit_partition(:at)"), {"at": at})
        connection.execute(
            text("""INSERT INTO ml_connector.audit (at, sync, system, action, reason, outcome,
                        attempts, cause, dag_id, run_id, task_id, try_number, actor, seal_id)
                    SELECT :at, 'main', 'mailchimp', 'create', 'r', 'applied', 1, 'change:1', '', '',
                           '', 1, '', 's' FROM generate_series(1, :number)"""),
            {"at": at, "number": number},
        )
    return at


def keep(firm: Firm, months: int = 0) -> None:
    maintain_audit(firm.database, firm.vault, keep_months=months, clock=lambda: NOW)


def test_this_month_and_the_next_three_are_made_ahead(firm):
    keep(firm)
    expected = [partitions.month_of(NOW, later=n) for n in range(4)]
    assert tables(firm) == [f"audit_{month:%Y_%m}" for month in expected]


def test_a_missing_month_is_made_by_whoever_writes_first(firm):
    for table in tables(firm):
        tamper(firm, f"DROP TABLE ml_connector.{table}")
    write(firm, 2)
    assert f"audit_{NOW:%Y_%m}" in tables(firm)
    assert len(firm.audit()) == 2


def test_months_older_than_the_setting_are_dropped_and_the_chain_stays_verifiable(firm):
    for months in (5, 4, 2):
        past(firm, months)
    write(firm, 2)
    keep(firm)
    assert len(firm.audit()) == 11
    keep(firm, 3)
    assert len(firm.audit()) == 5
    assert (verify(firm).sound, found(firm)) == (5, [])
    write(firm, 2, first=50)
    keep(firm, 1)
    assert (verify(firm).sound, found(firm)) == (4, [])
    tamper(firm, "DELETE FROM ml_connector.audit WHERE id = 10")
    assert found(firm) == [("removed", 10)]


def test_a_month_that_somebody_reads_is_dropped_by_a_later_run_and_nobody_waits_for_it(firm):
    """A backup holds what it reads until it ends."""
    past(firm, 5)
    with firm.database.begin() as reader:
        reader.execute(text("SELECT count(*) FROM ml_connector.audit"))
        keep(firm, 3)
        write(firm, 2)
        assert len(firm.audit()) == 5
    keep(firm, 3)
    assert len(firm.audit()) == 2


def test_rows_of_a_dropped_month_among_newer_ones_are_no_fault(firm):
    past(firm, 5)
    write(firm, 1)
    past(firm, 5, number=1)
    keep(firm, 3)
    assert (verify(firm).sound, found(firm)) == (1, [])


def test_the_default_keeps_everything(firm):
    past(firm, 40)
    keep(firm)
    assert len(firm.audit()) == 3


def test_a_month_with_a_row_that_is_not_sealed_is_not_dropped(firm):
    past(firm, 5)
    chain.seal(firm.database, firm.vault)
    past(firm, 5, number=1)
    with firm.database.begin() as connection:
        assert not partitions.drop_old(connection, firm.vault, now=NOW, keep_months=3)
    assert len(firm.audit()) == 4


def test_a_forged_checkpoint_is_found(firm):
    past(firm, 5)
    write(firm, 2)
    keep(firm, 3)
    tamper(
        firm, "UPDATE ml_connector.audit_checkpoints SET dropped_before = now() + interval '1 d'"
    )
    assert ("seal altered", 3) in found(firm)


@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET error = 'x'", "DELETE FROM {}", "TRUNCATE {}"]
)
def test_every_month_is_append_only_by_itself(firm, statement):
    past(firm, 2)
    for table in ("audit", *tables(firm)):
        with firm.database.begin() as connection:
            rows = connection.execute(
                text(f"SELECT count(*) FROM ml_connector.{table}")
            ).scalar_one()
        if not rows and not statement.startswith("TRUNCATE"):
            continue
        with pytest.raises(DBAPIError, match="append-only"), firm.database.begin() as connection:
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
    with database.begin() as connection:
        assert connection.execute(listed).all() == before
        connection.execute(insert)
        ids = [row.id for row in connection.execute(listed)]
    assert ids == list(range(1, 11))
    for statement in ("DELETE FROM ml_connector.audit", "TRUNCATE ml_connector.audit"):
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as connection:
            connection.execute(text(statement))
    database.close()
    postgres.drop_database("former")
