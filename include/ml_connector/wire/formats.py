"""What both systems write alike in requests and headers."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime


def format_time(time: datetime) -> str:
    """Return an aware ``time`` as RFC 3339 in UTC with ``Z``, cut to the second.

    Not with an offset: its plus sign gets lost in a query.
    """
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return a Retry-After in seconds; one that is missing, a date or nonsense is None."""
    said = headers.get("retry-after", "")
    return float(said) if re.fullmatch(r"\d{1,6}(\.\d+)?", said) else None
