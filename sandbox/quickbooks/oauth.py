"""Intuit's OAuth 2.0 endpoints: discovery, consent, tokens, revocation.

All live on one host here; clients find them through the discovery document, whose URLs follow the
host they were asked on.
"""

import asyncio
import base64
import binascii
from urllib.parse import parse_qs, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sandbox.quickbooks.api import new_tid
from sandbox.quickbooks.state import State
from sandbox.quickbooks.tokens import CLIENT_ID, CLIENT_SECRET, Grant, InvalidGrantError

TOKEN_PATH = "/oauth2/v1/tokens/bearer"  # noqa: S105 - a path
REVOKE_PATH = "/v2/oauth2/tokens/revoke"
AUTHORIZE_PATH = "/connect/oauth2"
SCOPE = "com.intuit.quickbooks.accounting"
SHORTEST_GUARDED_REFRESH = 0.05


class OAuth:
    """The authorization server."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """Return the endpoints at Intuit's real paths."""
        known = "/.well-known/openid_configuration"
        sandbox = "/.well-known/openid_sandbox_configuration"
        return [
            *(
                Route(f"{path}{slash}", self._discover)
                for path in (known, sandbox)
                for slash in ("", "/")
            ),
            Route(AUTHORIZE_PATH, self._authorize, methods=["GET"]),
            Route(TOKEN_PATH, self._issue, methods=["POST"]),
            Route(REVOKE_PATH, self._revoke, methods=["POST"]),
        ]

    async def _discover(self, request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return _json(
            {
                "issuer": "https://oauth.platform.intuit.com/op/v1",
                "authorization_endpoint": base + AUTHORIZE_PATH,
                "token_endpoint": base + TOKEN_PATH,
                "userinfo_endpoint": base + "/v1/openid_connect/userinfo",
                "revocation_endpoint": base + REVOKE_PATH,
                "jwks_uri": base + "/op/v1/jwks",
                "response_types_supported": ["code"],
                "scopes_supported": [SCOPE],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        )

    async def _authorize(self, request: Request) -> Response:
        """Consent at once, as a user who clicks "Connect" would (or refuse, by a setting)."""
        asked = request.query_params
        redirect_uri = asked.get("redirect_uri", "")
        if asked.get("client_id") != CLIENT_ID or not redirect_uri or "?" in redirect_uri:
            return _json({"error": "invalid_request"}, 400)
        if asked.get("response_type") != "code" or SCOPE not in asked.get("scope", "").split():
            return _json({"error": "invalid_request"}, 400)
        answer = {"state": asked.get("state", "")}
        if self._state.settings.deny_consent:
            answer["error"] = "access_denied"
        else:
            answer["code"] = self._state.tokens.new_code(redirect_uri)
            answer["realmId"] = self._state.realm
        return RedirectResponse(f"{redirect_uri}?{urlencode(answer)}", 302)

    async def _issue(self, request: Request) -> Response:
        if not _is_our_client(request):
            return _json({"error": "invalid_client"}, 401)
        form = {
            name: values[0]
            for name, values in parse_qs((await request.body()).decode("utf-8", "replace")).items()
        }
        try:
            match form.get("grant_type"):
                case "authorization_code":
                    await self._wait(0)
                    code, redirect_uri = form.get("code", ""), form.get("redirect_uri", "")
                    grant = self._state.tokens.exchange(code, redirect_uri)
                case "refresh_token":
                    grant = await self._refresh(form.get("refresh_token", ""))
                case _:
                    return _json({"error": "unsupported_grant_type"}, 400)
        except InvalidGrantError as problem:
            return _json({"error": "invalid_grant", "error_description": str(problem)}, 400)
        return _json(_token_body(grant, request))

    async def _refresh(self, refresh_token: str) -> Grant:
        family = self._state.tokens.begin_refresh(refresh_token)
        try:
            guarded = self._state.settings.revoke_on_concurrent
            await self._wait(SHORTEST_GUARDED_REFRESH if guarded else 0)
            return self._state.tokens.refresh(refresh_token)
        finally:
            if family is not None:
                family.refreshes_under_way -= 1

    async def _wait(self, at_least: float) -> None:
        await asyncio.sleep(max(at_least, self._state.settings.token_latency_ms / 1000))

    async def _revoke(self, request: Request) -> Response:
        if not _is_our_client(request):
            return _json({"error": "invalid_client"}, 401)
        try:
            token = msgspec.json.decode(await request.body(), type=dict[str, str])["token"]
        except (msgspec.DecodeError, KeyError):
            return _json({"error": "invalid_request"}, 400)
        if not self._state.tokens.revoke(token):
            return _json({"error": "invalid_grant"}, 400)
        return Response(status_code=200, headers={"intuit_tid": new_tid()})


def _token_body(grant: Grant, request: Request) -> dict[str, object]:
    body: dict[str, object] = {
        "token_type": "bearer",
        "access_token": grant.access_token,
        "expires_in": grant.expires_in,
        "refresh_token": grant.refresh_token,
        "x_refresh_token_expires_in": grant.refresh_expires_in,
    }
    if request.headers.get("x-include-refresh-token-hard-expires-in", "").lower() == "true":
        body["x_refresh_token_hard_expires_in"] = grant.hard_expires_in
    return body


def _is_our_client(request: Request) -> bool:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    return scheme.lower() == "basic" and given == f"{CLIENT_ID}:{CLIENT_SECRET}"


def _json(body: dict[str, object], status: int = 200) -> Response:
    headers = {"intuit_tid": new_tid(), "Cache-Control": "no-cache, no-store"}
    return Response(
        msgspec.json.encode(body), status, headers=headers, media_type="application/json"
    )
