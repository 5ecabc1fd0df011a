"""Serve the receiver in a process of its own, with a health check and HTTP limits.

uvicorn limits neither the time nor the size of a request's head. An application sees a request only
after its head. Behind a proxy with such limits these never apply.
"""

import asyncio
from typing import Any

import msgspec
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ml_connector.errors import ConnectorError
from ml_connector.webhooks.endpoint import PREFIX, REDIRECT
from ml_connector.webhooks.receiver.app import UNKNOWN, Receiver, Reply, respond
from ml_connector.webhooks.receiver.body import SECONDS, Receive, Scope, Send

MAX_HEAD = 32 << 10
"""Bytes of a request's head."""

MAX_BYTES = 8 << 20
"""Bytes of an entire request, including chunk markers and trailers."""

MAX_CONNECTIONS = 4000


class StandaloneApp:
    """``/health`` and the receiver's own routes.

    ``console``: the base URL of the console to which redirects of consent pages are passed on; none
    are if it is empty.
    """

    def __init__(self, receiver: Receiver, console: str = "") -> None:
        self._receiver, self._console = receiver, console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: str = scope.get("path", "")
        if path.startswith(f"{PREFIX}/"):
            await self._receiver({**scope, "root_path": PREFIX}, receive, send)
        elif scope["type"] == "http" and (passed := self._passed_on(scope)):
            await respond(passed, receive, send)
        elif scope["type"] == "http":
            healthy = path == "/health" and scope["method"] in {"GET", "HEAD"}
            await respond(await self._health() if healthy else UNKNOWN, receive, send)

    def _passed_on(self, scope: Scope) -> Reply | None:
        """Send a browser from a consent page's redirect to the console, which knows its cookies."""
        path: bytes = scope.get("raw_path", b"")
        if not self._console or scope["method"] != "GET" or not REDIRECT.fullmatch(path):
            return None
        location = self._console.encode() + path + b"?" + scope["query_string"]
        return Reply(303, "go on at the console\n", ((b"location", location),))

    async def _health(self) -> Reply:
        """Respond 200 while events can be stored, with the counts since the start."""
        try:
            await self._receiver.store(())
            status, database = 200, "ok"
        except (ConnectorError, SQLAlchemyError):
            status, database = 503, "away"
        told = {"database": database, **self._receiver.tally.counts}
        return Reply(status, msgspec.json.encode(told).decode() + "\n")


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on slow heads, large heads and endless requests."""

    _timer: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer; hang up if there are more than ``MAX_CONNECTIONS``."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count bytes; data between two requests must become a request in time."""
        if self.cycle is None or self.cycle.response_complete:
            self._arm()
        self._received += len(data)
        super().data_received(data)
        if self._received > (MAX_HEAD if self._timer else MAX_BYTES):
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Reset the count for each request of the connection."""
        super().on_message_begin()
        self._received = 0

    def on_headers_complete(self) -> None:
        """Stop the timer: from here on the application has its own."""
        self._disarm()
        super().on_headers_complete()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(SECONDS, self.transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def server_config(receiver: Receiver, *, console: str = "", **options: Any) -> uvicorn.Config:
    """Return the server's configuration.

    ``console``: see ``StandaloneApp``. ``options`` set the address: ``host``, ``port`` or ``fd``.
    """
    return uvicorn.Config(
        StandaloneApp(receiver, console),
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        access_log=False,  # it would print the query, and with it Mailchimp's secret
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=5,
        **options,
    )
