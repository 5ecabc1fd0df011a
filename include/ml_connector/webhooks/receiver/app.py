"""The webhook receiver: verify, store, respond. Nothing else.

Bare ASGI, mounted under ``endpoint.PREFIX`` by the Airflow plugin or served alone (``receiver/serving.py``):

- ``POST quickbooks``
- ``POST mailchimp/<sync>?secret=...``, and the ``GET`` or empty ``POST`` that Mailchimp sends to
  test the endpoint

Order: bound the body, verify its raw bytes, split it into events. Then store all of them in one
transaction and respond 200 after the commit. A verified but unusable event is stored too, with the
reason.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from ml_connector.errors import ConnectorError
from ml_connector.mailchimp import webhooks as mailchimp
from ml_connector.quickbooks import webhooks as quickbooks
from ml_connector.store import cursors
from ml_connector.store.database import Database
from ml_connector.vault import Vault
from ml_connector.webhooks import inbox
from ml_connector.webhooks.receiver.body import (
    SECONDS,
    FullError,
    GoneError,
    MemoryBudget,
    Receive,
    Scope,
    Send,
    TooLargeError,
    TooSlowError,
    discard_body,
    header,
    read_body,
)
from ml_connector.webhooks.receiver.group_commit import GroupCommit
from ml_connector.webhooks.receiver.keys import Keyring, Keys, MailchimpKey
from ml_connector.webhooks.receiver.tally import Tally
from ml_connector.wire.webhook_event import WebhookEvent

LARGE = 64 << 10
"""Bodies of this many bytes or more are parsed in a thread, so other requests are not blocked."""

STATEMENT_SECONDS = 2

Store = Callable[[Sequence[WebhookEvent]], Awaitable[None]]
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Reply:
    """A response. ``last`` closes the connection; ``unread``: the body is not read to its end."""

    status: int
    text: str
    extra: tuple[tuple[bytes, bytes], ...] = ()
    last: bool = False
    unread: bool = False


ACCEPTED = Reply(200, "stored\n")
READY = Reply(200, "ready\n")
REFUSED = Reply(401, "not verified\n")
UNKNOWN = Reply(404, "nothing here\n", last=True)
TOO_LARGE = Reply(413, "too large\n", last=True, unread=True)
TOO_SLOW = Reply(408, "too slow\n", last=True)
RETRY_AFTER = ((b"retry-after", b"10"),)
BUSY = Reply(503, "busy, come back\n", RETRY_AFTER, last=True, unread=True)
NOT_STORED = Reply(503, "cannot store, come back\n", RETRY_AFTER)

_ROUTES = {("quickbooks", False): ("POST",), ("mailchimp", True): ("POST", "GET", "HEAD")}
_BOUNDS: dict[type[Exception], tuple[str, Reply]] = {
    TooLargeError: ("too_large", TOO_LARGE),
    TooSlowError: ("too_slow", TOO_SLOW),
    FullError: ("no_room", BUSY),
}


class Receiver:
    """The ASGI application.

    ``store`` commits events or raises. ``email_key`` pseudonymises addresses. ``stored`` is called
    after the commit of events to process. It returns at once and never raises.
    """

    def __init__(
        self,
        *,
        keyring: Keyring,
        store: Store,
        email_key: Callable[[str], bytes],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        budget: MemoryBudget | None = None,
        seconds: float = SECONDS,
        stored: Callable[[], None] = lambda: None,
    ) -> None:
        self._keyring, self.store, self._email_key = keyring, store, email_key
        self._stored = stored
        self._clock, self._budget, self._seconds = clock, budget or MemoryBudget(), seconds
        self.tally = Tally()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        if scope["type"] != "http":
            return
        answer = await self._answer(scope, receive)
        if answer is not None:
            await respond(answer, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply | None:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        system, _, sync = path.lstrip("/").partition("/")
        methods = _ROUTES.get((system, bool(sync)))
        if methods is None:
            return UNKNOWN
        if scope["method"] not in methods:
            allow = ", ".join(methods).encode()
            return Reply(405, "not this method\n", ((b"allow", allow),), last=True)
        return await self._take(scope, receive, sync) if scope["method"] == "POST" else READY

    async def _take(self, scope: Scope, receive: Receive, sync: str) -> Reply | None:
        try:
            with self._budget.entered() as held:
                body = await read_body(scope, receive, held=held, seconds=self._seconds)
                return await self._deliver(scope, body, sync)
        except tuple(_BOUNDS) as error:
            name, answer = _BOUNDS[type(error)]
            return self._tallied(name, answer)
        except GoneError:
            return None
        except (ConnectorError, SQLAlchemyError) as error:
            # Whatever keeps a verified event out of the database, the sender must retry.
            return self._tallied("not_stored", NOT_STORED, error=_sentence(error))

    async def _deliver(self, scope: Scope, body: bytes | bytearray, sync: str) -> Reply:
        if sync and not body:
            return READY
        try:
            events = await (
                self._from_mailchimp(scope, body, sync)
                if sync
                else self._from_quickbooks(scope, body)
            )
        except _RefusedError as refused:
            return self._tallied("refused", REFUSED, who=refused.who, fix=refused.fix)
        await self.store(events)
        if any(event.state == "pending" for event in events):
            self._stored()
        self.tally.count("accepted")
        self.tally.count("events", len(events))
        return ACCEPTED

    async def _from_quickbooks(
        self, scope: Scope, body: bytes | bytearray
    ) -> Sequence[WebhookEvent]:
        given = header(scope, b"intuit-signature")

        def realms(keys: Keys) -> frozenset[str] | None:
            signers = quickbooks.signers(body, given, keys.quickbooks)
            return frozenset().union(*(keys.quickbooks[s] for s in signers)) if signers else None

        found = await self._proof(realms, who="quickbooks")
        if len(body) < LARGE:
            return quickbooks.read_events(body, realms=found)
        return await asyncio.to_thread(quickbooks.read_events, body, realms=found)

    async def _from_mailchimp(
        self, scope: Scope, body: bytes | bytearray, sync: str
    ) -> Sequence[WebhookEvent]:
        secret = mailchimp.secret_in(scope["query_string"])
        given = header(scope, b"x-mailchimp-signature")

        def proven(keys: Keys) -> MailchimpKey | None:
            key = keys.mailchimp.get(sync)
            if key is None or not mailchimp.secret_matches(secret, key.secrets):
                return None
            if key.signing_secrets and not mailchimp.signature_matches(
                body, given, key.signing_secrets, now=self._clock()
            ):
                return None
            return key

        key = await self._proof(proven, who=sync)
        return [
            mailchimp.read_event(
                body, sync=sync, audience_id=key.audience_id, email_key=self._email_key
            )
        ]

    async def _proof(self, prove: Callable[[Keys], P | None], *, who: str) -> P:
        """Return what ``prove`` finds in the cached keys, or else in freshly read ones."""
        keys = await self._keyring.current()
        found = prove(keys)
        if found is None and (newer := await self._keyring.newer()):
            keys, found = newer, prove(newer)
        if found is None:
            known = who == quickbooks.SYSTEM or who in keys.mailchimp
            raise _RefusedError(who if known else "an unknown sync", keys.fixes.get(who, ""))
        return found

    def _tallied(self, name: str, answer: Reply, **facts: Any) -> Reply:
        self.tally.warn(name, status=answer.status, **facts)
        return answer


class _RefusedError(Exception):
    def __init__(self, who: str, fix: str) -> None:
        super().__init__(who)
        self.who, self.fix = who, fix


def inbox_writer(database: Database, vault: Vault) -> Store:
    """Return a function that stores events: one transaction for all concurrent deliveries."""
    checked = False

    def write(events: Sequence[WebhookEvent]) -> None:
        nonlocal checked
        with database.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
            if not checked:
                cursors.check_index_key(connection, vault)
                checked = True
            inbox.deliver(connection, events, vault=vault)

    return GroupCommit(write).store


async def respond(answer: Reply, receive: Receive, send: Send) -> None:
    """Send a response with the same headers as every other."""
    body = answer.text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *answer.extra,
    ]
    if answer.last:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.unread:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await discard_body(receive)
        body = b""
    await send({"type": "http.response.body", "body": body})


def _sentence(error: Exception) -> str:
    """Return a connector error's message. SQLAlchemy's would show the statement's parameters."""
    return str(error) if isinstance(error, ConnectorError) else type(error).__name__
