"""A database of one's own: least privileges as deploy/database_roles.sql has them, and UTF8 only."""

from pathlib import Path
from shutil import which
from subprocess import run

import psycopg
import pytest
from sqlalchemy import make_url

from local.postgres import binaries
from ml_connector.errors import SettingsError
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade
from tests.integration.company import Company

ROOT = Path(__file__).resolve().parents[2]
OWNER, WORKER = "tables_owner", "tables_worker"


@pytest.fixture
def as_role(postgres, request):
    """Addresses of a new database for each of both roles; the file has been run there."""
    name = "roles"
    postgres.create_database(name)
    url = make_url(postgres.url(name, driver=""))
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        for role in (OWNER, WORKER):
            admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'of-a-test'")
    apply_roles(url)
    yield lambda role: url.set(
        drivername="postgresql", username=role, password="of-a-test"
    ).render_as_string(hide_password=False)
    postgres.drop_database(name)
    with psycopg.connect(postgres.url("postgres", driver=""), autocommit=True) as admin:
        for role in (OWNER, WORKER):
            admin.execute(f"DROP ROLE {role}")


def apply_roles(url) -> None:
    psql = binaries() / "psql"
    done = run(
        [
            psql if psql.exists() else which("psql"),
            *("--dbname", url.render_as_string(hide_password=False), "--quiet"),
            *(f"--set=owner={OWNER}", f"--set=worker={WORKER}"),
            f"--file={ROOT / 'deploy/database_roles.sql'}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_owner_migrates_and_the_worker_syncs_without_any_other_right(
    as_role, mock_servers, tmp_path
):
    upgrade(as_role(OWNER))
    mock_servers.reset()
    worker = Company(mock_servers=mock_servers, database_url=as_role(WORKER), folder=tmp_path)
    try:
        worker.customer("Amy", "amy@finch.org")
        worker.sync()
        assert worker.statuses() == {"amy@finch.org": "subscribed"}
        worker.clear_journals()
        worker.sync()
        assert worker.writes() == []
    finally:
        worker.close()


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE ml_connector.audit", "TRUNCATE ml_connector.customers", "CREATE SCHEMA another"],
)
def test_the_worker_can_neither_drop_nor_empty_nor_create(as_role, statement):
    upgrade(as_role(OWNER))
    with (
        psycopg.connect(as_role(WORKER)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_is_not_utf8_is_refused_with_a_sentence(postgres, encoding):
    name = f"other_{encoding.lower()}"
    with psycopg.connect(postgres.url("postgres", driver=""), autocommit=True) as admin:
        admin.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0"
            " LOCALE_PROVIDER libc LOCALE 'C'"
        )
    try:
        with pytest.raises(SettingsError, match=f"encoding {encoding}; create one with ENCODING"):
            upgrade(postgres.url(name))
        with pytest.raises(SettingsError), Database(postgres.url(name)).begin():
            pass
    finally:
        postgres.drop_database(name)
