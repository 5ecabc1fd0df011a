"""The webhook receiver with Airflow's keys: mounted on the API server or in its own process."""

import asyncio
import os
import time
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
import uvicorn
from airflow.sdk import Connection

from ml_connector.errors import ConnectorError, SettingsError
from ml_connector.quickbooks.webhooks import SYSTEM as QUICKBOOKS
from ml_connector.settings import Sync, home, load_syncs
from ml_connector.store.database import Database
from ml_connector.vault import vault_from
from ml_connector.webhooks import inbox
from ml_connector.webhooks.endpoint import public_base
from ml_connector.webhooks.receiver.app import NOT_STORED, Receiver, inbox_writer, respond
from ml_connector.webhooks.receiver.body import Receive, Scope, Send
from ml_connector.webhooks.receiver.keys import Keyring, Keys, MailchimpKey
from ml_connector.webhooks.receiver.run_request import RunRequester
from ml_connector.webhooks.receiver.serving import server_config
from ml_connector_airflow.mounts.waiting_run import release_waiting_run
from ml_connector_airflow.webhook_variable import WebhookVariable
from ml_connector_airflow.wiring import airflow_base_url, connection_named, database_url, values_in

AGAIN = 3.0
"""Seconds until a mounted receiver with a missing setting tries again."""

log = structlog.get_logger(__name__)


def load_keys() -> Keys:
    """Return the keys of every sync as Airflow has them now.

    A missing connection gives no keys and an entry in ``fixes``. Raises ``StorageError`` if
    Airflow's database is unavailable. ``Connection.get`` reports that as a missing connection. The
    Variables show the difference, so they are read last.
    """
    syncs = list(load_syncs().values())
    fixes: dict[str, str] = {}
    quickbooks = _quickbooks({sync.quickbooks_conn_id for sync in syncs}, fixes)
    mailchimp = {sync.name: mailchimp_key(sync) for sync in syncs}
    for name, key in mailchimp.items():
        if not key.secrets:
            fixes[name] = (
                "no webhook secret is set for this sync; run `ml-connector register-webhooks`"
            )
    return Keys(quickbooks=quickbooks, mailchimp=mailchimp, fixes=fixes)


def _quickbooks(conn_ids: set[str], fixes: dict[str, str]) -> dict[str, frozenset[str]]:
    realms: dict[str, frozenset[str]] = defaultdict(frozenset)
    for conn_id in sorted(conn_ids):
        extra = _extra(conn_id)
        tokens = values_in(extra, "webhook_verifier_token")
        for token in tokens:
            realms[token] |= frozenset(
                "".join(each.split()) for each in values_in(extra, "realm_id")
            )
        if not tokens:
            fixes[QUICKBOOKS] = (
                f"no webhook verifier token is set; copy it from your Intuit app's webhooks page "
                f"into the connection {conn_id}, field Webhook verifier token"
            )
    return dict(realms)


def mailchimp_key(sync: Sync) -> MailchimpKey:
    """Return the keys of a sync's deliveries, from its connection and its Variable."""
    extra, now = _extra(sync.mailchimp_conn_id), datetime.now(UTC)
    kept = WebhookVariable(sync.mailchimp_conn_id, sync.name).load()
    return MailchimpKey(
        audience_id=sync.audience_id,
        secrets=frozenset(values_in(extra, "webhook_secret")) | kept.secrets(now),
        signing_secrets=frozenset(values_in(extra, "webhook_signing_secret"))
        | kept.signing_secrets(now),
    )


def _extra(conn_id: str) -> dict[str, Any]:
    try:
        connection: Connection = connection_named(conn_id, "")
    except SettingsError:
        return {}
    return dict(connection.extra_dejson)


def build_receiver() -> Receiver:
    """Return the receiver.

    Raises ``SettingsError`` if a setting other than webhook keys is missing.
    """
    vault = vault_from(os.environ, home())
    # One connection commits deliveries. The other one looks whether a run is needed.
    database = Database(database_url(), connections=2)
    return Receiver(
        keyring=Keyring(load_keys),
        store=inbox_writer(database, vault),
        email_key=vault.email_key,
        stored=RunRequester(partial(request_run, database)),
    )


def request_run(database: Database) -> bool:
    """Start the waiting run if an event is due; return False if one is due and no run waits."""
    with database.begin() as connection:
        due = inbox.is_due(connection)
    return not due or release_waiting_run()


def run_receiver(*, host: str, port: int) -> None:
    """Serve the receiver until the process is stopped.

    Where it is the only public part, it passes the redirects of consent pages on to the console.
    """
    console = airflow_base_url() if public_base(os.environ) else ""
    config = server_config(build_receiver(), console=console, host=host, port=port)
    uvicorn.Server(config).run()


class MountedReceiver:
    """The receiver inside the API server, which must keep running whatever is missing."""

    def __init__(self) -> None:
        self._receiver: Receiver | None = None
        self._building = asyncio.Lock()
        self._tried_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; respond 503 while a setting is missing."""
        receiver = self._receiver or await self._built()
        if receiver is not None:
            await receiver(scope, receive, send)
        elif scope["type"] == "http":
            await respond(NOT_STORED, receive, send)

    async def _built(self) -> Receiver | None:
        async with self._building:
            if self._receiver is None and time.monotonic() - self._tried_at > AGAIN:
                self._tried_at = time.monotonic()
                try:
                    self._receiver = await asyncio.to_thread(build_receiver)
                except ConnectorError as error:
                    log.warning("webhooks_cannot_be_received", error=str(error))
            return self._receiver


mounted = MountedReceiver()
