"""Mailchimp's consent page, and the token that a consent gives.

A token has no end and is not refreshed. It is good until the user takes the access back.

https://mailchimp.com/developer/marketing/guides/access-user-data-oauth-2/
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from ml_connector.errors import CredentialsError, RateLimited, SettingsError, Unavailable
from ml_connector.mailchimp.protocol import DATA_CENTRE
from ml_connector.wire.consent import ConsentPage
from ml_connector.wire.formats import decode_document, retry_after
from ml_connector.wire.transport import Request, Response, Transport

PAGE = ConsentPage(
    system="Mailchimp",
    owner="Mailchimp",
    url="https://login.mailchimp.com/oauth2/authorize",
    loopback="127.0.0.1",
)
TOKEN_URL = "https://login.mailchimp.com/oauth2/token"  # noqa: S105 (an address)
METADATA_URL = "https://login.mailchimp.com/oauth2/metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A token, and the API's base URL in the account's data centre, up to ``/3.0``."""

    access_token: str = field(repr=False)
    base_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Addresses of the authorization server."""

    authorize: str = PAGE.url
    token: str = TOKEN_URL
    metadata: str = METADATA_URL

    @classmethod
    def of(cls, extra: Mapping[str, Any]) -> "Endpoints":
        """Return a connection's addresses; those it does not name share the base of ``token_url``."""
        token = str(extra.get("token_url") or "").strip() or TOKEN_URL
        beside = token.rpartition("/")[0]
        return cls(
            authorize=str(extra.get("authorize_url") or "").strip() or f"{beside}/authorize",
            token=token,
            metadata=str(extra.get("metadata_url") or "").strip() or f"{beside}/metadata",
        )


class AuthorizationServer:
    """Exchanges a consent's code: two calls, never retried here."""

    def __init__(
        self, transport: Transport, endpoints: Endpoints, client_id: str, client_secret: str
    ) -> None:
        self._transport = transport
        self._endpoints = endpoints
        self._client_id = client_id
        self._client_secret = client_secret

    def exchange(self, code: str, redirect_uri: str) -> Grant:
        """Return the token for a consent's code, with the data centre of its account.

        Raises ``CredentialsError``, ``SettingsError`` or ``RetryLater``.
        """
        form = {
            "grant_type": "authorization_code",
            "client_id": self._client_id,
            "client_secret": self._client_secret,
            "redirect_uri": redirect_uri,
            "code": code,
        }
        asked = Request(
            method="POST",
            url=self._endpoints.token,
            headers={
                "Accept": "application/json",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            body=urlencode(form).encode(),
        )
        token = _read(self._transport.send(asked)).get("access_token")
        if not isinstance(token, str) or not token.strip():
            raise Unavailable("Mailchimp sent no token; connect again")
        asked = Request(
            method="GET",
            url=self._endpoints.metadata,
            headers={"Accept": "application/json", "Authorization": f"OAuth {token}"},
        )
        found = _read(self._transport.send(asked))
        return Grant(access_token=token, base_url=_base_url(found, self._endpoints))


def _base_url(found: Mapping[str, Any], endpoints: Endpoints) -> str:
    """Return the base URL of the account's API. The token goes to no host but Mailchimp's."""
    centre = found.get("dc")
    if endpoints.metadata == METADATA_URL:
        if not isinstance(centre, str) or not DATA_CENTRE.fullmatch(centre):
            raise Unavailable("Mailchimp did not name the account's data centre; connect again")
        return f"https://{centre}.api.mailchimp.com/3.0"
    endpoint = found.get("api_endpoint")
    if not isinstance(endpoint, str) or not urlsplit(endpoint).hostname:
        raise SettingsError("metadata_url in the connection's extra names no api_endpoint")
    return f"{endpoint.rstrip('/')}/3.0"


def _read(response: Response) -> dict[str, Any]:
    """Return the document of a response, or raise the error that it means."""
    document = decode_document(response.body)
    if response.status == 200 and document is not None and "error" not in document:
        return document
    error = str((document or {}).get("error") or "")
    if error == "invalid_grant":
        raise CredentialsError("Mailchimp: the consent's code is spent or too old; connect again")
    if error in {"invalid_client", "unauthorized_client"} or response.status in {401, 403}:
        raise CredentialsError(
            "Mailchimp: client id or client secret is wrong; copy both from your Mailchimp app into"
            " the connection's Client ID and Client secret"
        )
    asked = retry_after(response.headers)
    if response.status == 429:
        raise RateLimited("Mailchimp's login: too many requests (429)", retry_after=asked)
    if response.status >= 500 or document is None:
        raise Unavailable(
            f"Mailchimp's login is out of order ({response.status}); connect again later",
            retry_after=asked,
        )
    raise SettingsError(
        f"Mailchimp's login refused the call ({response.status}); check that the app has exactly the"
        " redirect address that Setup shows"
    )
