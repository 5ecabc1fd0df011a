"""Request and header formats that both systems share."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def format_time(time: datetime) -> str:
    """Return an aware ``time`` as RFC 3339 in UTC with ``Z``, cut to the second.

    Never with an offset, because its plus sign gets lost in a query.
    """
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def response_time(headers: Mapping[str, str]) -> datetime | None:
    """Return the sender's clock from the Date header; None if it is missing or invalid.

    Resolution 1 s. https://www.rfc-editor.org/rfc/rfc9110#name-date
    """
    try:
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):
        return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return a Retry-After in seconds; None if it is missing, a date or invalid."""
    said = headers.get("retry-after", "")
    return float(said) if re.fullmatch(r"\d{1,6}(\.\d+)?", said) else None
