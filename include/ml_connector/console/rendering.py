"""Template rendering, and the display of times, numbers and labels."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ml_connector.console import words

HERE = Path(__file__).parent
STATIC = HERE / "static"
NOTHING = "\u2013"
_STEPS = ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600), (86400 * 60, "days", 86400))


class Times:
    """Formats times in a sync's time zone, with the distance from now."""

    def __init__(self, now: datetime, zone: ZoneInfo) -> None:
        self.now, self.zone = now, zone

    def show(self, time: datetime | None, empty: str = "never") -> Markup:
        """Return date, minute, and the distance from now."""
        if time is None:
            return Markup('<span class="quiet">{}</span>').format(empty)
        return Markup(
            '<time datetime="{}" title="{}">{} <span class="quiet">{}</span></time>'
        ).format(time.isoformat(), self._long(time), self._short(time), self.distance(time))

    def brief(self, time: datetime | None, empty: str = "never") -> Markup:
        """Return the distance from now, with the full time as its title."""
        if time is None:
            return Markup('<span class="quiet">{}</span>').format(empty)
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            time.isoformat(), self._long(time), self.distance(time)
        )

    def distance(self, time: datetime) -> str:
        """Return ``3 h ago`` or ``in 2 days``."""
        seconds = (time - self.now).total_seconds()
        size = abs(seconds)
        if size < 5:
            return "now"
        for limit, unit, length in _STEPS:
            if size < limit:
                number = int(size // length)
                said = "1 day" if (number, unit) == (1, "days") else f"{number} {unit}"
                break
        else:
            said = f"{int(size // (86400 * 30.44))} months"
        return f"in {said}" if seconds > 0 else f"{said} ago"

    def _short(self, time: datetime) -> str:
        local = time.astimezone(self.zone)
        same_year = local.year == self.now.astimezone(self.zone).year
        return f"{local:%d %b %H:%M}" if same_year else f"{local:%d %b %Y %H:%M}"

    def _long(self, time: datetime) -> str:
        local = time.astimezone(self.zone)
        return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"

    def day(self, time: datetime) -> str:
        """Return the day of a time, as a heading."""
        local, today = time.astimezone(self.zone).date(), self.now.astimezone(self.zone).date()
        if local == today:
            return "Today"
        if local == today - timedelta(days=1):
            return "Yesterday"
        return f"{local:%A, %d %B %Y}"

    def clock(self, time: datetime) -> Markup:
        """Return the time of day."""
        local = time.astimezone(self.zone)
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            time.isoformat(), self._long(time), f"{local:%H:%M:%S}"
        )


def grouped(value: float | None) -> str:
    """Return a number with thin spaces between thousands."""
    return NOTHING if value is None else f"{value:,}".replace(",", "\u202f")


def percent(part: float, whole: float) -> str:
    """Return a share as a percentage."""
    return NOTHING if not whole else f"{100 * part / whole:.0f} %"


@lru_cache
def version(name: str) -> str:
    """Return the content hash of a static file, which lets browsers cache the file for long."""
    return sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def by_day(entries: Iterable[Any], times: Times) -> Iterator[tuple[str, list[Any]]]:
    """Yield (day, entries) of sorted entries."""
    for day, group in groupby(entries, key=lambda entry: times.day(entry.at)):
        yield day, list(group)


def as_json(value: Any) -> str:
    """Return JSON for an attribute; the template escapes it."""
    return json.dumps(value, default=str, ensure_ascii=False)


@lru_cache
def environment() -> Environment:
    """Return the template environment. It escapes every value."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"grouped": grouped, "json": as_json, "groupby_day": by_day}
    made.globals |= {"version": version, "words": words, "percent": percent}
    return made


def render(template: str, **values: Any) -> str:
    """Render a template."""
    filled: Mapping[str, Any] = values
    return environment().get_template(template).render(filled)
