"""Webhooks on their way: sent one by one, signed, and again until the response is 2xx."""

import asyncio
import contextlib
import hashlib
import heapq
import hmac
import random
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from sandbox.mailchimp import outgoing, payloads
from sandbox.mailchimp.account import Account
from sandbox.mailchimp.changes import Change
from sandbox.mailchimp.webhooks import Webhook

USER_AGENT = "MailChimp.com"
VALIDATOR = "MailChimp.com WebHook Validator"
SHUFFLED_OVER_SECONDS = 0.5
_REMEMBERED = 10_000


@dataclass(eq=False)
class Delivery:
    """One event for one webhook.

    Attributes:
        state: pending, delivered, failed (no try is left) or dropped (the webhook was removed).
        last_status: of the last response; 0 when there was none, and `last_error` says why.
    """

    number: int
    webhook: Webhook
    type: str
    body: bytes
    state: str = "pending"
    tries: int = 0
    last_status: int = 0
    last_error: str = ""

    def render(self) -> dict[str, Any]:
        """Return the delivery as the control API shows it."""
        return {
            "number": self.number,
            "type": self.type,
            "webhook_id": self.webhook.id,
            "url": self.webhook.url,
            "state": self.state,
            "tries": self.tries,
            "last_status": self.last_status,
            "last_error": self.last_error,
        }


class Deliveries:
    """Listens to changes and reports them from a task of its own.

    What is pending when the server stops is lost.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._worker: asyncio.Task[None] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything; nothing more is sent."""
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None
        self.done: deque[Delivery] = deque(maxlen=_REMEMBERED)
        self.pending: dict[int, Delivery] = {}
        self._due: list[tuple[float, int]] = []
        self._added = asyncio.Event()
        self._reported = 0
        self._number = 0
        self._random = random.Random(1)  # noqa: S311 - an order to test with

    def listen(self, change: Change) -> None:
        """Queue the change for the webhooks that want it."""
        hooks = self._account.audience(change.list_id).webhooks.values()
        wanting = [each for each in hooks if each.wants(change.type, change.by)]
        if not wanting:
            return
        body = payloads.encode(change)
        every = self._account.settings.webhook_duplicate_every
        for webhook in wanting:
            self._reported += 1
            self._add(webhook, change.type, body)
            if every and self._reported % every == 0:
                self._add(webhook, change.type, body)

    async def drain(self, seconds: float) -> None:
        """Wait until nothing is pending, but no longer than this."""
        if self._worker is not None and not self._worker.done():
            await asyncio.wait({self._worker}, timeout=seconds)

    def _add(self, webhook: Webhook, kind: str, body: bytes) -> None:
        self._number += 1
        self.pending[self._number] = Delivery(self._number, webhook, kind, body)
        shuffled = self._account.settings.webhook_shuffle
        delay = self._random.uniform(0, SHUFFLED_OVER_SECONDS) if shuffled else 0.0
        heapq.heappush(self._due, (time.monotonic() + delay, self._number))
        if self._worker is None or self._worker.done():
            # A worker of an earlier server has ended with its event loop.
            self._added = asyncio.Event()
            self._worker = asyncio.get_running_loop().create_task(self._work())
        self._added.set()

    async def _work(self) -> None:
        while self._due:
            due, number = self._due[0]
            wait = due - time.monotonic()
            if wait > 0:
                self._added.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._added.wait(), wait)
                continue
            heapq.heappop(self._due)
            delivery = self.pending[number]
            await self._try(delivery)
            if delivery.state == "pending":
                pause = self._account.settings.webhook_retry_seconds[delivery.tries - 1]
                heapq.heappush(self._due, (time.monotonic() + pause, number))
            else:
                del self.pending[number]
                self.done.append(delivery)

    async def _try(self, delivery: Delivery) -> None:
        settings, webhook = self._account.settings, delivery.webhook
        audience = self._account.audiences.get(webhook.list_id)
        if audience is None or audience.webhooks.get(webhook.id) is not webhook:
            delivery.state = "dropped"
            return
        delivery.tries += 1
        try:
            delivery.last_status = await outgoing.request(
                "POST",
                webhook.url,
                headers=_headers(webhook, delivery.body),
                body=delivery.body,
                seconds=settings.webhook_timeout_seconds,
            )
            delivery.last_error = ""
        except OSError as error:
            delivery.last_status = 0
            delivery.last_error = "timeout" if isinstance(error, TimeoutError) else str(error)
        if 200 <= delivery.last_status < 300:
            delivery.state = "delivered"
        elif delivery.tries > len(settings.webhook_retry_seconds):
            delivery.state = "failed"


async def answers(url: str, seconds: float) -> bool:
    """Return whether a webhook's address responds to GET with 200, as its registration requires."""
    try:
        headers = {"User-Agent": VALIDATOR}
        return await outgoing.request("GET", url, headers=headers, seconds=seconds) == 200
    except OSError:
        return False


def _headers(webhook: Webhook, body: bytes) -> dict[str, str]:
    headers = {"User-Agent": USER_AGENT, "Content-Type": "application/x-www-form-urlencoded"}
    if webhook.signing_secret:
        # The receiver compares with real time, wherever the mock server's clock was moved.
        moment = str(int(time.time()))
        signed = moment.encode() + b"." + body
        digest = hmac.new(webhook.signing_secret.encode(), signed, hashlib.sha256).hexdigest()
        headers["X-Mailchimp-Signature"] = f"t={moment},v1={digest}"
    return headers
