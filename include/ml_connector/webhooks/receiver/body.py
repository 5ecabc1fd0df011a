"""Read request bodies within limits: of size, of time, and of memory across all requests."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST = 1 << 20
"""Bytes of a body. The vendors send 1 MB at most."""

SECONDS = 10.0
"""Seconds until the last byte of a body."""

MAX_REQUESTS = 2000
MAX_BYTES = 8 << 20
"""Bytes that all requests in flight may hold together, besides ``FREE_BYTES`` each."""

FREE_BYTES = 4096
"""Bodies of up to this many bytes are accepted even if large ones have used up the budget."""


class TooLargeError(Exception):
    """The body is larger than ``LARGEST``."""


class TooSlowError(Exception):
    """The body was not complete in time."""


class FullError(Exception):
    """Other requests use the entire budget."""


class GoneError(Exception):
    """The sender hung up."""


class MemoryBudget:
    """Memory accounting for the requests in flight."""

    def __init__(self, *, requests: int = MAX_REQUESTS, size: int = MAX_BYTES) -> None:
        self.requests, self.size = requests, size

    @contextmanager
    def entered(self) -> Iterator["Reservation"]:
        """Yield one request's reservation. Raises ``FullError`` if there are too many requests."""
        if self.requests <= 0:
            raise FullError
        self.requests -= 1
        held = Reservation(self)
        try:
            yield held
        finally:
            self.requests += 1
            self.size += held.size


class Reservation:
    """One request's share of the budget."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget, self.size = budget, 0

    def grow(self, length: int) -> None:
        """Reserve memory for a body of ``length`` bytes.

        Raises ``FullError`` if too little is left.
        """
        more = length - FREE_BYTES - self.size
        if more <= 0:
            return
        if more > self._budget.size:
            raise FullError
        self._budget.size -= more
        self.size += more


async def read_body(
    scope: Scope,
    receive: Receive,
    *,
    held: Reservation,
    largest: int = LARGEST,
    seconds: float = SECONDS,
) -> bytes | bytearray:
    """Return the entire body.

    Raises:
        TooLargeError: Declared or sent more than ``largest`` bytes; the rest is not read.
        TooSlowError: Not complete after ``seconds``.
        FullError: Too little of the memory budget is left.
        GoneError: The sender hung up.
    """
    if declared_length(scope) > largest:
        raise TooLargeError
    try:
        async with asyncio.timeout(seconds):
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                first: bytes = message.get("body", b"")
                _check(len(first), largest, held)
                return first
            body = bytearray()
            while True:
                if message["type"] != "http.request":
                    raise GoneError
                chunk = message.get("body", b"")
                _check(len(body) + len(chunk), largest, held)
                body += chunk
                if not message.get("more_body"):
                    return body
                message = await receive()
    except TimeoutError:
        raise TooSlowError from None


def declared_length(scope: Scope) -> int:
    """Return Content-Length; 0 if there is none."""
    said = header(scope, b"content-length")
    return int(said) if said.isdigit() and len(said) < 16 else LARGEST + 1 if said else 0


def header(scope: Scope, name: bytes) -> bytes:
    """Return a header's value by its lower-case name; empty if there is none."""
    return next((value for found, value in scope["headers"] if found == name), b"")


async def discard_body(receive: Receive, *, size: int = 4 << 20, seconds: float = 1.0) -> None:
    """Discard input for a moment: closing on unread bytes would destroy our response."""
    try:
        async with asyncio.timeout(seconds):
            while size > 0:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
                size -= len(message.get("body", b""))
    except TimeoutError:
        return


def _check(length: int, largest: int, held: Reservation) -> None:
    if length > largest:
        raise TooLargeError
    held.grow(length)
