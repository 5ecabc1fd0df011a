"""What the database protects: the trail, people's data, and itself."""

import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from local.postgres import temporary
from ml_connector.errors import RetryLater, SettingsError, StorageError
from ml_connector.store import migrate
from ml_connector.store.database import Database, copy_rows
from ml_connector.store.migrate import upgrade
from ml_connector.vault import Vault

SAMPLE = {"sample": True}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ml_connector.audit SET outcome = 'applied'",
        "DELETE FROM ml_connector.audit",
        "TRUNCATE ml_connector.audit",
        "TRUNCATE ml_connector.plans, ml_connector.changes, ml_connector.audit CASCADE",
    ],
)
def test_the_trail_can_only_be_added_to(company, statement):
    company.customer("Amy", "amy@finch.org")
    company.sync()
    before = company.audit()
    with pytest.raises(DBAPIError, match="append-only"), company.database.begin() as connection:
        connection.execute(text(statement))
    assert company.audit() == before


def personal_data(company) -> set[str]:
    """Every name, address, phone number and e-mail of the company."""
    found = company.quickbooks_control("GET", "customers")["customers"]
    words: set[str] = set()
    for customer in found:
        texts = [
            customer.get(name)
            for name in ("DisplayName", "CompanyName", "GivenName", "FamilyName", "Notes")
        ]
        texts += [(customer.get("PrimaryEmailAddr") or {}).get("Address")]
        texts += [
            (customer.get(name) or {}).get("FreeFormNumber")
            for name in ("PrimaryPhone", "Mobile", "Fax", "AlternatePhone")
        ]
        for name in ("BillAddr", "ShipAddr"):
            address = customer.get(name) or {}
            texts += [address.get(part) for part in ("Line1", "City", "PostalCode")]
        words |= {value.strip().lower() for value in texts if value and len(value.strip()) > 3}
    return words


def everything_stored(company) -> str:
    """Every row of every table: texts as they are, bytes both as text and as hexadecimal."""
    parts: list[str] = []
    with company.database.begin() as connection:
        tables = connection.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'ml_connector'")
        ).all()
        for (table,) in tables:
            rows = connection.execute(text(f"SELECT * FROM ml_connector.{table}")).all()
            for value in (value for row in rows for value in row):
                if isinstance(value, bytes | memoryview):
                    parts += [
                        bytes(value).decode("latin-1"),
                        bytes(value).decode("utf-8", "ignore"),
                    ]
                else:
                    parts.append(str(value))
    return "\n".join(parts).lower()


def test_no_table_holds_personal_data_in_clear(company):
    company.quickbooks_control("POST", "company", SAMPLE)
    company.sync()
    company.edit("1", Active=False)
    company.move("2", "moved.person@firm-mail.net")
    company.customer("Looks Fake", "fake.person@example.com")
    company.sync()
    words = personal_data(company)
    assert len(words) > 100
    stored = everything_stored(company)
    assert len(stored) > 20_000
    shown = {word for word in words if re.search(rf"\b{re.escape(word)}\b", stored)}
    assert shown == set()


def test_an_index_key_that_is_not_the_databases_stops_the_run_before_any_call(company):
    company.customer("Amy", "amy@finch.org")
    company.sync()
    company.clear_journals()
    company.vault = Vault(encryption_keys=[bytes(32)], index_key=b"x" * 32)
    with pytest.raises(SettingsError, match="ML_CONNECTOR_INDEX_KEY is not the key"):
        company.sync()
    assert company.calls("quickbooks") == company.calls("mailchimp") == []


def test_a_database_that_is_away_is_one_sentence(company):
    away = Database("postgresql://someone:hunter2@127.0.0.1:1/none")
    words = "the connector's database cannot be used"
    with pytest.raises(StorageError, match=words) as stopped, away.begin():
        pass
    assert "\n" not in str(stopped.value)
    assert "hunter2" not in str(stopped.value)


