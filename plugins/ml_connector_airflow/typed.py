"""Parse what users type in the shell and in Airflow's trigger form."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ml_connector.errors import SettingsError

_HEAD = re.compile(r"[0-9a-f]{64}")


def parse_typed_time(said: str | None) -> datetime | None:
    """Return an ISO 8601 time, in UTC if it names no zone; None for an empty input.

    Raises:
        SettingsError: The time is invalid.
    """
    if not said:
        return None
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        raise SettingsError(f"{said!r} is no time; write it like 2026-07-01T08:00+00:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def parse_typed_head(said: str) -> str | None:
    """Return the head of an audit chain, 64 hexadecimal digits; None for an empty input.

    Raises:
        SettingsError: It is no head.
    """
    head = said.strip().lower()
    if head and not _HEAD.fullmatch(head):
        raise SettingsError(
            "--head takes the 64 hexadecimal digits that `ml-connector audit verify` printed"
        )
    return head or None


def realm_in(extra: Mapping[str, Any]) -> str:
    """Return a connection's realm id without blanks: Intuit's pages show it in groups of digits."""
    return without_blanks(extra.get("realm_id"))


def without_blanks(typed: object) -> str:
    """Return a key, an id or a URL without the blanks that copying it brings along."""
    return "".join(str(typed or "").split())


def require_rows(ids: Sequence[int], *, failed: bool) -> None:
    """Refuse a replay that names no rows.

    Raises:
        SettingsError: There are neither ids nor the choice of all failed rows.
    """
    if not ids and not failed:
        raise SettingsError("nothing is chosen: name rows by id, or choose all failed ones")
