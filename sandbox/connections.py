"""Open TCP connections by address, so that a fault can cut one as a network does.

ASGI has no way to hang up, so the servers that ``sandbox.serve`` starts use a protocol class that
keeps each connection's transport where the fault can find it.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Address = tuple[str, int | None]

ABORT = "sandbox.abort"
"""An ASGI extension: the function by which a caller without a connection is hung up on."""

_transports: dict[tuple[Address | None, Address | None], asyncio.Transport] = {}


class TrackedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, remembering its transport under (client, server) address."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the transport."""
        super().connection_made(transport)
        _transports[(self.client, self.server)] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the transport."""
        _transports.pop((self.client, self.server), None)
        super().connection_lost(exc)


def abort(scope: MutableMapping[str, Any]) -> None:
    """Cut the connection a request came in on; nothing more is sent.

    Raises:
        RuntimeError: the app is not served by a server that tracks its connections.
    """
    hang_up = scope.get("extensions", {}).get(ABORT)
    if hang_up is not None:
        hang_up()
    key = (_address(scope["client"]), _address(scope["server"]))
    transport = _transports.get(key)
    if transport is None:
        raise RuntimeError("connections can be dropped only when served by sandbox.serve")
    transport.abort()


def _address(pair: Any) -> Address | None:
    return (pair[0], pair[1]) if pair else None
