"""Mailchimp's OAuth 2.0 endpoints: consent, token, metadata.

All live on the API's host here. Tokens have no end and are not refreshed.
https://mailchimp.com/developer/marketing/guides/access-user-data-oauth-2/
"""

from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sandbox.mailchimp.account import Account

PREFIX = "/oauth2/"
CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"  # noqa: S105 - the mock server's published credentials


class OAuth:
    """The authorization server of an account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._clock = account.clock

    def routes(self) -> list[Route]:
        """Return the endpoints at Mailchimp's real paths."""
        return [
            Route(f"{PREFIX}authorize", self._authorize, methods=["GET"]),
            Route(f"{PREFIX}token", self._issue, methods=["POST"]),
            Route(f"{PREFIX}metadata", self._describe, methods=["GET"]),
        ]

    async def _authorize(self, request: Request) -> Response:
        """Consent at once, as a user who clicks "Allow" would (or refuse, by a setting)."""
        asked = request.query_params
        redirect_uri = asked.get("redirect_uri", "")
        host = urlsplit(redirect_uri).hostname
        # A redirect to this machine is allowed by its number only.
        if asked.get("client_id") != CLIENT_ID or not host or host == "localhost":
            return _refused("invalid_request")
        if asked.get("response_type") != "code":
            return _refused("unsupported_response_type")
        answer = {"state": asked.get("state", "")}
        if self._account.settings.deny_consent:
            answer["error"] = "access_denied"
        else:
            answer["code"] = self._account.grants.new_code(redirect_uri, self._clock.now())
        return RedirectResponse(f"{redirect_uri}?{urlencode(answer)}", 302)

    async def _issue(self, request: Request) -> Response:
        given = parse_qs((await request.body()).decode("utf-8", "replace"))
        form = {name: values[0] for name, values in given.items()}
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return _refused("invalid_client", 401)
        if form.get("grant_type") != "authorization_code":
            return _refused("unsupported_grant_type")
        code, redirect_uri = form.get("code", ""), form.get("redirect_uri", "")
        token = self._account.grants.exchange(code, redirect_uri, self._clock.now())
        if token is None:
            return _refused("invalid_grant")
        return JSONResponse({"access_token": token, "expires_in": 0, "scope": None})

    async def _describe(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "oauth" or token not in self._account.grants.tokens:
            return _refused("invalid_token", 401)
        return JSONResponse(
            {
                "dc": "us99",
                "role": "owner",
                "accountname": "Sample Company",
                "user_id": 1,
                "login": {
                    "email": "office@sample-company.com",
                    "avatar": None,
                    "login_id": 1,
                    "login_name": "sample-owner",
                    "login_email": "office@sample-company.com",
                },
                "login_url": "https://login.mailchimp.com",
                "api_endpoint": str(request.base_url).rstrip("/"),
            }
        )


def _refused(error: str, status: int = 400) -> Response:
    return JSONResponse({"error": error}, status)
