"""Send bytes to a system and receive its response: the only place that touches the network.

A client passes a ``Request`` and gets a ``Response`` or an error. ``Unavailable``: the connection
was refused, so nothing was applied. ``ResponseLost``: the call may have been applied. Each system's
``protocol.py`` interprets the response.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Timer
from time import monotonic
from typing import Any, Protocol

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ml_connector.errors import ConnectorError, ResponseLost, SettingsError, Unavailable

MAX_BODY = 64 * 2**20
"""Bytes of a response's body at most, decompressed. A page of 1,000 members has some 4 MB."""

DEADLINE = 180.0
"""Seconds from the request to the last byte of its response. A time-out alone limits only the
pause between two bytes. Both systems end a call themselves after 120 s."""

_PIECE = 2**20
"""Bytes to read at once at most. Pieces of 10 kB, the default, take four times the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call. ``url`` is absolute; ``params`` are query parameters; ``body`` is bytes.

    The repr omits keys and personal data, so a traceback with locals cannot show them.
    """

    method: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response; header names are lower-case.

    The repr shows only the status: see ``Request``.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Transport(Protocol):
    """Sender of one request, once."""

    def send(self, request: Request) -> Response:
        """Return the response, whatever its status. Raises ``RetryLater`` if there is none."""
        ...


class ReadOnly:
    """A transport that refuses every call that could write: what a rehearsal sends through.

    Reads are GET, and QuickBooks' queries, which are posted.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def send(self, request: Request) -> Response:
        """Return the response. Raises ``SettingsError`` before anything is sent that could write."""
        if request.method != "GET" and not request.url.endswith("/query"):
            raise SettingsError(
                "a preview only reads, and this call could write; nothing was sent. Please report it"
            )
        return self._transport.send(request)


class RequestsTransport:
    """A kept-alive ``requests`` session with a timeout on every call.

    ``timeout`` is (connect, read) in seconds. ``deadline`` limits the whole response, in seconds.
    ``connections`` limits the sockets kept open to one host. Redirects are never followed: neither
    API uses them, and credentials must not travel to another host.
    """

    def __init__(
        self,
        session: requests.Session,
        *,
        system: str,
        timeout: tuple[float, float] = (10.0, 125.0),
        deadline: float = DEADLINE,
        connections: int = 4,
    ) -> None:
        self._session = session
        self._system = system
        self._timeout = timeout
        self._deadline = deadline
        adapter = _Adapter(deadline, connections)
        session.mount("http://", adapter)
        session.mount("https://", adapter)

    def send(self, request: Request) -> Response:
        """Send ``request``; return the response.

        Raises ``Unavailable``, ``ResponseLost`` or ``SettingsError``.
        """
        try:
            with self._session.request(
                request.method,
                request.url,
                params=dict(request.params) or None,
                headers=dict(request.headers),
                data=request.body,
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            ) as answer:
                body = self._body(answer.raw, until=monotonic() + self._deadline)
        # requests lets some urllib3 errors through, and those of headers that cannot be encoded.
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            UnicodeError,
            TimeoutError,
        ) as error:
            raise self._translated(error, request.url) from None
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Response(status=answer.status_code, headers=headers, body=body)

    def _body(self, raw: urllib3.BaseHTTPResponse, *, until: float) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := raw.read1(_PIECE, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BODY:
                raise ResponseLost(
                    f"{self._system}: a response of more than {MAX_BODY >> 20} MB was cut off; the"
                    " call may have been applied"
                )
            if monotonic() > until:
                raise TimeoutError
        return b"".join(pieces)

    def _translated(self, error: Exception, url: str) -> ConnectorError:
        host = (url.split("/", 3)[2] if "://" in url else url).rpartition("@")[2]
        if isinstance(error, requests.exceptions.SSLError):
            return SettingsError(f"{self._system}: {host} has no valid certificate")
        if isinstance(
            error,
            requests.exceptions.InvalidURL
            | requests.exceptions.MissingSchema
            | requests.exceptions.InvalidSchema
            | urllib3.exceptions.LocationValueError,
        ):
            return SettingsError(f"{self._system}: the connection's host is not a URL: {host}")
        if isinstance(error, requests.exceptions.InvalidHeader | UnicodeError):
            return SettingsError(
                f"{self._system}: the key has a character that no HTTP header can carry; copy it"
                " again into the connection's password (a token: into where it is stored)"
            )
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return Unavailable(f"{self._system}: {host} did not accept a connection in time")
        if _never_connected(error):
            return Unavailable(
                f"{self._system}: {host} cannot be reached; check the connection's host and the network"
            )
        return ResponseLost(
            f"{self._system}: no response from {host}; the call may have been applied"
        )


class _Adapter(HTTPAdapter):
    """Adapter whose connections end a response's headers at the deadline."""

    def __init__(self, deadline: float, connections: int) -> None:
        self._deadline = deadline
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pool manager of ``HTTPAdapter``, with pools of our connections."""
        super().init_poolmanager(*args, **options)
        deadline = self._deadline

        class Plain(HTTPConnection):
            def getresponse(self) -> Any:
                with _ended_at(deadline, self):
                    return super().getresponse()

        class Encrypted(HTTPSConnection):
            def getresponse(self) -> Any:
                with _ended_at(deadline, self):
                    return super().getresponse()

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}


@contextmanager
def _ended_at(deadline: float, connection: HTTPConnection) -> Iterator[None]:
    """Shut the connection down if the block, which waits for it, takes longer than ``deadline``."""
    late = Event()

    def end() -> None:
        late.set()
        if connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    timer = Timer(deadline, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if late.is_set():  # headers that end in the middle look like complete ones
        raise TimeoutError


def _never_connected(error: Exception) -> bool:
    """Return whether no connection came about: refused, no route, or an unknown name."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(cause, urllib3.exceptions.NewConnectionError)
