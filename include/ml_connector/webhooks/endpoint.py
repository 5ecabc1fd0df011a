"""The address under which vendors deliver webhooks."""

from urllib.parse import urlsplit

from ml_connector.errors import SettingsError

PREFIX = "/ml-connector/webhooks"
"""The receiver's path on Airflow's API server, and on a server of its own."""


def base_of(url: str) -> str:
    """Return the address before ``PREFIX``. Raises ``SettingsError`` if it cannot be right."""
    try:
        parts = urlsplit(url.rstrip("/"))
    except ValueError:  # as of an unclosed [
        parts = urlsplit("")
    local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    secure = parts.scheme == "https" or (parts.scheme == "http" and local)
    if not secure or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(
            "--url is the address under which the vendors reach this host, like "
            "https://airflow.example.com; webhooks need https"
        )
    return url.rstrip("/").removesuffix(PREFIX)
