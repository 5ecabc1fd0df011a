"""A receiver of the tests' own: real HTTP, a real Postgres, keys as Airflow would give them."""

import base64
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import requests
import uvicorn
from sqlalchemy import text

from ml_connector.mailchimp import webhooks as mailchimp
from ml_connector.quickbooks import webhooks as quickbooks
from ml_connector.store.database import Database
from ml_connector.vault import Vault
from ml_connector.webhooks.endpoint import PREFIX
from ml_connector.webhooks.receiver.app import Receiver, inbox_writer
from ml_connector.webhooks.receiver.body import MemoryBudget
from ml_connector.webhooks.receiver.keys import Keyring, Keys, MailchimpKey
from ml_connector.webhooks.receiver.serving import server_config
from tests.integration.company import AUDIENCE, REALM
from tests.started import READY_WITHIN

TOKEN = "verifier-token-of-the-tests"
OTHER_TOKEN = "verifier-token-of-another-app"
OTHER_REALM = "1185883450"
SECRET = "secret-in-the-url"
SIGNING_SECRET = "signing-secret"
T = TypeVar("T")
KEY = base64.b64decode("A" * 43 + "=")

KEYS = Keys(
    quickbooks={TOKEN: frozenset({REALM}), OTHER_TOKEN: frozenset({OTHER_REALM})},
    mailchimp={
        "main": MailchimpKey(audience_id=AUDIENCE, secrets=frozenset({SECRET})),
        "signed": MailchimpKey(
            audience_id=AUDIENCE,
            secrets=frozenset({SECRET}),
            signing_secrets=frozenset({SIGNING_SECRET, "the one before"}),
        ),
        "unset": MailchimpKey(audience_id=AUDIENCE),
    },
)


def at_length(short: T, full: T) -> T:
    """How long a torture lasts: short in CI, full by ``make torture``."""
    return full if os.environ.get("TORTURE") else short


class Served:
    """A running receiver. ``keys`` may be replaced."""

    def __init__(self, url: str, receiver: Receiver, database: Database) -> None:
        self.url, self.receiver, self.database = url, receiver, database
        host, port = url.removeprefix("http://").split(":")
        self.address = (host, int(port))

    def quickbooks(
        self, document: object, *, token: str = TOKEN, headers: dict[str, str] | None = None
    ) -> requests.Response:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        signed = {"intuit-signature": quickbooks.signature(body, token).decode()}
        return requests.post(
            f"{self.url}{PREFIX}/quickbooks", data=body, headers=headers or signed, timeout=30
        )

    def mailchimp(
        self,
        body: bytes,
        *,
        sync: str = "main",
        query: str = f"secret={SECRET}",
        signed: str = "",
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        headers = {"content-type": "application/x-www-form-urlencoded", **(headers or {})}
        if signed:
            now = int(datetime.now(UTC).timestamp())
            headers["X-Mailchimp-Signature"] = mailchimp.signature(body, signed, now)
        address = f"{self.url}{PREFIX}/mailchimp/{sync}?{query}"
        return requests.post(address, data=body, headers=headers, timeout=30)

    def rows(self) -> list[Any]:
        with self.database.begin() as connection:
            return list(
                connection.execute(
                    text("SELECT * FROM ml_connector.webhook_inbox ORDER BY received_at, id")
                )
            )

    def open_socket(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=30)


def cloud_event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{number}-{time.time_ns()}",
        "source": "intuit.dsnBgbse=",
        "type": "qbo.customer.updated.v1",
        "time": "2026-11-23T15:25:05Z",
        "intuitentityid": str(number),
        "intuitaccountid": REALM,
        "data": {},
        **fields,
    }


def form(kind: str = "unsubscribe", **data: str) -> bytes:
    given = {"id": "8a25ff1d98", "list_id": AUDIENCE, "email": "ada@example.com", **data}
    fields = {"type": kind, "fired_at": "2026-11-23 11:59:58"}
    return urlencode({**fields, **{f"data[{name}]": given[name] for name in given}}).encode()


@contextmanager
def serving(
    database_url: str,
    *,
    keys: Keys = KEYS,
    seconds: float = 10.0,
    budget: MemoryBudget | None = None,
    stored: Callable[[], None] = lambda: None,
    console: str = "",
) -> Iterator[Served]:
    """Serve a receiver as ``ml-connector receiver`` does, in a thread."""
    vault = Vault(encryption_keys=[KEY], index_key=KEY)
    with (
        closing(Database(database_url, connections=1)) as database,
        closing(Database(database_url, connections=1)) as looking,
        socket.create_server(("127.0.0.1", 0), backlog=2048) as listener,
    ):
        receiver = Receiver(
            keyring=Keyring(lambda: keys),
            store=inbox_writer(database, vault),
            email_key=vault.email_key,
            seconds=seconds,
            budget=budget,
            stored=stored,
        )
        server = uvicorn.Server(server_config(receiver, console=console))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        host, port = listener.getsockname()
        try:
            deadline = time.monotonic() + READY_WITHIN
            while not server.started:
                assert thread.is_alive(), "the receiver did not start"
                assert time.monotonic() < deadline, "the receiver did not start in time"
                time.sleep(0.01)
            yield Served(f"http://{host}:{port}", receiver, looking)
        finally:
            server.should_exit = True
            thread.join(15)


def serve_forever(database_url: str, port: int) -> None:
    """Serve a receiver in this process, for a test that kills it."""
    vault = Vault(encryption_keys=[KEY], index_key=KEY)
    receiver = Receiver(
        keyring=Keyring(lambda: KEYS),
        store=inbox_writer(Database(database_url, connections=1), vault),
        email_key=vault.email_key,
    )
    uvicorn.Server(server_config(receiver, host="127.0.0.1", port=port)).run()
