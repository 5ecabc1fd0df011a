"""OpenAPI description of the JSON interface, made from its endpoints.

https://spec.openapis.org/oas/v3.1.1
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ml_connector.console import words
from ml_connector.console.api.endpoints import ENDPOINTS, Endpoint

MOST = 1000
"""A response has at most this many rows."""
USUAL = 100
"""A response has this many rows if no ``limit`` is given."""


_FORMS: dict[str, dict[str, str]] = {
    "text": {},
    "day": {"format": "date"},
    "tag": {"pattern": "^([0-9a-f]{16})?$"},
}


def describe(base: str) -> dict[str, Any]:
    """Return the description of the interface under the path ``base``."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ml-connector",
            "version": "1.0",
            "summary": "Customers, runs, audit and events of a sync. Read-only.",
        },
        "servers": [{"url": base}],
        "security": [{"airflow": []}],
        "paths": {f"/{each.name}": {"get": _operation(each)} for each in ENDPOINTS},
        "components": {
            "securitySchemes": {
                "airflow": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token of Airflow, from POST /auth/token.",
                }
            },
            "schemas": {each.name: row_schema(each) for each in ENDPOINTS},
        },
    }


def row_schema(endpoint: Endpoint) -> dict[str, Any]:
    """Return the JSON schema of an endpoint's rows."""
    return {
        "type": "object",
        "properties": {name: _type(kind) for name, kind in endpoint.row.items()},
        "required": list(endpoint.row),
        "additionalProperties": False,
    }


def _type(kind: str) -> dict[str, Any]:
    name = kind.removesuffix("?")
    form = {"format": "date-time"} if name == "time" else {}
    plain = "string" if name == "time" else name
    items = {"items": {"type": "object"}} if name == "array" else {}
    return {"type": [plain, "null"] if kind.endswith("?") else plain, **form, **items}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    rows = {"type": "array", "items": {"$ref": f"#/components/schemas/{endpoint.name}"}}
    answer = {
        "type": "object",
        "properties": {
            "sync": {"type": "string"},
            "rows": rows,
            "after": {"type": ["string", "null"], "description": "Where the next page begins."},
        },
        "required": ["sync", "rows", "after"],
    }
    return {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": list(_parameters(endpoint)),
        "responses": {
            "200": {"description": "A page", "content": {"application/json": {"schema": answer}}},
            **{
                str(status): {"description": said}
                for status, said in {
                    400: "A parameter cannot be read; the error names it",
                    401: "No access token, or an old one",
                    403: "You may not see the DAG of the sync",
                    404: "There is no such sync",
                    405: "Another method than GET or HEAD",
                    503: "The connector's database or a setting is missing",
                }.items()
            },
        },
    }


def _parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    number = {"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL}
    yield _parameter("sync", {"type": "string"}, "A sync's name; needed if you may see several.")
    yield _parameter("limit", number, "Rows of a page.")
    token = {"type": "string", "pattern": f"^({endpoint.after})?$"}
    yield _parameter("after", token, "The token of the page before.")
    for name, takes in endpoint.parameters.items():
        yield _parameter(name, _taken(takes), words.FILTER.get(name, ""))


def _taken(takes: Sequence[str] | str) -> dict[str, Any]:
    if isinstance(takes, str):
        return {"type": "string", **_FORMS[takes]}
    return {"type": "string", "enum": list(takes)}


def _parameter(name: str, schema: dict[str, Any], said: str) -> dict[str, Any]:
    told = {"description": said} if said else {}
    return {"name": name, "in": "query", "schema": schema, **told}
