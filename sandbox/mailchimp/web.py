"""Between HTTP and the state: reading requests, writing responses, one route per resource."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.mailchimp import listing, problems, projection

Handler = Callable[[Request], Awaitable[Response]]


def answer(content: Any) -> Response:
    """Respond 200 with a JSON document."""
    return Response(
        msgspec.json.encode(content), media_type="application/json", headers={"Server": "openresty"}
    )


def no_content() -> Response:
    """Respond 204."""
    return Response(status_code=204, headers={"Server": "openresty"})


async def read_body(request: Request) -> Any:
    """Read the JSON body; 400 if it is none."""
    try:
        return msgspec.json.decode(await request.body())
    except msgspec.DecodeError:
        raise problems.bad_json() from None


async def read_object(request: Request) -> dict[str, Any]:
    """Read the JSON body, which must be an object."""
    body = await read_body(request)
    if not isinstance(body, dict):
        raise problems.schema([{"field": "", "message": "Schema describes object"}])
    return body


def flag(request: Request, name: str) -> bool:
    """Read a boolean query parameter; absent is false."""
    return request.query_params.get(name, "").lower() in ("true", "1")


def partial(request: Request, document: dict[str, Any]) -> Response:
    """Respond 200 with the parts that `fields` and `exclude_fields` leave."""
    wanted = projection.parse(request.query_params.get("fields"))
    unwanted = projection.parse(request.query_params.get("exclude_fields"))
    return answer(projection.project(document, wanted, unwanted))


def collection(request: Request, name: str, items: list[dict[str, Any]], **extra: str) -> Response:
    """Respond with a page of items: 10 unless `count` asks for more, as everywhere in this API."""
    page = listing.read_page(request.query_params)
    document = {name: page.of(items), **extra, "total_items": len(items), "_links": []}
    return partial(request, document)


def resource(path: str, **handlers: Handler) -> Route:
    """Route a resource below `/3.0` to methods; other methods get 405 with `Allow`."""

    async def dispatch(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        if method not in handlers:
            raise problems.wrong_method(", ".join(handlers))
        return await handlers[method](request)

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    return Route(f"/3.0{path}", dispatch, methods=methods)
