"""Call the mock servers without a socket: the same applications and bytes, a tenth of the time.

For tests that make tens of thousands of calls from one thread. What HTTP itself can do to a call is
tested elsewhere, over HTTP.
"""

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from ml_connector.errors import ResponseLost
from ml_connector.wire.transport import Request, Response
from sandbox.connections import ABORT
from sandbox.control import CONTROL_PREFIX, ASGIApp, Message


class _HungUp(Exception):
    """The server cut the connection."""


class InProcess:
    """A transport to the applications at these base URLs, for one call at a time."""

    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        self._apps = {urlsplit(base).netloc: app for base, app in apps.items()}
        self._loop = asyncio.new_event_loop()
        self._one = threading.Lock()

    def close(self) -> None:
        self._loop.close()

    def send(self, request: Request) -> Response:
        """Return the response. Raises ``ResponseLost`` where the server hangs up."""
        try:
            with self._one:
                return self._loop.run_until_complete(self._exchanged(request))
        except _HungUp:
            raise ResponseLost("no response; the call may have been applied") from None

    def control(self, base: str, method: str, path: str, body: object = None) -> Any:
        """Make a control call; fail loudly if the mock server refuses it."""
        data = b"" if body is None else json.dumps(body).encode()
        response = self.send(Request(method=method, url=f"{base}{CONTROL_PREFIX}{path}", body=data))
        assert response.status < 300, f"{method} {path}: {response.status} {response.body!r}"
        return json.loads(response.body) if response.body else None

    async def _exchanged(self, request: Request) -> Response:
        app, scope = self._scope(request)
        got: list[Message] = []
        waiting = [{"type": "http.request", "body": request.body or b"", "more_body": False}]

        async def receive() -> Message:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            got.append(message)

        await app(scope, receive, send)
        return Response(
            status=got[0]["status"],
            headers={name.decode().lower(): value.decode() for name, value in got[0]["headers"]},
            body=b"".join(message.get("body", b"") for message in got[1:]),
        )

    def _scope(self, request: Request) -> tuple[ASGIApp, dict[str, Any]]:
        parts = urlsplit(request.url)
        query = "&".join(each for each in (parts.query, urlencode(dict(request.params))) if each)
        headers = {"host": parts.netloc, **request.headers}
        if request.body is not None:
            headers["content-length"] = str(len(request.body))
        path = parts.path
        return self._apps[parts.netloc], {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": parts.scheme,
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": (parts.hostname, parts.port),
            "extensions": {ABORT: _hang_up},
        }


def _hang_up() -> None:
    raise _HungUp