def test_a_wrong_password_is_one_sentence_and_is_not_shown(company):
    wrong = re.sub(r"//postgres:[^@]+@", "//postgres:hunter2@", company.database_url)
    words = "password authentication failed"
    with pytest.raises(StorageError, match=words) as stopped, Database(wrong).begin():
        pass
    assert "hunter2" not in str(stopped.value)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "postgresql://user@host:port/x", "mysql://user@host/x"]
)
def test_an_address_that_is_none_is_a_wrong_setting(url):
    with pytest.raises(SettingsError, match="not a postgresql:// URL"):
        Database(url)


def test_tables_that_are_not_there_say_how_to_make_them(postgres):
    postgres.create_database("bare")
    bare = Database(postgres.url("bare"))
    words = "run `ml-connector migrate`"
    with pytest.raises(StorageError, match=words), bare.begin() as connection:
        connection.execute(text("SELECT * FROM ml_connector.customers"))


def test_a_database_that_goes_away_in_the_middle_loses_nothing_that_was_committed(company):
    company.customer("Amy", "amy@finch.org")
    with temporary() as server:
        url = server.create_database("ours")
        upgrade(url)
        company.database = Database(url)

        def stop() -> None:
            server.stop()

        with pytest.raises(StorageError, match="the connector's database cannot be used"):
            company.sync(before_push=stop)
        assert company.members() == {}
        server.start()
        company.database.close()
        company.database = Database(server.url("ours"))
        company.sync()
        assert company.statuses() == {"amy@finch.org": "subscribed"}
        company.database.close()


def test_a_connection_lost_within_a_bulk_copy_is_a_storage_error(company):
    def rows():
        yield ("a", "b", "{}")
        with psycopg.connect(
            company.database_url.replace("+psycopg", ""), autocommit=True
        ) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'ml-connector' AND state = 'active'"
            )
        for number in range(100_000):
            yield ("a", f"b{number}", "{}")

    columns = {"sync": "text", "name": "text", "value": "jsonb"}
    words = "the connector's database cannot be used"
    with pytest.raises(StorageError, match=words), company.database.begin() as connection:
        copy_rows(connection, "ml_connector.cursors", columns, rows())


@pytest.mark.parametrize(
    ("expected", "words", "cause"),
    [
        (StorageError, "disk is full; nothing was lost", psycopg.errors.DiskFull("53100")),
        (StorageError, "read-only", psycopg.errors.ReadOnlySqlTransaction("25006")),
        (StorageError, "cannot be used: too many", psycopg.errors.TooManyConnections("too many")),
        (StorageError, "shutting down", psycopg.errors.AdminShutdown("shutting down\nDETAIL")),
        (RetryLater, "gave way to another run", psycopg.errors.DeadlockDetected("40P01")),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False], ids=["statement", "copy"])
def test_what_ails_a_database_is_one_sentence(company, expected, words, cause, wrapped):
    error = DBAPIError.instance("SELECT", None, cause, psycopg.Error) if wrapped else cause
    with pytest.raises(expected, match=words) as stopped, company.database.begin():
        raise error
    assert "\n" not in str(stopped.value)


def test_a_migration_runs_twice_without_a_change(company):
    company.customer("Amy", "amy@finch.org")
    company.sync()
    before = company.audit()
    upgrade(company.database_url)
    assert company.audit() == before


def test_migrations_at_once_wait_for_one_another(postgres):
    url = postgres.create_database("raced")
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(upgrade, url) for _ in range(4)]:
            done.result()
    with Database(url).begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM ml_connector.audit")).scalar_one() == 0


def test_deadlocks_do_not_pass_for_a_broken_database(company):
    with company.database.begin() as connection:
        for name in ("one", "two"):
            connection.execute(
                text("INSERT INTO ml_connector.cursors VALUES ('main', :name, '{}')"),
                {"name": name},
            )
    both_hold_one = threading.Barrier(2)

    def cross(first: str, second: str) -> str:
        try:
            with company.database.begin() as connection:
                lock = text("SELECT 1 FROM ml_connector.cursors WHERE name = :name FOR UPDATE")
                connection.execute(lock, {"name": first})
                both_hold_one.wait()
                connection.execute(lock, {"name": second})
        except RetryLater:
            return "told to retry"
        return "done"

    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(cross, *names) for names in (("one", "two"), ("two", "one"))]
    assert Counter(end.result() for end in ends) == {"told to retry": 1, "done": 1}


