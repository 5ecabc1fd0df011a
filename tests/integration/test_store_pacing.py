"""The rate window that all workers share: granted times are computed, nobody really waits."""

import time
from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from ml_connector.store import pacing


def granted(company, account: str, places: int) -> list[float]:
    """Reserve places one after another; return the database's times at which they are free."""
    times = []
    for _ in range(places):
        with company.database.begin() as connection:
            wait = pacing.reserve(connection, account=account)
            # Read within the transaction that holds the row, so nobody comes in between.
            now = connection.execute(
                text("SELECT extract(epoch FROM clock_timestamp())::float8")
            ).scalar_one()
            times.append(now + wait)
    return times


def waits(company, reserve: Callable[..., float], account: str, places: int) -> list[float]:
    """Reserve places one after another; return how long to wait for each."""
    found = []
    for _ in range(places):
        with company.database.begin() as connection:
            found.append(reserve(connection, account=account))
    return found


def most_within(times: list[float], seconds: float) -> int:
    times = sorted(times)
    return max(index + 1 - bisect_left(times, time - seconds) for index, time in enumerate(times))


def test_three_workers_never_get_more_than_ten_places_in_any_second(company):
    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        parts = [pool.submit(granted, company, "quickbooks_default", 30) for _ in range(3)]
    times = [time for part in parts for time in part.result()]
    assert len(times) == 90
    assert most_within(times, 0.999) <= 10
    asking = time.monotonic() - began  # a place that nobody asked for in time is lost
    assert max(times) - min(times) < 90 / 8 + 0.5 + asking, "and they do get eight a second"


def test_never_more_than_500_in_any_minute(company):
    times = granted(company, "quickbooks_default", 600)
    assert most_within(times, 59.999) <= 500


def test_an_account_waits_for_nobody_but_itself(company):
    granted(company, "one", 40)
    assert waits(company, pacing.reserve, "other", 1) == [0]


def test_the_first_calls_wait_for_nothing(company):
    with company.database.begin() as connection:
        assert pacing.reserve(connection, account="a") == 0
    with company.database.begin() as connection:
        assert pacing.reserve(connection, account="a") == pytest.approx(0, abs=0.05)


def test_a_window_left_alone_does_not_save_up_places(company):
    granted(company, "a", 1)
    with company.database.begin() as connection:
        connection.execute(
            text("UPDATE ml_connector.pacing SET free_at = now() - interval '1 hour'")
        )
    assert most_within(granted(company, "a", 30), 0.999) <= 10


def granted_batches(company, account: str, places: int) -> list[float]:
    """Reserve batches one after another; return the database's times at which they may leave."""
    times = []
    for _ in range(places):
        with company.database.begin() as connection:
            wait = pacing.reserve_batch(connection, account=account)
            now = connection.execute(
                text("SELECT extract(epoch FROM clock_timestamp())::float8")
            ).scalar_one()
            times.append(now + wait)
    return times


def test_four_workers_never_get_more_than_40_batches_in_any_minute(company):
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        parts = [pool.submit(granted_batches, company, "quickbooks_default", 60) for _ in range(4)]
    times = [time for part in parts for time in part.result()]
    assert len(times) == 240
    assert most_within(times, 60) <= 40
    asking = time.monotonic() - began
    assert max(times) - min(times) < 5 * 61 + 5 + asking, "and they do get 40 a minute"


def test_the_first_40_batches_wait_for_nothing_and_the_next_a_minute(company):
    first = waits(company, pacing.reserve_batch, "quickbooks_default", 40)
    assert first == [0] * 40
    (then,) = waits(company, pacing.reserve_batch, "quickbooks_default", 1)
    assert 30 < then < 61, "from the first of them"


def test_batches_left_alone_for_an_hour_are_forgotten_and_do_not_save_up(company):
    granted_batches(company, "a", 100)
    with company.database.begin() as connection:
        connection.execute(
            text("""UPDATE ml_connector.pacing SET recent =
                    ARRAY(SELECT at - interval '1 hour' FROM unnest(recent) AS at ORDER BY at)""")
        )
    assert waits(company, pacing.reserve_batch, "a", 40) == [0] * 40
    assert min(waits(company, pacing.reserve_batch, "a", 40)) > 30


def test_places_a_batch_took_are_none_of_the_calls_and_no_other_accounts(company):
    granted_batches(company, "one", 45)
    assert waits(company, pacing.reserve, "one", 1) == [0]
    assert waits(company, pacing.reserve_batch, "other", 1) == [0]


def test_no_more_than_the_last_40_batches_are_remembered(company):
    granted_batches(company, "a", 120)
    with company.database.begin() as connection:
        kept = connection.execute(
            text("SELECT cardinality(recent) FROM ml_connector.pacing")
        ).scalar_one()
    assert kept <= 40
