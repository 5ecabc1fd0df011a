"""Find schedules whose hour a clock change skips.

Airflow 3.3 drops the run of that day: on the day after, its cron timetable counts from the day
before the change. A schedule outside the skipped hour loses none.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter

_YEAR = 366


def skipped_day(cron: str, timezone: str, *, after: datetime) -> datetime | None:
    """Return the first local time of a schedule that the clocks skip within a year, else None.

    A schedule that runs again on the same day loses nothing and is no such case. ``after``: aware.
    """
    zone = ZoneInfo(timezone)
    for day in range(_YEAR):
        start = (after + timedelta(days=day)).astimezone(UTC)
        before, then = (start + timedelta(days=each) for each in (0, 1))
        forward = _offset(then, zone) - _offset(before, zone)
        if forward <= timedelta():
            continue
        gap = _change(before, then, zone).astimezone(zone).replace(tzinfo=None)
        midnight = gap.replace(hour=0, minute=0, second=0)
        runs = croniter(cron, midnight - timedelta(seconds=1)).all_next(datetime)
        today = [next(runs)]
        while (run := next(runs)) < midnight + timedelta(days=1):
            today.append(run)
        if all(gap - forward <= run < gap for run in today):
            return today[0].replace(tzinfo=zone)
    return None


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _change(before: datetime, then: datetime, zone: ZoneInfo) -> datetime:
    """Return the first minute of the new offset between two UTC times."""
    while then - before > timedelta(minutes=1):
        middle = before + (then - before) // 2
        if _offset(middle, zone) == _offset(before, zone):
            before = middle
        else:
            then = middle
    return then.replace(second=0, microsecond=0)
