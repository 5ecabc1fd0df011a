"""Console access: rights, cross-site request checks and security headers. No Airflow imports."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from ml_connector.settings import Sync

CSRF_HEADER = "x-console"
"""Our own pages send this header. A form on another site cannot, and a script there needs
permission."""

SAFE = ("GET", "HEAD")
"""Methods that change nothing."""

PREFIX = "/ml-connector/console"
"""The console's path below Airflow's base URL."""

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
"""Every response carries these headers, which restrict what a browser does with it."""


class Right(StrEnum):
    """A right that a route requires. The host that mounts the console grants it."""

    READ = "read"
    """See the sync's pages. Requires the permission to see its DAG."""
    RUN = "run"
    """Replay and retry. Requires the permission to start a run of its DAG."""
    SETUP = "setup"
    """See how the sync is connected. Requires the permission to see its connections."""
    CONNECT = "connect"
    """Connect an account. Requires the permission to edit its connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The user behind a request: a name for the audit, and a permission check."""

    name: str
    may: Callable[[Right, Sync], bool]


Message = MutableMapping[str, Any]
"""A scope or an event of ASGI."""

Identify = Callable[[Request], Awaitable[Caller | None]]
"""Identifies the user behind a request; returns None without a login."""


def is_cross_site(method: str, headers: Mapping[str, str], *, reads: bool) -> bool:
    """Return whether another site may have sent a form.

    The browser states where a request comes from (Sec-Fetch-Site, or Origin in older browsers). A
    request that changes something must also have the custom header. A request that only ``reads``
    need not: a search works before our scripts have loaded, and without them.
    https://owasp.org/www-community/attacks/csrf
    """
    if method in SAFE:
        return False
    if not reads and headers.get(CSRF_HEADER) != "1":
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc != headers.get("host")


def with_headers(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Add our headers to every response. Headers that a response sets itself take precedence."""

    async def guarded(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Any]
    ) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in HEADERS.items()
                        if name.encode() not in own
                    ),
                ]
            await send(message)

        await app(scope, receive, headed)

    return guarded
