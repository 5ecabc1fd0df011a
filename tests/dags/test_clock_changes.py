"""Nights on which the clocks change: no day is left without a run."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pendulum
import pytest
from airflow.timetables import interval
from airflow.timetables.base import DataInterval, TimeRestriction

from ml_connector.rules.clock_changes import skipped_day
from ml_connector.settings import Sync, load_syncs

NIGHTS = {  # forward and back
    "America/Los_Angeles": ("2027-03-14", "2027-11-07"),
    "Europe/Berlin": ("2027-03-28", "2027-10-31"),
    "America/Santiago": ("2027-09-05", "2027-04-04"),
    "Australia/Sydney": ("2027-10-03", "2027-04-04"),
}
SKIPPED = {"America/Santiago": "30 0 * * *"}
DAYS = 3


def runs(cron: str, timezone: str, night: str) -> Iterator[pendulum.DateTime]:
    """Yield the runs around a night as Airflow's scheduler makes them, in local time."""
    timetable = interval.CronDataIntervalTimetable(cron, timezone=timezone)
    middle = pendulum.parse(night, tz=timezone)
    earliest = pendulum.datetime(2026, 1, 1, tz=timezone)
    restriction = TimeRestriction(earliest=earliest, latest=None, catchup=False)
    last: DataInterval | None = None
    for half_hour in range(-48 * DAYS, 48 * DAYS + 1):
        now = middle.in_timezone("UTC").add(minutes=30 * half_hour)
        with mock.patch.object(interval, "utcnow", lambda now=now: now):
            info = timetable.next_dagrun_info(
                last_automated_data_interval=last, restriction=restriction
            )
        if info.run_after <= now:
            last = info.data_interval
            yield info.run_after.in_timezone(timezone)


def missed(cron: str, timezone: str, night: str) -> set[str]:
    middle = datetime.fromisoformat(night)
    days = {f"{middle + timedelta(days=each):%Y-%m-%d}" for each in range(1 - DAYS, DAYS)}
    return days - {f"{run:%Y-%m-%d}" for run in runs(cron, timezone, night)}


@pytest.mark.parametrize("timezone", NIGHTS)
def test_the_shipped_schedule_runs_every_day_in_every_time_zone(timezone):
    shipped = load_syncs(Path("include/config/syncs.yaml")).values()
    for cron in {*(sync.schedule for sync in shipped), Sync.model_fields["schedule"].default}:
        assert not set().union(*(missed(cron, timezone, night) for night in NIGHTS[timezone]))
        assert skipped_day(cron, timezone, after=datetime(2027, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize("timezone", NIGHTS)
def test_a_schedule_in_the_skipped_hour_is_found_and_does_lose_a_day(timezone):
    cron = SKIPPED.get(timezone, "30 2 * * *")
    found = skipped_day(cron, timezone, after=datetime(2027, 1, 1, tzinfo=UTC))
    assert f"{found:%Y-%m-%d}" == NIGHTS[timezone][0]
    assert missed(cron, timezone, NIGHTS[timezone][0]) == {NIGHTS[timezone][0]}


@pytest.mark.parametrize("cron", ["*/15 * * * *", "0 * * * *", "30 2,14 * * *"])
def test_a_schedule_that_runs_again_on_that_day_is_not_reported(cron):
    assert skipped_day(cron, "Europe/Berlin", after=datetime(2027, 1, 1, tzinfo=UTC)) is None
