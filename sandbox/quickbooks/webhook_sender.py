"""Sends webhooks as Intuit does: signed, one delivery at a time, again until it is acknowledged."""

import asyncio
import ipaddress
import uuid
from collections import deque
from dataclasses import dataclass, replace
from itertools import chain, repeat
from random import Random
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from sandbox.clock import Clock
from sandbox.mailchimp import outgoing
from sandbox.quickbooks.api import new_tid
from sandbox.quickbooks.company import Event
from sandbox.quickbooks.webhook_format import CONTENT_TYPES, Notice, render, signature, time_text

RETRY_SECONDS = (10.0, 20.0, 30.0, 300.0, 1200.0, 7200.0, 14400.0, 21600.0)
MOST_EVENTS = 100
_REMEMBERED = 10_000
_OPERATIONS = {"Create": "created", "Update": "updated", "Merge": "merged"}


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``PUT /_sandbox/webhooks``: where to, signed with what, and how badly.

    ``retry_seconds`` are the waits after each try that failed, the last one for ever after.
    ``delay_seconds`` collects events for that long before each delivery. ``duplicate_every``: each
    n-th event is sent again in a later delivery, under the same id. ``shuffle`` mixes whatever
    waits to be sent. ``inactivation``: what is reported of a customer made inactive (not known).
    """

    url: str
    verifier_token: str
    format: Literal["cloudevents", "legacy"] = "cloudevents"
    retry_seconds: tuple[float, ...] = RETRY_SECONDS
    answer_within_seconds: float = 3.0
    delay_seconds: float = 0.0
    batch_up_to: int = MOST_EVENTS
    duplicate_every: int = 0
    shuffle: bool = False
    echo_api_writes: bool = True
    inactivation: Literal["updated", "deleted"] = "updated"

    def __post_init__(self) -> None:
        if not _is_loopback(self.url):
            raise ValueError("url is http:// and of this machine: 127.0.0.1, [::1] or localhost")
        if not self.retry_seconds or min(self.retry_seconds) < 0:
            raise ValueError("retry_seconds is a list of seconds")
        if not 1 <= self.batch_up_to <= MOST_EVENTS:
            raise ValueError(f"batch_up_to is 1 to {MOST_EVENTS}")
        if min(self.delay_seconds, self.duplicate_every, self.answer_within_seconds) < 0:
            raise ValueError("seconds and counts are not negative")


@dataclass(eq=False)
class Delivery:
    """One body, sent until it is acknowledged.

    ``state`` is pending, delivered, or abandoned (the settings were changed meanwhile).
    ``last_status`` is 0 when there was no response; ``last_error`` says why.
    """

    number: int
    notices: list[Notice]
    state: str = "pending"
    tries: int = 0
    last_status: int = 0
    last_error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Describe the delivery for the control API."""
        return {
            "number": self.number,
            "state": self.state,
            "tries": self.tries,
            "last_status": self.last_status,
            "last_error": self.last_error,
            "events": [notice.as_dict() for notice in self.notices],
        }


class Sender:
    """Queues what happens to customers and reports it from a task of its own.

    Events wait until the delivery before them is acknowledged. What waits when the server stops is
    lost.
    """

    def __init__(self, clock: Clock, realm: str) -> None:
        self._clock = clock
        self._realm = realm
        self._task: asyncio.Task[None] | None = None
        self.end()

    def end(self) -> None:
        """Send nothing more and forget everything."""
        self._stop()
        self.settings: WebhookSettings | None = None
        self.deliveries: deque[Delivery] = deque(maxlen=_REMEMBERED)
        self.delivered = 0
        self._waiting: list[Notice] = []
        self._reported = 0
        self._numbers = 0
        self._random = Random(1)  # noqa: S311 - an order to test with

    def use(self, settings: WebhookSettings) -> None:
        """Send to this address from now on, first what is waiting."""
        self._stop()
        self.settings = settings
        self._wake()

    @property
    def pending(self) -> int:
        """Return the number of events that have not been acknowledged."""
        return len(self._waiting)

    def listen(self, event: Event) -> None:
        """Queue an event; nothing happens unless webhooks are on."""
        if self.settings is None or (event.by_api and not self.settings.echo_api_writes):
            return
        operation = self.settings.inactivation if event.inactivated else None
        notice = Notice(
            id=str(uuid.uuid4()),
            operation=operation or _OPERATIONS[event.operation],
            customer=str(event.id),
            at=event.at,
            deleted_id=None if event.deleted_id is None else str(event.deleted_id),
        )
        self._waiting.append(notice)
        self._wake()

    async def drain(self, seconds: float) -> None:
        """Wait until nothing is pending, but no longer than this."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=seconds)

    def _wake(self) -> None:
        if self.settings is not None and self._waiting and (not self._task or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._work(self.settings))

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _work(self, settings: WebhookSettings) -> None:
        while self._waiting:
            await asyncio.sleep(settings.delay_seconds)
            if settings.shuffle:
                self._random.shuffle(self._waiting)
            notices = self._waiting[: settings.batch_up_to]
            await self._deliver(notices, settings)
            del self._waiting[: len(notices)]
            self.delivered += len(notices)
            self._repeat(notices, settings.duplicate_every)

    async def _deliver(self, notices: list[Notice], settings: WebhookSettings) -> None:
        self._numbers += 1
        delivery = Delivery(self._numbers, notices)
        self.deliveries.append(delivery)
        body = render(notices, kind=settings.format, realm=self._realm)
        try:
            for pause in chain(settings.retry_seconds, repeat(settings.retry_seconds[-1])):
                if await self._try(delivery, body, settings):
                    break
                await asyncio.sleep(pause)
            delivery.state = "delivered"
        finally:
            if delivery.state == "pending":
                delivery.state = "abandoned"

    async def _try(self, delivery: Delivery, body: bytes, settings: WebhookSettings) -> bool:
        delivery.tries += 1
        headers = {
            "Content-Type": CONTENT_TYPES[settings.format],
            "User-Agent": "intuit_notification_server/0.1",
            "intuit-signature": signature(body, settings.verifier_token),
            "intuit-created-time": time_text(self._clock.now()),
            "intuit-t-id": new_tid(),
            "intuit-notification-schema-version": "0.1",
        }
        try:
            delivery.last_status = await outgoing.request(
                "POST",
                settings.url,
                headers=headers,
                body=body,
                seconds=settings.answer_within_seconds,
            )
            delivery.last_error = ""
        except (OSError, ValueError) as error:
            delivery.last_status = 0
            delivery.last_error = "timeout" if isinstance(error, TimeoutError) else str(error)
        return 200 <= delivery.last_status < 300

    def _repeat(self, notices: list[Notice], every: int) -> None:
        for notice in notices:
            if every and not notice.repeats:
                self._reported += 1
                if self._reported % every == 0:
                    self._waiting.append(replace(notice, repeats=True))


def _is_loopback(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return (
            parts.scheme == "http"
            and parts.port != 0
            and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
        )
    except ValueError:
        return False
