"""Webhooks as Intuit sends them: signed, at a steady rate, and again until they are taken."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from tests.e2e.airflow import REALM, VERIFIER

PAUSE = 0.5  # seconds until a refused event comes again; Intuit's 20 minutes, sped up
GIVE_UP = 300.0  # seconds
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Event:
    """One customer event in Intuit's present format, with its signature."""

    id: str
    customer_id: str
    body: bytes
    signature: str


@dataclass(frozen=True)
class Answer:
    """What became of one event.

    Attributes:
        status: The last answer's; 0 if none came.
        seconds: From the moment the event was due to be sent until the last answer.
        tries: How often it was sent.
    """

    event: Event
    status: int
    seconds: float
    tries: int = 1


def customer_event(customer_id: str, kind: str = "updated") -> Event:
    """An event about a customer, unlike every other."""
    id_ = f"e2e-{time.time_ns()}-{next(_numbers)}"
    entry = {
        "specversion": "1.0",
        "id": id_,
        "source": "intuit.e2e",
        "type": f"qbo.customer.{kind}.v1",
        "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "intuitentityid": customer_id,
        "intuitaccountid": REALM,
        "data": {},
    }
    body = json.dumps([entry]).encode()
    digest = hmac.new(VERIFIER.encode(), body, hashlib.sha256).digest()
    return Event(id_, customer_id, body, base64.b64encode(digest).decode())


def send(url: str, event: Event) -> Answer:
    """Send one event, again until it is answered 2xx: as Intuit would."""
    (answer,) = open_loop(url, [event], rate=1000, until_taken=True)
    return answer


def open_loop(
    url: str, events: Iterable[Event], *, rate: float, until_taken: bool = False
) -> list[Answer]:
    """Send so many events a second, whatever the answers; wait for all of them.

    ``until_taken`` sends an event again until it is answered 2xx.
    """
    return asyncio.run(_open_loop(url, list(events), rate, until_taken))


async def _open_loop(url: str, events: list[Event], rate: float, until_taken: bool) -> list[Answer]:
    connector = aiohttp.TCPConnector(limit=200)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        began = time.monotonic()
        sent = []
        for number, event in enumerate(events):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sent.append(asyncio.create_task(_send(session, url, event, due, until_taken)))
        return list(await asyncio.gather(*sent))


async def _send(
    session: aiohttp.ClientSession, url: str, event: Event, due: float, until_taken: bool
) -> Answer:
    headers = {"intuit-signature": event.signature, "content-type": "application/json"}
    for tries in itertools.count(1):
        status = 0
        try:
            async with session.post(url, data=event.body, headers=headers) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            pass
        seconds = time.monotonic() - due
        if not until_taken or 200 <= status < 300 or seconds > GIVE_UP:
            return Answer(event, status, seconds, tries)
        await asyncio.sleep(PAUSE)
    raise AssertionError


def closed_loop(url: str, events: Iterable[Event], *, clients: int) -> list[Answer]:
    """Send all events, each client its next one as soon as the last was answered."""
    return asyncio.run(_closed_loop(url, iter(list(events)), clients))


async def _closed_loop(url: str, events: Iterable[Event], clients: int) -> list[Answer]:
    connector = aiohttp.TCPConnector(limit=clients)
    answers: list[Answer] = []
    async with aiohttp.ClientSession(connector=connector) as session:

        async def client() -> None:
            for event in events:
                answer = await _send(session, url, event, time.monotonic(), False)
                answers.append(answer)

        await asyncio.gather(*(client() for _ in range(clients)))
    return answers
