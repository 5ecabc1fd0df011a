"""Prepare in the fork server what every forked component would otherwise prepare by itself.

Runs inside Airflow, before any fork, so nothing here opens a connection or starts a thread.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

EXECUTION_API = "/execution"
NOTHING = "/nothing"

SETUP = (
    "airflow.__main__",
    "airflow.utils.db",
    "airflow.api_fastapi.app",
    "airflow.api_fastapi.auth.managers.base_auth_manager",
    "alembic.command",
    "alembic.runtime.environment",
    "airflow.migrations.utils",
    "setproctitle",
    "tabulate",
)
"""What the setup of Airflow's database needs."""

TASKS = (
    "local.warm:plugins",
    "ml_connector_airflow.preloaded",
    "airflow.cli.commands.dag_processor_command",
    "airflow.cli.commands.scheduler_command",
    "airflow.cli.commands.triggerer_command",
    "airflow.api_fastapi.execution_api.routes",
    "airflow.api_fastapi.execution_api.versions",
    "airflow.executors.local_executor",
    "airflow.sdk._shared.logging.factory",
    "airflow.sdk._shared.logging.remote",
    "airflow.serialization.definitions.mappedoperator",
    "airflow.utils.serve_logs",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "uvloop",
)
"""What the DAG processor, the scheduler and the triggerer need besides."""

API_SERVER = (
    "airflow.cli.commands.api_server_command",
    "ml_connector.webhooks.receiver.app",
    "ml_connector_airflow.commands.webhooks",
    "ml_connector_airflow.mounts.receiver",
    "local.warm:api_server",
)
"""What the API server needs besides, and the registration of webhooks with it."""


def plugins() -> None:
    """Load plugins and the providers' configuration."""
    from airflow import plugins_manager  # noqa: PLC0415 - the module is imported without Airflow too
    from airflow.providers_manager import ProvidersManager  # noqa: PLC0415

    plugins_manager.ensure_plugins_loaded()
    ProvidersManager().initialize_providers_configuration()  # type: ignore[no-untyped-call]


def api_server() -> None:
    """Build the API server's application, which is cached for the child that serves it.

    The execution API builds its routes for its first request, whatever it asks for. That takes
    three CPU seconds, and without this a task would wait for them.
    """
    from airflow.api_fastapi.app import cached_app  # noqa: PLC0415

    # With the same argument as airflow/api_fastapi/main.py, else the cache misses.
    app = cached_app(apps="all")
    for mounted in _mounted(app, EXECUTION_API):
        asyncio.run(request(mounted, NOTHING))
        asyncio.run(request(mounted, NOTHING))


def _mounted(app: Any, path: str) -> Iterator[Any]:
    for route in app.routes:
        if getattr(route, "path", "") == path:
            yield route.app


async def request(app: Any, path: str) -> int:
    """Send a GET request to an ASGI application; return the status of its response."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return statuses[0]
