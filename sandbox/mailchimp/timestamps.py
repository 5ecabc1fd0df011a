"""Mailchimp's timestamps: ISO 8601 in UTC, with a resolution of one second."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=8192)
def to_text(moment: int | None) -> str:
    """Return `2026-01-31T08:00:00+00:00`, or `""` for an unknown moment."""
    if moment is None:
        return ""
    return datetime.fromtimestamp(moment, UTC).isoformat()


def from_text(text: str) -> int:
    """Read a timestamp the way Mailchimp does; without a zone it is UTC.

    A raw `+` in a query string arrives as a blank, so `2026-01-31T08:00:00 00:00` is not a time.

    Raises:
        ValueError: the text is no timestamp.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int((moment - EPOCH) / timedelta(seconds=1))
