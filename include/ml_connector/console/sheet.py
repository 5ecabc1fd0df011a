"""CSV export for spreadsheets: streamed, with formulas neutralised."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

_LIVE = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text with one of these prefixes for a formula:
https://owasp.org/www-community/attacks/CSV_Injection"""


def escape_formula(value: object) -> str:
    """Return a cell's text; put an apostrophe before text that would run as a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_LIVE) else text


def iter_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """Yield a CSV file (RFC 4180, UTF-8 with the BOM that Excel needs), 200 rows at a time."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    yield b"\xef\xbb\xbf"
    writer.writerow(header)
    for count, row in enumerate(rows, start=1):
        writer.writerow([escape_formula(value) for value in row])
        if count % 200 == 0:
            yield _taken(buffer)
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()
