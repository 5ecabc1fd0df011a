"""The Accounting API's endpoints under ``/v3/company/{realm}``."""

import hashlib
import re
import secrets
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sandbox.quickbooks import batch, cdc, problems, xml
from sandbox.quickbooks.limits import Limits
from sandbox.quickbooks.operations import Operations
from sandbox.quickbooks.state import State
from sandbox.quickbooks.times import to_text_ms

LONGEST_REQUEST_ID = 50
CUSTOM_FIELDS_TOO = "enhancedAllCustomFields"
WRITABLE_ENTITIES = frozenset({"customer", "attachable"})


class Api:
    """Serves API requests: gateway checks first, then the resource the path names."""

    def __init__(self, state: State, limits: Limits) -> None:
        self._state = state
        self._limits = limits
        self._operations = Operations(state)

    async def handle(self, request: Request) -> Response:
        """Respond to one request; every response carries an ``intuit_tid``."""
        body = await request.body()
        status, content = 200, b""
        try:
            self._pass_gateway(request)
            content = self._close(self._answer(request, body))
        except problems.GatewayError as problem:
            status = problem.status
            content = msgspec.json.encode(problem.envelope(self._state.clock.now()))
        except problems.FaultError as problem:
            status = problem.status
            fault = b'"Fault":' + msgspec.json.encode(problem.fault())
            content = self._close(fault) if problem.timed else b"{" + fault + b"}"
        return _respond(request, status, content)

    def _pass_gateway(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise problems.authentication_failed("Malformed bearer token: too short or too long")
        if not self._state.tokens.is_access_token(token):
            raise problems.authentication_failed(f"Token expired: {token}")
        if request.path_params["realm"] != self._state.realm:
            raise problems.realm_refused()
        if self._state.settings.enforce_limits and not self._limits.admit(
            batch=request.path_params["rest"] == "batch"
        ):
            raise problems.throttled()

    def _answer(self, request: Request, body: bytes) -> bytes:
        """Return the members of the response, without braces and ``time``."""
        method, rest = request.method, request.path_params["rest"]
        entity, _, object_id = rest.partition("/")
        asked = request.query_params
        custom = asked.get("include") == CUSTOM_FIELDS_TOO
        if method in ("GET", "POST") and rest == "query":
            get = method == "GET"
            text = _required(asked.get("query"), "query") if get else _statement(request, body)
            return self._operations.query(text, custom_fields=custom)
        if method == "GET" and rest == "cdc":
            return cdc.answer(self._state.company, asked.get("entities"), asked.get("changedSince"))
        if method == "GET" and object_id:
            return self._operations.read(entity, object_id, custom_fields=custom)
        if method == "POST" and rest in WRITABLE_ENTITIES | {"batch"}:
            return self._once(request, body)
        raise problems.unsupported(request.url.path)

    def _once(self, request: Request, body: bytes) -> bytes:
        """Run a write, or replay the response that a request id got before.

        Only successes are remembered. The same id with another body is refused with code 600
        (listed in Intuit's table; when exactly it is used is not documented).
        """
        request_id = request.query_params.get("requestid")
        if request_id is None:
            return self._write(request, body)
        if not 0 < len(request_id) <= LONGEST_REQUEST_ID:
            raise problems.request_id_malformed("requestid is 1 to 50 characters")
        digest = hashlib.sha256(request.url.path.encode() + b"\n" + body).digest()
        remembered = self._state.replays.get(request_id)
        if remembered is not None:
            if remembered[0] != digest:
                raise problems.request_id_reused()
            return remembered[1]
        answer = self._write(request, body)
        self._state.replays[request_id] = (digest, answer)
        return answer

    def _write(self, request: Request, body: bytes) -> bytes:
        entity, asked = request.path_params["rest"], request.query_params
        sent = _json(body)
        if entity != "batch":
            return self._operations.write(entity, asked.get("operation"), sent)
        limit, request_id = self._state.settings.batch_limit, asked.get("requestid")
        return batch.answer(self._operations, sent, limit=limit, request_id=request_id)

    def _close(self, members: bytes) -> bytes:
        time = to_text_ms(self._state.clock.now()).encode()
        return b'{%s,"time":"%s"}' % (members, time)


def _statement(request: Request, body: bytes) -> str:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if content_type not in {"application/text", "text/plain"}:
        raise problems.unsupported(request.url.path)
    try:
        return _required(body.decode(), "query")
    except UnicodeDecodeError as error:
        raise problems.unreadable("Invalid UTF-8 middle byte") from error


def _required(value: str | None, name: str) -> str:
    if not value:
        raise problems.missing(name)
    return value


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise problems.unreadable(f"Property Name:Malformed JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise problems.unreadable("Invalid UTF-8 middle byte") from error


def _respond(request: Request, status: int, content: bytes) -> Response:
    media_type = "application/json"
    if not re.search(r"application/json", request.headers.get("accept", "")):
        media_type = "application/xml"
        content = xml.render(msgspec.json.decode(content))
    headers = {
        "intuit_tid": new_tid(),
        "QBO-Version": "1992.209",
        "Cache-Control": "max-age=0, no-cache, no-store, must-revalidate, private",
    }
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="Intuit", error="invalid_token"'
    return Response(content, status, headers=headers, media_type=media_type)


def new_tid() -> str:
    """Make a transaction id of the form Intuit's ``intuit_tid`` header has."""
    return f"1-{secrets.token_hex(4)}-{secrets.token_hex(12)}"
