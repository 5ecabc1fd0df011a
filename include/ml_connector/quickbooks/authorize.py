"""Connect an app to QuickBooks: Intuit's consent page and the redirect back to this machine.

https://developer.intuit.com/app/developer/qbo/docs/develop/authentication-and-authorization/oauth-2.0
"""

import hmac
import secrets
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import monotonic
from urllib.parse import parse_qs, urlencode, urlsplit

from ml_connector.errors import CredentialsError, SettingsError

AUTHORIZE_URL = "https://appcenter.intuit.com/connect/oauth2"
SCOPE = "com.intuit.quickbooks.accounting"
CALLBACK_PATH = "/callback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """Intuit's redirect: a single-use code and the company's realm id."""

    code: str = field(repr=False)
    realm_id: str


def new_state() -> str:
    """Return an unguessable value that ties the redirect to our request."""
    return secrets.token_urlsafe(32)


def authorize_url(*, client_id: str, redirect_uri: str, state: str, token_url: str = "") -> str:
    """Return the URL of the consent page.

    If ``token_url`` is not Intuit's, the page is on the same host as ``token_url``.
    """
    base = AUTHORIZE_URL
    if token_url:
        origin = urlsplit(token_url)
        if not origin.hostname or not origin.hostname.endswith(".intuit.com"):
            base = f"{origin.scheme}://{origin.netloc}/connect/oauth2"
    query = {
        "client_id": client_id,
        "response_type": "code",
        "scope": SCOPE,
        "redirect_uri": redirect_uri,
        "state": state,
    }
    return f"{base}?{urlencode(query)}"


def read_redirect(target: str, *, state: str) -> Consent | None:
    """Return the consent in a redirect's path and query; None if its state or path is not ours.

    Raises ``CredentialsError`` if the user declined, or if Intuit sent no code or company.
    """
    query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
    if urlsplit(target).path != CALLBACK_PATH or not hmac.compare_digest(
        query.get("state", "").encode(), state.encode()
    ):
        return None
    if query.get("error"):
        raise CredentialsError(
            "QuickBooks was not connected: access was declined on Intuit's page; run it again"
        )
    code, realm_id = query.get("code", ""), query.get("realmId", "")
    if not code or not realm_id.isdecimal():
        raise CredentialsError("Intuit sent no code or company number; run it again")
    return Consent(code=code, realm_id=realm_id)


class Callback:
    """Loopback listener for the one expected redirect."""

    def __init__(self, port: int, *, state: str) -> None:
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
                "address with your Intuit app"
            ) from None

    @property
    def redirect_uri(self) -> str:
        """The URL to register with the Intuit app."""
        return f"http://localhost:{self._server.server_port}{CALLBACK_PATH}"

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
                        f"nobody finished Intuit's page within {seconds:.0f} s; run it again"
                    )
                self._server.handle_request()
        if self._refusal is not None:
            raise self._refusal
        if self._consent is None:
            raise AssertionError("the loop ends with one of the two")
        return self._consent

    def _take(self, target: str) -> tuple[int, str]:
        try:
            consent = read_redirect(target, state=self._state)
        except CredentialsError as refusal:
            self._refusal = refusal
            return 400, "QuickBooks was not connected. Look at the terminal."
        if consent is None:
            return 400, "This is not the answer we are waiting for."
        self._consent = consent
        return 200, "QuickBooks is connected. You can close this page."
