"""The QuickBooks half's own control calls: the bookkeeper's desk, tokens and switches."""

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.control import BadControlRequestError, read_json, reply
from sandbox.quickbooks.problems import FaultError
from sandbox.quickbooks.state import Choice, State


class CompanyChoice(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /_sandbox/company``; exactly one of the first three."""

    sample: bool = False
    empty: bool = False
    customers: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.sample + self.empty + (self.customers > 0) != 1:
            raise ValueError('send one of {"sample": true}, {"empty": true}, {"customers": n}')


class MergeOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /_sandbox/customers/merge``."""

    survivor: str | int
    loser: str | int
    tombstone: bool = True


class EditOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /_sandbox/customers/edit-many``: these ids, or ``count`` after ``skip``."""

    fields: dict[str, Any]
    ids: list[str | int] | None = None
    count: int = 0
    skip: int = 0


class Controls:
    """What a person at QuickBooks' screens, or Intuit itself, can do to the mock server."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """Return the control routes."""
        routes: list[tuple[str, str, Callable[[Request], Any]]] = [
            ("POST", "company", self._choose_company),
            ("GET", "customers", self._list),
            ("POST", "customers", self._create),
            ("POST", "customers/merge", self._merge),
            ("POST", "customers/edit-many", self._edit_many),
            ("GET", "customers/{id}", self._read),
            ("PATCH", "customers/{id}", self._edit),
            ("POST", "customers/{id}/touch", self._touch),
            ("PUT", "customer-types", self._set_types),
            ("GET", "attachables", self._attachables),
            ("GET", "settings", self._settings),
            ("PUT", "settings", self._change_settings),
            ("GET", "tokens", self._tokens),
            ("POST", "tokens/expire", self._expire_tokens),
            ("POST", "tokens/revoke", self._revoke_tokens),
        ]
        return [
            Route(f"/_sandbox/{path}", _explained(handler), methods=[method])
            for method, path, handler in routes
        ]

    async def _choose_company(self, request: Request) -> Response:
        order = msgspec.convert(await read_json(request), CompanyChoice)
        choice = Choice(sample=order.sample, customers=order.customers, seed=order.seed)
        self._state.fill(choice)
        return reply({"customers": len(self._state.company.rows)})

    async def _list(self, request: Request) -> Response:
        """List customers by id; ``name`` filters on the display name, ``limit`` cuts (1000)."""
        wanted = request.query_params.get("name", "").casefold()
        limit = int(request.query_params.get("limit", "1000"))
        rows = sorted(self._state.company.rows.updated_between(), key=lambda row: row.id)
        found = [row for row in rows if wanted in row.name.casefold()]
        bodies = [row.body() for row in found[:limit]]
        return reply({"total": len(found), "customers": bodies})

    async def _read(self, request: Request) -> Response:
        return reply(self._state.company.find(request.path_params["id"]).body())

    async def _create(self, request: Request) -> Response:
        return reply(self._state.company.create(await _fields(request)).body(), 201)

    async def _edit(self, request: Request) -> Response:
        row = self._state.company.edit(request.path_params["id"], await _fields(request))
        return reply(row.body())

    async def _touch(self, request: Request) -> Response:
        return reply(self._state.company.touch(request.path_params["id"]).body())

    async def _merge(self, request: Request) -> Response:
        order = msgspec.convert(await read_json(request), MergeOrder)
        company, ids = self._state.company, (str(order.survivor), str(order.loser))
        return reply(company.merge(*ids, tombstone=order.tombstone).body())

    async def _edit_many(self, request: Request) -> Response:
        """Edit many; ``{id}`` in a text stands for the customer's id, so names can stay unique."""
        order = msgspec.convert(await read_json(request), EditOrder)
        ids = order.ids
        if ids is None:
            rows = self._state.company.rows.updated_between()
            ids = list(sorted(row.id for row in rows if row.active)[order.skip :][: order.count])
        for each in ids:
            self._state.company.edit(str(each), _filled_in(order.fields, str(each)))
        return reply({"edited": len(ids)})

    async def _set_types(self, request: Request) -> Response:
        """Replace the company's customer types, ``{"1": "Retail"}``: names by id."""
        self._state.company.customer_types = msgspec.convert(
            await read_json(request), dict[str, str]
        )
        return reply(self._state.company.customer_types)

    async def _attachables(self, _request: Request) -> Response:
        return reply({"attachables": list(self._state.attachables.by_id.values())})

    async def _settings(self, _request: Request) -> Response:
        return reply(self._state.settings)

    async def _change_settings(self, request: Request) -> Response:
        self._state.settings = self._state.settings.changed(await read_json(request))
        return reply(self._state.settings)

    async def _tokens(self, _request: Request) -> Response:
        return reply(self._state.tokens.state())

    async def _expire_tokens(self, _request: Request) -> Response:
        self._state.tokens.expire_access()
        return reply(self._state.tokens.state())

    async def _revoke_tokens(self, _request: Request) -> Response:
        self._state.tokens.revoke_all()
        return reply(self._state.tokens.state())


def _explained(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def handle(request: Request) -> Response:
        try:
            response: Response = await handler(request)
        except FaultError as problem:
            return reply({"error": str(problem)}, 404 if problem.code == 610 else 400)
        return response

    return handle


async def _fields(request: Request) -> dict[str, Any]:
    fields = await read_json(request)
    if not isinstance(fields, dict):
        raise BadControlRequestError("send a JSON object of customer fields")
    return fields


def _filled_in(fields: Any, row_id: str) -> Any:
    if isinstance(fields, str):
        return fields.replace("{id}", row_id)
    if isinstance(fields, dict):
        return {name: _filled_in(value, row_id) for name, value in fields.items()}
    return fields
