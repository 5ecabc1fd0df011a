"""Console application: routes, access checks and error pages, inside Airflow's own UI.

Bare Starlette, mounted under ``PREFIX`` by the Airflow plugin. Airflow does not authenticate what a
plugin mounts. So every route here identifies the user and checks a right (``console/access.py``).
The routes are one table, and a test walks it. Handlers block, so they run in threads.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ml_connector.console.access import Caller, Right, is_cross_site, with_headers
from ml_connector.console.pages import (
    audit,
    customer_list,
    customers,
    drift,
    overview,
    plans,
    retry,
    runs,
    setup,
    webhooks,
)
from ml_connector.console.rendering import STATIC, render, version
from ml_connector.console.visit import PageRequest, Services, readable
from ml_connector.errors import ConnectorError, NeedsReauth
from ml_connector.settings import Sync

MAX_FORM = 64 << 10
"""Limit of a form's body, in bytes. Our largest form is a search."""

Handler = Callable[[PageRequest], Response]
log = structlog.get_logger(__name__)


class RowId(StringConvertor):
    """The id of a row in a path: digits of a ``bigint``. Python parses no number of 5,000."""

    regex = "[0-9]{1,18}"


register_url_convertor("row", RowId())


@dataclass(frozen=True, slots=True)
class PageRoute:
    """One route below ``/{sync}``, and the right it requires."""

    path: str
    right: Right
    make: Handler
    method: str = "GET"


PAGES = (
    PageRoute("", Right.READ, overview.overview),
    PageRoute("/run/progress", Right.READ, runs.follow),
    PageRoute("/run", Right.RUN, runs.start, "POST"),
    PageRoute("/customers", Right.READ, customer_list.list_customers),
    PageRoute("/customers", Right.READ, customers.find, "POST"),
    PageRoute("/customers/filter", Right.READ, customer_list.refine, "POST"),
    PageRoute("/customers/retry", Right.RUN, retry.ask),
    PageRoute("/customers/retry/start", Right.RUN, retry.retry_listed, "POST"),
    PageRoute("/customers.csv", Right.SETUP, customer_list.download_customers),
    PageRoute("/customers/{id}", Right.READ, customers.customer),
    PageRoute("/customers/{id}/use/{tag}", Right.RUN, customers.use, "POST"),
    PageRoute("/contacts/{key}/restore/{tag}", Right.RUN, customers.restore, "POST"),
    PageRoute("/contacts/{key}", Right.READ, customers.contact),
    PageRoute("/audit", Right.READ, audit.trail),
    PageRoute("/audit/address", Right.READ, audit.of_address, "POST"),
    PageRoute("/audit.csv", Right.READ, audit.export),
    PageRoute("/audit/replay", Right.RUN, audit.replay_failed, "POST"),
    PageRoute("/audit/{id:row}", Right.READ, audit.entry),
    PageRoute("/audit/{id:row}/replay", Right.RUN, audit.replay, "POST"),
    PageRoute("/webhooks", Right.READ, webhooks.list_events),
    PageRoute("/webhooks/retry", Right.RUN, webhooks.retry, "POST"),
    PageRoute("/webhooks/{id:row}", Right.READ, webhooks.event),
    PageRoute("/webhooks/{id:row}/retry", Right.RUN, webhooks.retry, "POST"),
    PageRoute("/plans", Right.READ, plans.list_plans),
    PageRoute("/plans/{id:row}", Right.READ, plans.plan),
    PageRoute("/plans/{id:row}/undo", Right.RUN, plans.undo, "POST"),
    PageRoute("/plans/{id:row}.csv", Right.READ, plans.download),
    PageRoute("/drift", Right.READ, drift.drift),
    PageRoute("/drift/read", Right.READ, drift.read, "POST"),
    PageRoute("/drift.csv", Right.READ, drift.download_drift),
    PageRoute("/setup", Right.SETUP, setup.setup),
    PageRoute("/setup/ping/{system}", Right.SETUP, setup.ping, "POST"),
    PageRoute("/setup/audience", Right.SETUP, setup.audience, "POST"),
    PageRoute("/setup/samples", Right.SETUP, setup.show_samples, "POST"),
    PageRoute("/setup/connect/{system}", Right.CONNECT, setup.connect),
    PageRoute(setup.RETURN, Right.CONNECT, setup.connected),
    PageRoute(f"{setup.RETURN}/{{system}}", Right.CONNECT, setup.connected),
)

FILES = {
    "console.css": "text/css",
    "icon.svg": "image/svg+xml",
    "icon-dark.svg": "image/svg+xml",
    "theme.js": "text/javascript",
    "early.js": "text/javascript",
    "console.js": "text/javascript",
    "charts.js": "text/javascript",
    "vendor/htmx-2.0.11.min.js": "text/javascript",
    "vendor/chart-4.6.1.umd.min.js": "text/javascript",
}


