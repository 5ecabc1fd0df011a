"""The control calls about webhooks: where they go, what is on its way, and waiting for it."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.control import read_json, reply
from sandbox.quickbooks.webhook_sender import Sender, WebhookSettings


class Flush(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /_sandbox/webhooks/flush``."""

    seconds: float = 10.0


class WebhookControls:
    """``/_sandbox/webhooks``."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def routes(self) -> list[Route]:
        """Return the control routes."""
        path = "/_sandbox/webhooks"
        return [
            Route(path, self._show, methods=["GET"]),
            Route(path, self._use, methods=["PUT"]),
            Route(path, self._end, methods=["DELETE"]),
            Route(f"{path}/deliveries", self._deliveries, methods=["GET"]),
            Route(f"{path}/flush", self._flush, methods=["POST"]),
        ]

    async def _show(self, _request: Request) -> Response:
        return reply(self._sender.settings or {})

    async def _use(self, request: Request) -> Response:
        self._sender.use(msgspec.convert(await read_json(request), WebhookSettings))
        return reply(self._sender.settings)

    async def _end(self, _request: Request) -> Response:
        self._sender.end()
        return reply({})

    async def _deliveries(self, _request: Request) -> Response:
        deliveries = [each.as_dict() for each in self._sender.deliveries]
        return reply(self._counts() | {"deliveries": deliveries})

    async def _flush(self, request: Request) -> Response:
        order = msgspec.convert(await read_json(request), Flush)
        await self._sender.drain(order.seconds)
        return reply(self._counts())

    def _counts(self) -> dict[str, object]:
        return {"pending": self._sender.pending, "delivered": self._sender.delivered}
