"""The JSON interface: routes, access checks and errors. Every route only reads our own database."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ml_connector.console.access import Caller, Right, with_headers
from ml_connector.console.api.endpoints import ENDPOINTS, Endpoint, WrongParameter
from ml_connector.console.api.openapi import MOST, USUAL, describe
from ml_connector.console.visit import PageRequest, Services, number, readable
from ml_connector.display import grouped
from ml_connector.errors import ConnectorError
from ml_connector.settings import Sync

API_PREFIX = "/ml-connector/api"
"""The interface's path below Airflow's base URL."""
VERSION = "/v1"

log = structlog.get_logger(__name__)


def build_api(services: Services) -> Callable[..., Awaitable[None]]:
    """Return the ASGI application."""
    routes = [
        Route(f"{VERSION}/openapi.json", _description(services)),
        *(Route(f"{VERSION}/{each.name}", _endpoint(services, each)) for each in ENDPOINTS),
    ]
    return with_headers(Starlette(routes=routes, exception_handlers={HTTPException: _failed}))


def _description(services: Services) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        await _caller(services, request)
        return JSONResponse(describe(f"{request.scope.get('root_path', '')}{VERSION}"))

    return endpoint


def _endpoint(services: Services, one: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        caller = await _caller(services, request)
        return await run_in_threadpool(_answer, services, one, request, caller)

    return endpoint


async def _caller(services: Services, request: Request) -> Caller:
    caller = await services.identify(request)
    if caller is None:
        raise HTTPException(401, "Send an access token of Airflow (Authorization: Bearer ...).")
    return caller


def _answer(services: Services, one: Endpoint, request: Request, caller: Caller) -> Response:
    query = readable(request.query_params)
    try:
        mine = {
            name: sync for name, sync in services.syncs().items() if caller.may(Right.READ, sync)
        }
        sync = _sync(mine, query.get("sync", ""))
        visit = PageRequest(
            request=request,
            caller=caller,
            sync=sync,
            services=services,
            syncs=tuple(mine),
            query=query,
        )
        limit = _limit(one, query)
        one.check(query)
        page = one.read(visit, limit)
    except WrongParameter as error:
        raise HTTPException(400, str(error)) from error
    except ConnectorError as error:
        log.warning("api_failed", endpoint=one.name, reason=str(error))
        raise HTTPException(503, str(error)) from error
    except SQLAlchemyError as error:
        # The error's own message would show the statement's parameters.
        log.warning("api_failed", endpoint=one.name, reason=type(error).__name__)
        raise HTTPException(500, "The connector's database refused the query.") from None
    return JSONResponse({"sync": sync.name, "rows": page.rows, "after": page.after or None})


def _sync(mine: dict[str, Sync], name: str) -> Sync:
    if not mine:
        raise HTTPException(403, "You may not see the DAG of any sync.")
    if not name and len(mine) > 1:
        raise HTTPException(400, f"sync: one of {', '.join(mine)}")
    sync = mine.get(name) if name else next(iter(mine.values()))
    if sync is None:
        raise HTTPException(404, "There is no such sync, or you may not see it.")
    return sync


def _limit(one: Endpoint, query: dict[str, str]) -> int:
    known = {"sync", "limit", "after", *one.parameters}
    if unknown := [name for name in query if name not in known]:
        raise HTTPException(
            400, f"{unknown[0][:50]}: unknown; there are {', '.join(sorted(known))}"
        )
    limit = number(query.get("limit"), default=0) if "limit" in query else USUAL
    if not 1 <= limit <= MOST:
        raise HTTPException(400, f"limit: from 1 to {grouped(MOST)}")
    return limit


async def _failed(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said: Any = error.detail if isinstance(error, HTTPException) else ""
    headers = getattr(error, "headers", None)
    return JSONResponse({"error": said}, status_code=status, headers=headers)
