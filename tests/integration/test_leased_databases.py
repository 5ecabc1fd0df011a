"""Tests share databases: whatever one leaves, the next finds an empty one of the migrated schema."""

import pytest
from sqlalchemy import text

from ml_connector.errors import StorageError

ROW = """
INSERT INTO ml_connector.audit (id, at, sync, system, action, reason, outcome, error, attempts, cause,
    dag_id, run_id, task_id, try_number, actor, seal_id)
VALUES (nextval('ml_connector.audit_id_seq'), now(), 'main', 'mailchimp', 'create', '', 'applied', '', 1, 'change:1', '', '', '', 1, '', 0)"""
CHANGES = {
    "a table": "CREATE TABLE ml_connector.left_behind (id int)",
    "a column": "ALTER TABLE ml_connector.plans ADD COLUMN left_behind int",
    "a trigger": "ALTER TABLE ml_connector.audit DISABLE TRIGGER audit_append_only",
    "a setting": "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 9000',"
    " current_database()); END $$",
    "the version": "UPDATE ml_connector.alembic_version SET version_num = '1'",
}


def counted(lent, table: str) -> int:
    with lent.database.begin() as connection:
        found = connection.execute(text(f"SELECT count(*) FROM ml_connector.{table}"))
        return int(found.scalar_one())


def test_rows_audit_included_are_gone_and_numbers_begin_at_one(databases):
    with databases.leased() as lent:
        name = lent.name
        for _ in range(2):
            with lent.database.begin() as connection:
                connection.execute(text(ROW))
        assert counted(lent, "audit") == 2
    with databases.leased() as lent:
        assert lent.name == name
        assert counted(lent, "audit") == 0
        with lent.database.begin() as connection:
            assert connection.execute(text(f"{ROW} RETURNING id")).scalar_one() == 1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_database_whose_schema_or_settings_were_changed_is_not_used_again(databases, change):
    with databases.leased() as lent:
        name = lent.name
        with lent.database.begin() as connection:
            connection.execute(text(change))
    with databases.leased() as lent:
        assert lent.name != name
        assert counted(lent, "alembic_version") == 1


def test_a_transaction_left_open_is_ended(databases):
    with databases.leased() as lent:
        left = lent.database.begin()
        left.__enter__().execute(text("LOCK TABLE ml_connector.plans"))
    with databases.leased() as lent:
        assert counted(lent, "plans") == 0
    with pytest.raises(StorageError, match="terminating connection"):
        left.__exit__(None, None, None)
