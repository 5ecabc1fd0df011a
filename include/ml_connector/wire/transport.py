"""Send bytes to a system and receive its response: the only place that touches the network.

A client passes a ``Request`` and gets a ``Response`` or an error. ``Unavailable``: the connection
was refused, so nothing was applied. ``ResponseLost``: the call may have been applied. Each system's
``protocol.py`` interprets the response.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ml_connector.errors import ConnectorError, ResponseLost, SettingsError, Unavailable


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


class RequestsTransport:
    """A kept-alive ``requests`` session with a timeout on every call.

    ``timeout`` is (connect, read) in seconds; both systems end a call themselves after 120 s.
    ``connections`` limits the sockets kept open to one host. Redirects are never followed: neither
    API uses them, and credentials must not travel to another host.
    """

    def __init__(
        self,
        session: requests.Session,
        *,
        system: str,
        timeout: tuple[float, float] = (10.0, 125.0),
        connections: int = 4,
    ) -> None:
        self._session = session
        self._system = system
        self._timeout = timeout
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=0)
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
                # Read at once: by default requests reads pieces of 10 kB, which takes four times
                # the work.
                body = answer.raw.read(decode_content=True)
        # requests lets some urllib3 errors through, and those of headers that cannot be encoded.
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
            raise self._translated(error, request.url) from None
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Response(status=answer.status_code, headers=headers, body=body)

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
            f"{self._system}: no answer from {host}; the call may have been applied"
        )


def _never_connected(error: Exception) -> bool:
    """Return whether no connection came about: refused, no route, or an unknown name."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(cause, urllib3.exceptions.NewConnectionError)
