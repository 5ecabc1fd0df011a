"""Read the reason of a failure from a log."""

import re
from pathlib import Path

# The last line of a traceback, "Error: reason" at the line's beginning, and structlog's key of it.
_EXCEPTION = re.compile(r"^(?:[\w.]*\.)?([A-Z]\w*(?:Error|Exception|Refused|Reauth|Exit)\w*: .+)$")


def reason_of(log: Path) -> str:
    """Return the last exception in a log; where there is none, its last line."""
    found = ""
    for line in last_words(log, lines=400).splitlines():
        if match := _EXCEPTION.match(line):
            found = match[1]
    return found or last_words(log)


def last_words(log: Path, *, lines: int = 1) -> str:
    """Return the last lines of a log that say something."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return "its log cannot be read"
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(said[-lines:]) if said else "its log is empty"
