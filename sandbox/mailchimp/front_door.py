"""What every request passes before the API proper: the connection limit, the key, a request id."""

import base64
import binascii
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.control import ASGIApp, Message, Receive, Scope, Send
from sandbox.mailchimp import problems
from sandbox.mailchimp.account import Account
from sandbox.mailchimp.oauth import PREFIX
from sandbox.mailchimp.problems import ProblemError

OVER_LIMIT = "mailchimp.over_limit"
_REQUEST_ID = "mailchimp.request_id"


class FrontDoor:
    """Wraps the API. Every response has an `X-Request-Id`; in a problem it equals `instance`."""

    def __init__(self, app: ASGIApp, account: Account) -> None:
        self._app = app
        self._account = account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request_id = str(uuid.uuid4())
        scope[_REQUEST_ID] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        if scope.get(OVER_LIMIT):
            refusal = problems.too_many_connections(self._account.settings.connection_limit)
            await refuse(scope, refusal)(scope, receive, send_with_id)
        elif scope["path"].startswith(PREFIX):  # its callers have no key yet
            await self._app(scope, receive, send_with_id)
        elif not self._knows_key(Headers(scope=scope).get("authorization", "")):
            await refuse(scope, problems.unauthorized())(scope, receive, send_with_id)
        else:
            await self._app(scope, receive, send_with_id)

    def _knows_key(self, authorization: str) -> bool:
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                _, _, credentials = base64.b64decode(credentials).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() not in ("bearer", "oauth"):
            return False
        elif credentials in self._account.grants.tokens:
            return True
        return credentials == self._account.settings.api_key


def refuse(scope: Scope, problem: ProblemError) -> Response:
    """Respond with a problem."""
    headers = {"Server": "openresty"} | ({"Allow": problem.allow} if problem.allow else {})
    return JSONResponse(
        problem.body(scope[_REQUEST_ID]),
        problem.status,
        headers=headers,
        media_type="application/problem+json; charset=utf-8",
    )


async def on_problem(request: Request, error: Exception) -> Response:
    """Respond with a problem that a handler raised; an unknown address is a 404 like any other."""
    if isinstance(error, HTTPException):
        error = problems.not_found()
    if not isinstance(error, ProblemError):
        raise error
    return refuse(request.scope, error)