def build_console(services: Services) -> Callable[..., Awaitable[None]]:
    """Return the ASGI application."""
    door = _Gatekeeper(services)
    routes = [
        Route("/", door.home),
        Route("/static/{name:path}", door.static),
        *(Route(f"/{{sync}}{page.path}", door.page(page), methods=[page.method]) for page in PAGES),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    return with_headers(app)


class _Gatekeeper:
    """Endpoints behind the access check."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def page(self, page: PageRoute) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint of a page."""

        async def endpoint(request: Request) -> Response:
            if page.make is setup.connected and (other := setup.other_loopback(request)):
                return RedirectResponse(other, status_code=303)
            caller = await self._caller(request)
            # A search is a POST too, which keeps it out of logs.
            if is_cross_site(request.method, request.headers, reads=page.right is Right.READ):
                raise HTTPException(403, "This request did not come from one of our pages.")
            form = await _form(request) if request.method == "POST" else {}
            return await run_in_threadpool(self._made, page, request, caller, form)

        return endpoint

    async def home(self, request: Request) -> Response:
        """Redirect to the first sync that the user may see."""
        caller = await self._caller(request)
        syncs = await run_in_threadpool(self._syncs_of, caller)
        root = request.scope.get("root_path", "")
        return RedirectResponse(f"{root}/{next(iter(syncs))}", status_code=303)

    async def static(self, request: Request) -> Response:
        """Serve our static files; let browsers cache a file whose URL has its content hash."""
        await self._caller(request)
        name = request.path_params["name"]
        if name not in FILES:
            raise HTTPException(404, "There is nothing here.")
        kept = request.query_params.get("v") == version(name)
        return Response(
            (STATIC / name).read_bytes(),
            media_type=FILES[name],
            headers={"cache-control": "private, max-age=604800, immutable" if kept else "no-store"},
        )

    async def _caller(self, request: Request) -> Caller:
        caller = await self._services.identify(request)
        if caller is None:
            raise HTTPException(401, self._services.login_url)
        return caller

    def _syncs_of(self, caller: Caller) -> dict[str, Sync]:
        syncs = self._services.syncs()
        readable = {name: sync for name, sync in syncs.items() if caller.may(Right.READ, sync)}
        if not readable:
            raise HTTPException(403, "You may not see the DAG of any sync.")
        return readable

    def _made(
        self, page: PageRoute, request: Request, caller: Caller, form: dict[str, str]
    ) -> Response:
        try:
            mine = self._syncs_of(caller)
            sync = mine.get(request.path_params["sync"])
            if sync is None:
                raise HTTPException(404, "There is no such sync, or you may not see it.")
            if not caller.may(page.right, sync):
                raise HTTPException(403, _NEEDS[page.right])
            visit = PageRequest(
                request=request,
                caller=caller,
                sync=sync,
                services=self._services,
                syncs=tuple(mine),
                path=readable(request.path_params),
                query=readable(request.query_params),
                form=readable(form),
            )
            try:
                return page.make(visit)
            except NeedsReauth as error:  # one sentence with its Connect button
                return visit.page(
                    "notice.html" if visit.partial else "message.html",
                    status=503,
                    ok=False,
                    title="Not connected",
                    said=str(error),
                )
        except ConnectorError as error:
            log.warning("console_page_failed", page=page.path, reason=str(error))
            raise HTTPException(503, str(error)) from error
        except SQLAlchemyError as error:
            # The error's own message would show the statement's parameters.
            log.warning("console_page_failed", page=page.path, reason=type(error).__name__)
            raise HTTPException(500, "The connector's database refused the query.") from None


_NEEDS = {
    Right.READ: "You may not see the DAG of this sync.",
    Right.RUN: "You need permission to start runs of this DAG.",
    Right.SETUP: "You need permission to see Airflow's connections.",
    Right.CONNECT: "You need permission to edit Airflow's connections.",
}
_TITLES = {401: "Log in first", 403: "Not allowed", 404: "Nothing here", 405: "Method not allowed"}


async def _form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise HTTPException(413, "This form is too large.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        raise HTTPException(400, "This form cannot be read.") from None


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = error.detail if isinstance(error, HTTPException) else ""
    partial = request.headers.get("hx-request") == "true"
    html = render(
        "refused.html",
        root=request.scope.get("root_path", ""),
        title=_TITLES.get(status, "That did not work"),
        said="" if status == 401 else said,
        login=said if status == 401 else "",
        partial=partial,
    )
    return HTMLResponse(html, status_code=status, headers=getattr(error, "headers", None))
