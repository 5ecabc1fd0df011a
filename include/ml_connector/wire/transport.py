"""Bytes to a system and back: the only place that touches the network.

A client hands over a ``Request`` and gets a ``Response``, or ``Unavailable`` (the connection was
refused, so nothing was applied) or ``AnswerLost`` (it may have been). What an answer means is the
business of each system's ``protocol.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ml_connector.errors import AnswerLost, ConnectorError, SettingsError, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call. ``url`` is absolute; ``params`` are query parameters; ``body`` is bytes.

    Its repr has neither keys nor people: whatever shows one, a traceback with locals for instance.
    """

    method: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer; header names are lower-case. Its repr shows the status alone: see ``Request``."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Transport(Protocol):
    """Sends one request once."""

    def send(self, request: Request) -> Response:
        """Return the answer, whatever its status; raise ``RetryLater`` if there is none."""
        ...


class RequestsTransport:
    """A kept-alive ``requests`` session with a time-out on every call.

    ``timeout`` is (connect, read) in seconds; both systems end a call themselves after 120 s.
    ``connections`` bounds the sockets kept to one host. Redirects are never followed: neither API
    uses them and credentials must not travel to another host.
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
        """Send ``request``; raise ``Unavailable``, ``AnswerLost`` or ``SettingsError``."""
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
                # At once: left to itself requests reads it in pieces of 10 kB, four times the work.
                body = answer.raw.read(decode_content=True)
        # requests lets some of urllib3's errors through, and what a header cannot encode.
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
        return AnswerLost(f"{self._system}: no answer from {host}; the call may have been applied")


def _never_connected(error: Exception) -> bool:
    """Tell whether no connection came about: refused, no route, or an unknown name."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(cause, urllib3.exceptions.NewConnectionError)
