"""Ask for consent by the OAuth 2.0 code flow: what both systems share.

https://www.rfc-editor.org/rfc/rfc6749#section-4.1
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import monotonic
from urllib.parse import parse_qsl, urlencode, urlsplit

from ml_connector.errors import CredentialsError, SettingsError

CALLBACK_PATH = "/callback"
LOOPBACK = ("localhost", "127.0.0.1")
"""Both names of this machine. Each system accepts one of them in a redirect address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What a redirect brings: a single-use code, and from QuickBooks the company's realm id."""

    code: str = field(repr=False)
    realm_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPage:
    """A system's consent page. ``owner``: whose page it is; ``loopback``: the name it accepts."""

    system: str
    owner: str
    url: str
    loopback: str
    scope: str = ""
    names_company: bool = False

    def address(self, *, client_id: str, redirect_uri: str, state: str, url: str = "") -> str:
        """Return the page's URL with our question; ``url`` takes the place of the system's own."""
        query = {
            "client_id": client_id,
            "response_type": "code",
            **({"scope": self.scope} if self.scope else {}),
            "redirect_uri": redirect_uri,
            "state": state,
        }
        return f"{url or self.url}?{urlencode(query)}"

    def accepted(self, base: str) -> str:
        """Return a base URL with the name of this machine that the system accepts."""
        parts = urlsplit(base)
        if parts.hostname not in LOOPBACK:
            return base
        port = f":{parts.port}" if parts.port else ""
        return parts._replace(netloc=f"{self.loopback}{port}").geturl()

    def read(self, query: Mapping[str, str], *, state: str) -> Consent | None:
        """Return the consent in a redirect's query; None if its state is not ours.

        Raises ``CredentialsError`` if the user declined, or if code or company is missing.
        """
        given = query.get("state", "")
        if not state or not hmac.compare_digest(given.encode(), state.encode()):
            return None
        if query.get("error"):
            raise CredentialsError(
                f"{self.system} was not connected: access was declined on {self.owner}'s page;"
                " connect again"
            )
        code, realm_id = query.get("code", ""), query.get("realmId", "")
        if not code or (self.names_company and not realm_id.isdecimal()):
            raise CredentialsError(
                f"{self.owner} sent no code{' or company number' * self.names_company}; connect again"
            )
        return Consent(code=code, realm_id=realm_id if self.names_company else "")


def new_state() -> str:
    """Return an unguessable value that ties the redirect to our request."""
    return secrets.token_urlsafe(32)


class Callback:
    """Loopback listener for the one expected redirect."""

    def __init__(self, page: ConsentPage, port: int, *, state: str) -> None:
        self._page = page
        self._state = state
        self._consent: Consent | None = None
        self._refusal: CredentialsError | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                status, words = outer._take(self.path)
                body = f"<!doctype html><title>ml-connector</title><p>{words}</p>".encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing: the URL contains the code."""

        try:
            self._server = HTTPServer(("127.0.0.1", port), Handler)
        except OSError:
            raise SettingsError(
                f"port {port} is taken; choose another with --port, and register its redirect "
                f"address with your {page.owner} app"
            ) from None

    @property
    def redirect_uri(self) -> str:
        """The URL to register with the app."""
        return f"http://{self._page.loopback}:{self._server.server_port}{CALLBACK_PATH}"

    def wait(self, seconds: float) -> Consent:
        """Wait up to ``seconds`` for the redirect; return the consent.

        Raises ``CredentialsError`` if the user declined or no redirect arrived in time.
        """
        deadline = monotonic() + seconds
        with self._server:
            while self._consent is None and self._refusal is None:
                self._server.timeout = deadline - monotonic()
                if self._server.timeout <= 0:
                    raise CredentialsError(
                        f"no consent on {self._page.owner}'s page within {seconds:.0f} s."
                        " Connect again"
                    )
                self._server.handle_request()
        if self._refusal is not None:
            raise self._refusal
        if self._consent is None:
            raise AssertionError("the loop ends with one of the two")
        return self._consent

    def _take(self, target: str) -> tuple[int, str]:
        parts = urlsplit(target)
        try:
            query = dict(parse_qsl(parts.query))
            ours = parts.path == CALLBACK_PATH
            consent = self._page.read(query, state=self._state) if ours else None
        except CredentialsError as refusal:
            self._refusal = refusal
            return 400, f"{self._page.system} was not connected. Look at the terminal."
        if consent is None:
            return 400, "This redirect belongs to no open connection attempt. Connect again."
        self._consent = consent
        return 200, f"{self._page.system} is connected. You can close this page."
