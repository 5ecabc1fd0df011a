"""Times as QuickBooks writes and reads them.

MetaData comes back with second precision and the Pacific offset whatever the company's own zone
(recorded traffic; intuit/QuickBooks-V3-Java-SDK issue 26). Literals in a query may be a date, a
time without a zone (taken as Pacific here), or a time with ``Z`` or an offset.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

PACIFIC = ZoneInfo("America/Los_Angeles")


def to_text(seconds: float) -> str:
    """Write an instant as MetaData does: ``2026-10-01T08:13:18-07:00``."""
    return datetime.fromtimestamp(int(seconds), PACIFIC).isoformat()


def to_text_ms(seconds: float) -> str:
    """Write an instant as a response's ``time`` does, with milliseconds."""
    return datetime.fromtimestamp(seconds, PACIFIC).isoformat(timespec="milliseconds")


def from_text(text: str) -> float:
    """Read a date or time literal into seconds since 1970.

    Raises:
        ValueError: it is neither.
    """
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=PACIFIC)
    return parsed.timestamp()
