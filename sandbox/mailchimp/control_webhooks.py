"""The control API's part about webhooks: what is on its way, and waiting for it."""

from collections import Counter

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.control import read_json, reply
from sandbox.mailchimp.deliveries import Deliveries


class WebhookControl:
    """`/_sandbox/webhooks/...`."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries

    def routes(self) -> list[Route]:
        """Return the control calls."""
        path = "/_sandbox/webhooks"
        return [
            Route(f"{path}/deliveries", self.list, methods=["GET"]),
            Route(f"{path}/flush", self.flush, methods=["POST"]),
        ]

    async def list(self, _: Request) -> Response:
        """List the deliveries still to make, and those that ended."""
        return reply(
            {
                "pending": [each.render() for each in self._deliveries.pending.values()],
                "done": [each.render() for each in self._deliveries.done],
            }
        )

    async def flush(self, request: Request) -> Response:
        """Wait until nothing is pending, 10 seconds at most unless `seconds` says otherwise."""
        seconds = (await read_json(request)).get("seconds", 10)
        if not isinstance(seconds, int | float):
            raise ValueError("seconds is a number")  # noqa: TRY004 - becomes a 400
        await self._deliveries.drain(seconds)
        ended = Counter(each.state for each in self._deliveries.done)
        counts = {state: ended[state] for state in ("delivered", "failed", "dropped")}
        return reply(counts | {"pending": len(self._deliveries.pending)})
