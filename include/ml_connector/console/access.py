"""Who may do what in the console, and what its answers forbid a browser to do. No Airflow here."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from starlette.requests import Request

from ml_connector.settings import Sync

ASKED_BY_US = "x-console"
"""A header that our own pages send. No form of another site can, and no script without leave."""

SAFE = ("GET", "HEAD")

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Right(StrEnum):
    """What a route asks for; what grants it is said by whoever mounts the console."""

    READ = "read"
    """See the sync's pages: whoever may see its DAG."""
    RUN = "run"
    """Replay and retry: whoever may start a run of its DAG."""
    SETUP = "setup"
    """See how it is connected: whoever may see its connections."""
    CONNECT = "connect"
    """Connect an account: whoever may edit its connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is asking: a name for the audit, and what they may."""

    name: str
    may: Callable[[Right, Sync], bool]


Identify = Callable[[Request], Awaitable[Caller | None]]
"""Returns who asks, None for somebody who is not logged in."""


def forged(method: str, headers: Mapping[str, str], *, reads: bool) -> bool:
    """Tell whether a form may have been sent by another site.

    The browser says where a request comes from (Sec-Fetch-Site, or Origin where it is older). Where
    it changes something the custom header has to be there in any case; where it only ``reads`` not,
    so that a search works before our scripts have loaded, and without them.
    https://owasp.org/www-community/attacks/csrf
    """
    if method in SAFE:
        return False
    if not reads and headers.get(ASKED_BY_US) != "1":
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc != headers.get("host")
