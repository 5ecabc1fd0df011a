"""Template rendering, and the display of times, numbers and labels."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ml_connector.console import words
from ml_connector.display import counted, distance, exact_percent, grouped, pattern_time, percent

HERE = Path(__file__).parent
STATIC = HERE / "static"


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
        ).format(time.isoformat(), self._long(time), self._short(time), distance(time, self.now))

    def brief(self, time: datetime | None, empty: str = "never") -> Markup:
        """Return the distance from now, with the full time as its title."""
        if time is None:
            return Markup('<span class="quiet">{}</span>').format(empty)
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            time.isoformat(), self._long(time), distance(time, self.now)
        )

    def _short(self, time: datetime) -> str:
        local = time.astimezone(self.zone)
        same_year = local.year == self.now.astimezone(self.zone).year
        return pattern_time(local, "d MMM HH:mm" if same_year else "d MMM y HH:mm")

    def _long(self, time: datetime) -> str:
        local = time.astimezone(self.zone)
        return pattern_time(local, "y-MM-dd HH:mm:ss zzz")

    def day(self, time: datetime) -> str:
        """Return the day of a time, as a heading."""
        local, today = time.astimezone(self.zone).date(), self.now.astimezone(self.zone).date()
        if local == today:
            return "Today"
        if local == today - timedelta(days=1):
            return "Yesterday"
        return pattern_time(local, "EEEE, d MMMM y")

    def clock(self, time: datetime) -> Markup:
        """Return the time of day."""
        local = time.astimezone(self.zone)
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            time.isoformat(), self._long(time), pattern_time(local, "HH:mm:ss")
        )


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


_CODE = re.compile(r"`([^`]+)`")


def as_code(text: str) -> Markup:
    """Return a text with its commands, between backticks, as HTML's code. It is escaped."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- escaped


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
    made.filters |= {"grouped": grouped, "json": as_json, "groupby_day": by_day, "code": as_code}
    made.globals |= {"version": version, "words": words, "percent": percent, "counted": counted}
    made.globals["exact_percent"] = exact_percent
    return made


def render(template: str, **values: Any) -> str:
    """Render a template."""
    filled: Mapping[str, Any] = values
    return environment().get_template(template).render(filled)
