"""What both mock servers have around their API: the journal, faults, latency and ``/_sandbox/``.

A half of the sandbox is built as::

    Instrumented(api_app, conventions=Conventions(...), routes=[...own control routes...],
                 on_reset=state.reset)

Control calls are never journaled, delayed or hit by a fault.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

from sandbox import connections
from sandbox.clock import Clock
from sandbox.faults import Action, Body, Delay, Drop, Faults, Hang, Html, Malformed, Status
from sandbox.journal import Call, Journal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTROL_PREFIX = "/_sandbox/"


@dataclass
class Latency:
    """Milliseconds every API call waits before it is handled, as a far-away server would make it."""

    ms: float = 0.0


def _same_path(path: str) -> str:
    return path


def _not_get(method: str, path: str, body: bytes) -> bool:  # noqa: ARG001 - the general signature
    return method not in {"GET", "HEAD", "OPTIONS"}


def _never(path: str) -> bool:  # noqa: ARG001 - the general signature
    return False


@dataclass(frozen=True)
class Conventions:
    """How one API's calls read in the journal.

    ``template`` leaves ids out of a path, ``is_write`` gets method, path and body,
    ``is_token`` distinguishes OAuth calls (journaled as kind "token") from API calls.
    """

    template: Callable[[str], str] = _same_path
    is_write: Callable[[str, str, bytes], bool] = _not_get
    is_token: Callable[[str], bool] = _never


def _request_id(message: Message) -> str | None:
    headers = Headers(raw=message["headers"])
    return headers.get("x-request-id") or headers.get("intuit_tid")


class BadControlRequestError(ValueError):
    """A control call that cannot run; the response is a 400 with the message."""


def reply(content: object, status: int = 200) -> Response:
    """Respond to a control call with JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def read_json(request: Request) -> Any:
    """Read a control call's JSON body; an empty body reads as ``{}``.

    Raises:
        BadControlRequestError: the body is not JSON.
    """
    body = await request.body()
    if not body:
        return {}
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise BadControlRequestError(f"the body is not JSON: {error}") from error


