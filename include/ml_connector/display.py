"""Numbers, shares, plurals and times as every page, command, alert and digest shows them.

The forms are those of Unicode CLDR for English, by babel.
"""

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from babel import Locale
from babel.dates import format_date, format_datetime, format_timedelta
from babel.numbers import format_decimal, format_percent

NOTHING = "\u2013"
"""Stands for a value that is not there."""
_LOCALE = Locale("en")
_NOW = 5
"""Seconds: what is no further away is now."""


class _Unit(NamedTuple):
    size: timedelta
    at_least: timedelta


_UNITS = (
    _Unit(timedelta(days=365), timedelta(days=365)),
    _Unit(timedelta(days=30), timedelta(days=61)),
    _Unit(timedelta(days=1), timedelta(days=1)),
    _Unit(timedelta(hours=1), timedelta(hours=1)),
    _Unit(timedelta(minutes=1), timedelta(minutes=1)),
    _Unit(timedelta(seconds=1), timedelta()),
)
"""Units of a distance, each from a least distance on. Their sizes are those of babel."""


def grouped(value: float | None) -> str:
    """Return a number with its thousands grouped: ``4,000``."""
    return NOTHING if value is None else format_decimal(value, locale=_LOCALE)


def counted(number: int | None, one: str, many: str = "") -> str:
    """Return a number with its noun, or noun and verb: ``1 webhook was``, ``4,000 webhooks were``.

    ``many`` is ``one`` with an s unless it is given.
    """
    plural = number is None or _LOCALE.plural_form(number) != "one"
    return f"{grouped(number)} {(many or f'{one}s') if plural else one}"


def percent(part: float, whole: float) -> str:
    """Return a share: ``10%``. A share that is not zero or all is never shown as if it were."""
    if not whole:
        return NOTHING
    share = part / whole
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return format_percent(share, locale=_LOCALE)


def exact_percent(share: float) -> str:
    """Return a configured share without rounding: ``2.5%``."""
    return format_percent(share, "#,##0.####%", locale=_LOCALE)


def distance(time: datetime, now: datetime) -> str:
    """Return how far a time is from now, in full units: ``22 min ago``, ``in 2 days``."""
    between = time - now
    if abs(between.total_seconds()) < _NOW:
        return "now"
    unit = next(each for each in _UNITS if abs(between) >= each.at_least).size
    full = abs(between) // unit
    told = format_timedelta(
        (full if time > now else -full) * unit,
        add_direction=True,
        format="short",
        threshold=full,  # so many of a larger unit there never are
        locale=_LOCALE,
    )
    return told.replace(".", "")


def about_seconds(seconds: float) -> str:
    """Return a duration to its largest unit: ``40 seconds``, ``3 minutes``."""
    return format_timedelta(round(seconds), threshold=1.0, locale=_LOCALE)


def pattern_time(time: date, pattern: str) -> str:
    """Return a day or a time, in its own zone, in a pattern of CLDR: ``d MMM HH:mm``."""
    if isinstance(time, datetime):
        return format_datetime(time, pattern, locale=_LOCALE)
    return format_date(time, pattern, locale=_LOCALE)


def utc_minute(time: datetime) -> str:
    """Return a time for texts that have no zone of a reader: ``2026-11-30 09:12 UTC``."""
    return pattern_time(time.astimezone(UTC), "y-MM-dd HH:mm 'UTC'")
