"""Many processes, one refresh token: it is redeemed once, whoever is slow."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from ml_connector.errors import StorageError
from ml_connector.store.database import Database
from ml_connector.store.refresh_lock import refresh_lock
from tests.integration.token_worker import CONN_ID, STRICT, Desk, stampede

pytestmark = pytest.mark.endurance


@pytest.fixture
def desk(mock_servers, database_url, tmp_path) -> Desk:
    return Desk(
        quickbooks=mock_servers.quickbooks,
        database_url=database_url,
        path=Path(tmp_path) / "token.json",
    )


def test_twenty_processes_redeem_once_a_round_though_the_endpoint_outlasts_the_lock_wait(
    desk,
) -> None:
    impatient = replace(desk, wait_seconds=0.3).fresh(
        **STRICT, revoke_on_concurrent=True, token_latency_ms=400
    )
    seen = stampede(impatient, callers=20, rounds=10)
    assert (dict(seen.redeemed), seen.refused, seen.failed) == ({1: 10}, 0, ()), str(seen)
    assert (seen.disagreed, seen.revoked, seen.at_once) == (0, False, 1), str(seen)


def test_a_refresh_token_that_stays_the_same_is_redeemed_once_a_round_too(desk) -> None:
    seen = stampede(desk.fresh(rotate="daily", token_latency_ms=20), callers=8, rounds=5)
    assert (dict(seen.redeemed), seen.failed, seen.disagreed) == ({1: 5}, (), 0), str(seen)


def test_a_database_that_ends_idle_and_long_statements_does_not_end_the_lock(desk) -> None:
    # Managed databases often set these; the lock's transaction is idle while QuickBooks answers.
    with Database(desk.database_url).begin() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        for setting in (
            "idle_in_transaction_session_timeout",
            "statement_timeout",
            "transaction_timeout",
        ):
            connection.execute(text(f"ALTER DATABASE {name} SET {setting} = '150ms'"))
    slow = desk.fresh(**STRICT, revoke_on_concurrent=True, token_latency_ms=500)
    seen = stampede(slow, callers=5, rounds=2)
    assert (dict(seen.redeemed), seen.refused, seen.failed) == ({1: 2}, 0, ()), str(seen)


def test_waiting_in_vain_names_what_hangs(desk) -> None:
    database = Database(desk.database_url)
    with (
        refresh_lock(database, CONN_ID),
        pytest.raises(StorageError, match="another process has been renewing"),
        refresh_lock(database, CONN_ID, wait_seconds=0.01),
    ):
        raise AssertionError("two hold the lock")
