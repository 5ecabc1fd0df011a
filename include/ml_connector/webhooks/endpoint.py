"""The address under which vendors deliver webhooks, and under which they redirect browsers."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ml_connector.errors import SettingsError

PREFIX = "/ml-connector/webhooks"
"""The receiver's path on Airflow's API server, and on a server of its own."""

PUBLIC_URL = "ML_CONNECTOR_PUBLIC_URL"
"""This variable holds the https address of a receiver that is the only public part."""

REDIRECT = re.compile(rb"/ml-connector/console/[\w.%-]{1,200}/setup/connected(?:/[a-z]{1,20})?")
"""Paths of the console to which consent pages redirect."""


def public_base(environ: Mapping[str, str]) -> str:
    """Return the public address without a trailing slash; empty if none is set.

    Raises ``SettingsError`` if it cannot be right.
    """
    given = environ.get(PUBLIC_URL, "").strip()
    try:
        return base_of(given) if given else ""
    except SettingsError:
        raise SettingsError(
            f"{PUBLIC_URL} is the address under which the vendors reach the receiver, like "
            "https://hooks.example.com"
        ) from None


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
