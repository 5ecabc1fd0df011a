"""A database that is full, silent, or takes no more connections.

What was acknowledged is kept; each fault is one plain sentence.
"""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from local.owner import unprivileged_owner
from local.postgres import EmbeddedPostgres
from ml_connector.errors import StorageError
from ml_connector.store.database import PATIENT_CONNECTION, Database
from ml_connector.store.migrate import upgrade
from tests.integration.receiving import Served, cloud_event, serving

MIB = 1 << 20


def assert_one_sentence(error: StorageError, password: str) -> None:
    """The message is one line that a user can act on, without a secret or a traceback."""
    said = str(error)
    assert "\n" not in said
    assert "Traceback" not in said
    assert password not in said
    assert len(said) <= 200
    assert re.search(r"(retry|free space|raise|point) ", said + " "), said


def refused(served: Served, number: int) -> bool:
    """Send an event; return whether it was refused, which is to be 503 with a time to come again."""
    answer = served.quickbooks([cloud_event(number, data={"filler": "x" * 2_000})])
    assert answer.status_code in (200, 503)
    assert answer.ok or int(answer.headers["retry-after"]) > 0
    return not answer.ok


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres of its own."""
    with EmbeddedPostgres(tmp_path / "postgres", throwaway=True) as running:
        yield running


# ── a full disk ───────────────────────────────────────────────────────────────────────────────


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of ``size`` bytes that Postgres may write to."""
    folder.mkdir()
    owner = unprivileged_owner()
    if owner is None:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"mount is not permitted here: {done.stderr.strip()}")
    try:
        place = folder / "space"
        place.mkdir(mode=0o700)
        shutil.chown(place, owner.pw_uid, owner.pw_gid)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.endurance
def test_a_full_disk_loses_nothing_acknowledged_and_is_left_without_a_person(server, tmp_path):
    with small_disk(tmp_path / "disk", 48 * MIB) as place:
        with psycopg.connect(server.url("postgres", driver=""), autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            connection.execute("CREATE DATABASE inbox TABLESPACE small")
        url = server.url("inbox")
        upgrade(url)
        numbers = iter(range(1, 1_000_000))
        with serving(url) as served:
            assert not refused(served, next(numbers))
            ballast = place.parent / "ballast"
            free = shutil.disk_usage(place).free
            ballast.write_bytes(b"\0" * (free - free % 4096))
            acknowledged = 1
            while not refused(served, next(numbers)):
                acknowledged += 1
            with closing(Database(url)) as database, pytest.raises(StorageError) as full:  # noqa: SIM117
                with database.begin() as connection:
                    connection.execute(text("CREATE TABLE much AS SELECT generate_series(1, 9999)"))
            assert_one_sentence(full.value, server.password)
            ballast.unlink()
            assert not refused(served, next(numbers))  # nobody restarts anything
            assert len(served.rows()) == acknowledged + 1
        server.drop_database("inbox")


# ── connections ───────────────────────────────────────────────────────────────────────────────


def test_a_server_without_a_free_connection_is_503_and_one_sentence(server):
    server.create_database("inbox")
    url = server.url("inbox")
    upgrade(url)
    with ExitStack() as taken:
        with pytest.raises(psycopg.OperationalError):  # noqa: PT012 -- whichever is refused
            while True:
                taken.enter_context(psycopg.connect(server.url("inbox", driver="")))
        with serving(url) as served, closing(Database(url)) as database:
            assert refused(served, 1)
            with pytest.raises(StorageError) as none_left, database.begin():
                pass
            assert_one_sentence(none_left.value, server.password)
            taken.close()
            while refused(served, 1):  # the server takes a moment to notice
                pass
            with database.begin():
                pass


def test_a_transaction_that_the_server_ended_is_one_sentence_and_the_next_one_works(
    database_url, postgres
):
    with closing(Database(database_url)) as database:
        with pytest.raises(StorageError) as ended, database.begin() as connection:  # noqa: PT012 -- the error is of the block's end
            connection.execute(text("SET idle_in_transaction_session_timeout = 1"))
            raw: Any = connection.connection.driver_connection
            with socket.socket(fileno=raw.fileno()) as wire:
                wire.settimeout(60)
                wire.recv(1, socket.MSG_PEEK)  # the server's last words
                wire.detach()
            connection.execute(text("SELECT 1"))
        assert_one_sentence(ended.value, postgres.password)
        with database.begin() as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="options of Linux")
def test_a_connection_into_a_black_hole_ends_in_a_minute_unless_its_address_says_otherwise(
    database_url,
):
    """What the kernel was told: no test waits for a minute."""
    wanted = PATIENT_CONNECTION
    options = {
        socket.TCP_USER_TIMEOUT: wanted["tcp_user_timeout"],
        socket.TCP_KEEPIDLE: wanted["keepalives_idle"],
        socket.TCP_KEEPINTVL: wanted["keepalives_interval"],
        socket.TCP_KEEPCNT: wanted["keepalives_count"],
    }
    seconds = wanted["keepalives_idle"] + (
        wanted["keepalives_interval"] * wanted["keepalives_count"]
    )
    assert seconds <= 60
    assert wanted["tcp_user_timeout"] <= 60_000
    assert told(database_url, *options) == list(options.values())
    assert told(f"{database_url}?keepalives_idle=7", socket.TCP_KEEPIDLE) == [7]


def told(url: str, *options: int) -> list[int]:
    """Return what the kernel knows of a connection."""
    with closing(Database(url)) as database, database.begin() as connection:
        raw: Any = connection.connection.driver_connection
        wire = socket.socket(fileno=raw.fileno())
        try:
            return [wire.getsockopt(socket.IPPROTO_TCP, each) for each in options]
        finally:
            wire.detach()
