"""Parse times that users type in the shell and in Airflow's trigger form."""

from datetime import UTC, datetime

from ml_connector.errors import SettingsError


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
