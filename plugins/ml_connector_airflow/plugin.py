"""Mount the console, its JSON interface and the webhook receiver in Airflow.

Every Airflow process loads this file.
"""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

Message = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]


def mounted(module: str) -> Application:
    """Return the application ``mounted`` of one of our modules.

    Its imports wait for the first request and run in a thread.
    """
    imported: list[Application] = []

    async def application(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if not imported:
            found = await asyncio.to_thread(importlib.import_module, module)
            imported.append(found.mounted)
        await imported[0](scope, receive, send)

    return application


CONSOLE = "/ml-connector/console"

FORKING = (["scheduler"], ["celery", "worker"], ["dag-processor"])
"""Commands that fork for each task (the scheduler under LocalExecutor) or for each DAG file."""


def served_under() -> str:
    """Return the path that Airflow is served under (``[api] base_url``); empty if it is the root."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")


def views() -> list[dict[str, Any]]:
    """Return the console's entry in Airflow's navigation. Airflow takes its addresses unchanged."""
    console = f"{served_under()}{CONSOLE}"
    return [
        {
            "name": "Connector",
            "href": f"{console}/",
            "icon": f"{console}/static/icon.svg",
            "icon_dark_mode": f"{console}/static/icon-dark.svg",
            "destination": "nav",
            "url_route": "customer-sync",
            "nav_top_level": True,
        }
    ]


class MlConnectorPlugin(AirflowPlugin):
    """Mounts the receiver, the console and its JSON interface; imports once what forked tasks need."""

    name = "ml_connector"
    fastapi_apps = [  # noqa: RUF012 -- as Airflow's base class has it
        {
            "app": mounted("ml_connector_airflow.mounts.receiver"),
            "url_prefix": "/ml-connector/webhooks",
            "name": "ml-connector webhooks",
        },
        {
            "app": mounted("ml_connector_airflow.mounts.console"),
            "url_prefix": CONSOLE,
            "name": "ml-connector console",
        },
        {
            "app": mounted("ml_connector_airflow.mounts.api"),
            "url_prefix": "/ml-connector/api",
            "name": "ml-connector API",
        },
    ]
    external_views = views()

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Import what tasks and DAG files need, in the process that forks them."""
        if any(sys.argv[1 : 1 + len(command)] == command for command in FORKING):
            importlib.import_module("ml_connector_airflow.preloaded")