def test_a_migration_that_has_to_give_way_to_a_run_begins_again(company):
    as_it_was = (  # at 0016: what later versions did, undone
        "DROP TABLE ml_connector.unfit_values, ml_connector.unreadable_records",
        "DROP TABLE ml_connector.audit_batches",
        "DROP FUNCTION ml_connector.take_audit_ids",
        "ALTER TABLE ml_connector.audit_seals DROP COLUMN rows",
        """ALTER TABLE ml_connector.audit
           ALTER COLUMN id SET DEFAULT nextval('ml_connector.audit_id_seq')""",
        "ALTER TABLE ml_connector.customers DROP COLUMN opted_out, DROP COLUMN opted_out_at",
        """ALTER TABLE ml_connector.contacts
           DROP COLUMN complained, DROP COLUMN last_clicked_at, DROP COLUMN last_mailed_at,
           DROP COLUMN mailed, DROP COLUMN open_rate, DROP COLUMN click_rate,
           DROP COLUMN member_rating, DROP COLUMN web_id""",
        "DROP TABLE ml_connector.former_contacts, ml_connector.observations",
        "DROP VIEW ml_connector.all_changes, ml_connector.change_counts",
        "DROP TABLE ml_connector.change_batches",
        "DROP TYPE ml_connector.key_span",
        "ALTER TABLE ml_connector.batch_intents DROP COLUMN batch_id",
        "DROP INDEX ml_connector.customers_listed, ml_connector.contacts_listed",
        "DROP INDEX ml_connector.changes_sent_restores",
        "DROP INDEX ml_connector.member_events_seen",
        "CREATE INDEX member_events_newest ON ml_connector.member_events (sync, email_key, id)",
        """ALTER TABLE ml_connector.changes ADD CONSTRAINT changes_plan_id_fkey
           FOREIGN KEY (plan_id) REFERENCES ml_connector.plans (id)""",
        "UPDATE ml_connector.alembic_version SET version_num = '0016'",
    )
    with company.database.begin() as connection:
        for statement in as_it_was:
            connection.execute(text(statement))
        # Whose patience ends first gives way: the migration's, however slow the machine.
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET deadlock_timeout = '4s'"))
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with ThreadPoolExecutor(1) as pool:
        with company.database.begin() as run:
            run.execute(text("SET LOCAL deadlock_timeout = '60s'"))
            run.execute(text("SELECT 1 FROM ml_connector.plans"))
            migration = pool.submit(upgrade, company.database_url)
            while not run.execute(waiting).scalar_one():
                assert not migration.done()
            run.execute(text("SELECT 1 FROM ml_connector.changes"))  # a ring: one has to give way
        migration.result()
    with company.database.begin() as connection:
        version = connection.execute(text("SELECT version_num FROM ml_connector.alembic_version"))
        assert version.scalar_one() > "0016"


def test_notes_are_added_while_runs_read_and_write(postgres):
    """0019 only: COMMENT ON waits for neither readers nor writers, and they do not wait for it."""
    url = postgres.create_database("noted")
    config = Config()
    folder = Path(migrate.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))

    def migrate_to(revision: str) -> None:
        with Database(url).begin() as connection:
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS ml_connector"))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

    migrate_to("0018")
    note = text("SELECT obj_description('ml_connector.customers'::regclass, 'pg_class')")
    with Database(url).begin() as run:
        assert run.execute(note).scalar_one() is None
        run.execute(text("INSERT INTO ml_connector.cursors VALUES ('main', 'a', '1')"))
        run.execute(text("SELECT 1 FROM ml_connector.customers FOR UPDATE"))
        run.execute(text("LOCK TABLE ml_connector.audit IN ROW EXCLUSIVE MODE"))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(migrate_to, "0019").result(timeout=60)
        run.execute(text("INSERT INTO ml_connector.cursors VALUES ('main', 'b', '2')"))
    with Database(url).begin() as connection:
        assert connection.execute(note).scalar_one().startswith("A QuickBooks customer")
    postgres.drop_database("noted")