class Instrumented:
    """One half of the sandbox: an API app, watched, with the control API next to it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        conventions: Conventions | None = None,
        journal: Journal | None = None,
        faults: Faults | None = None,
        latency: Latency | None = None,
        clock: Clock | None = None,
        routes: Sequence[BaseRoute] = (),
        on_reset: Callable[[], None] | None = None,
        remembers: Sequence[object] = (),
    ) -> None:
        self.app = app
        self.remembers = remembers  # the objects that ``sandbox.memory`` keeps between runs
        self.conventions = conventions or Conventions()
        self.journal = journal or Journal()
        self.faults = faults or Faults()
        self.latency = latency or Latency()
        self.clock = clock or Clock()
        self._on_reset = on_reset
        self._control = Router([*self._shared_routes(), *routes])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            raise NotImplementedError("the sandbox speaks plain HTTP only")
        if scope["path"].startswith(CONTROL_PREFIX):
            await self._serve_control(scope, receive, send)
        else:
            await self._serve_api(scope, receive, send)

    async def _serve_control(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._control(scope, receive, send)
        except ValueError as error:
            await reply({"error": str(error)}, 400)(scope, receive, send)

    async def _serve_api(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_body(receive)
        send = self._dated(send)
        method, path = scope["method"], scope["path"]
        query = scope["query_string"].decode("latin-1")
        call = self.journal.begin(
            method=method,
            path=path,
            template=self.conventions.template(path),
            query=dict(parse_qsl(query, keep_blank_values=True)),
            body=body,
            kind="token" if self.conventions.is_token(path) else "api",
            write=self.conventions.is_write(method, path, body),
        )
        action = self.faults.pick(method=method, path=path, query=unquote_plus(query), body=body)
        try:
            if self.latency.ms:
                await asyncio.sleep(self.latency.ms / 1000)
            if action is None:
                await self._handle(call, scope, _replay(body, receive), send)
            else:
                call.fault = type(action).__name__.lower()
                await self._fail(action, call, scope, receive, send)
        finally:
            self.journal.finish(call)

    def _dated(self, send: Send) -> Send:
        """Date responses by the mock server's own clock."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                now = formatdate(self.clock.now(), usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", now)]}
            await send(message)

        return dated

    async def _handle(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                call.request_id = _request_id(message)
            await send(message)

        call.applied = True
        await self.app(scope, receive, watched)

    async def _fail(
        self, action: Action, call: Call, scope: Scope, receive: Receive, send: Send
    ) -> None:
        body = _replay(call.body, receive)
        match action:
            case Status() | Html():
                await self._answer(call, _canned(action), scope, receive, send)
            case Body():
                if action.apply:
                    await self._handle(call, scope, body, _Kept())
                response = Response(_encoded(action.body), 200, media_type=action.content_type)
                await self._answer(call, response, scope, receive, send)
            case Hang():
                if await _still_there_after(action.seconds, receive):
                    await self._handle(call, scope, body, send)
            case Delay():
                kept = _Kept()
                await self._handle(call, scope, body, kept)
                await asyncio.sleep(action.seconds)
                await kept.send_on(send)
            case Drop():
                if action.when == "after":
                    await self._handle(call, scope, body, _Kept())
                    call.status = None
                connections.abort(scope)
                await receive()
            case Malformed():
                kept = _Kept()
                await self._handle(call, scope, body, kept)
                kept.halve()
                await kept.send_on(send)

    async def _answer(
        self, call: Call, response: Response, scope: Scope, receive: Receive, send: Send
    ) -> None:
        call.status = response.status_code
        await response(scope, receive, send)

    def _shared_routes(self) -> list[Route]:
        return [
            Route("/_sandbox/health", self._health, methods=["GET"]),
            Route("/_sandbox/journal", self._read_journal, methods=["GET"]),
            Route("/_sandbox/journal", self._clear_journal, methods=["DELETE"]),
            Route("/_sandbox/journal/summary", self._summarise_journal, methods=["GET"]),
            Route("/_sandbox/faults", self._add_faults, methods=["POST"]),
            Route("/_sandbox/faults", self._list_faults, methods=["GET"]),
            Route("/_sandbox/faults", self._clear_faults, methods=["DELETE"]),
            Route("/_sandbox/latency", self._set_latency, methods=["PUT"]),
            Route("/_sandbox/clock", self._set_clock, methods=["PUT"]),
            Route("/_sandbox/reset", self._reset, methods=["POST"]),
        ]

    async def _health(self, _request: Request) -> Response:
        return reply({"status": "ok"})

    async def _read_journal(self, request: Request) -> Response:
        asked = request.query_params
        write = asked.get("write")
        if write not in {None, "true", "false"}:
            raise BadControlRequestError("write is true or false")
        calls = self.journal.select(
            since=int(asked.get("since", "0")),
            write=None if write is None else write == "true",
            path=asked.get("path"),
            kind=asked.get("kind"),
        )
        return reply({"calls": [call.as_dict() for call in calls]})

    async def _clear_journal(self, _request: Request) -> Response:
        self.journal.clear()
        return reply({"calls": []})

    async def _summarise_journal(self, _request: Request) -> Response:
        return reply(self.journal.summary())

    async def _add_faults(self, request: Request) -> Response:
        added = self.faults.add(await read_json(request))
        return reply({"faults": [rule.as_dict() for rule in added]}, 201)

    async def _list_faults(self, _request: Request) -> Response:
        return reply({"faults": [rule.as_dict() for rule in self.faults.rules]})

    async def _clear_faults(self, _request: Request) -> Response:
        self.faults.clear()
        return reply({"faults": []})

    async def _set_latency(self, request: Request) -> Response:
        self.latency.ms = _number(await read_json(request), "ms")
        return reply({"ms": self.latency.ms})

    async def _set_clock(self, request: Request) -> Response:
        self.clock.offset_seconds = _number(await read_json(request), "offset_seconds")
        return reply({"offset_seconds": self.clock.offset_seconds, "now": self.clock.now()})

    async def _reset(self, _request: Request) -> Response:
        self.journal.clear()
        self.faults.clear()
        self.latency.ms = 0.0
        self.clock.offset_seconds = 0.0
        if self._on_reset is not None:
            self._on_reset()
        return reply({"status": "reset"})


class _Kept:
    """A ``send`` that keeps a response instead of sending it."""

    def __init__(self) -> None:
        self.start: Message = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")

    def halve(self) -> None:
        self.body = self.body[: len(self.body) // 2]
        headers = [pair for pair in self.start["headers"] if pair[0].lower() != b"content-length"]
        self.start["headers"] = [*headers, (b"content-length", str(len(self.body)).encode())]

    async def send_on(self, send: Send) -> None:
        await send(self.start)
        await send({"type": "http.response.body", "body": self.body})


def _canned(action: Status | Html) -> Response:
    media_type = action.content_type if isinstance(action, Status) else "text/html"
    return Response(
        _encoded(action.body), action.status, headers=dict(action.headers), media_type=media_type
    )


def _encoded(body: object) -> bytes:
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)


def _number(body: Any, name: str) -> float:
    value = body.get(name) if isinstance(body, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadControlRequestError(f'send {{"{name}": number}}')
    return float(value)


async def _read_body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _still_there_after(seconds: float, receive: Receive) -> bool:
    async def hung_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(hung_up(), seconds)
    except TimeoutError:
        return True
    return False
