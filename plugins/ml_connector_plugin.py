"""What Airflow mounts of ours. Loaded by every Airflow process, so it imports nothing of weight."""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

Message = MutableMapping[str, Any]


async def receiver(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Serve the webhooks; what that takes is imported for the first request, in a thread."""
    if not _imported:
        module = "ml_connector_airflow.receiving"
        _imported.append(await asyncio.to_thread(importlib.import_module, module))
    await _imported[0].mounted(scope, receive, send)


_imported: list[Any] = []


FORKING = (["scheduler"], ["celery", "worker"])
"""Commands whose processes fork tasks (the scheduler's under LocalExecutor)."""


class MlConnectorPlugin(AirflowPlugin):
    """Mounts the webhook receiver on the API server; lets tasks start without importing."""

    name = "ml_connector"
    fastapi_apps = [  # noqa: RUF012 -- as Airflow's base class has it
        {"app": receiver, "url_prefix": "/ml-connector/webhooks", "name": "ml-connector webhooks"}
    ]

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Import what tasks need where tasks are forked. Early only if plugins are not lazy."""
        if any(sys.argv[1 : 1 + len(command)] == command for command in FORKING):
            importlib.import_module("ml_connector_airflow.preloaded")
