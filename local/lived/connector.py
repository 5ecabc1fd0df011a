"""The connector in this process: the steps of its DAGs, in their order, without Airflow."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import requests

from local.lived.servers import Servers
from local.lived.virtual_time import VirtualTime
from local.secrets import ADMIN
from ml_connector import retention
from ml_connector.activity.engagement import fetch_engagement
from ml_connector.activity.queue import queue_activity
from ml_connector.activity.writer import write_activity
from ml_connector.audit import partitions
from ml_connector.audit.rate_limits import on_retry_callback
from ml_connector.mailchimp import protocol as mailchimp_protocol
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import RunContext
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.tokens import TokenEndpoint, TokenManager, TokenPair
from ml_connector.scope import OpenSync, Scope
from ml_connector.settings import Sync, load_sync
from ml_connector.store import plans
from ml_connector.store.database import Database
from ml_connector.store.refresh_lock import refresh_lock
from ml_connector.sync import guard
from ml_connector.sync.archive import archive_contacts
from ml_connector.sync.fetch_customers import fetch_customers
from ml_connector.sync.fetch_members import fetch_members
from ml_connector.sync.follow_up import follow_up
from ml_connector.sync.planner import make_plan
from ml_connector.sync.preflight import check_audience
from ml_connector.sync.push import push_shard
from ml_connector.sync.report import Report, make_report
from ml_connector.sync.targets import learn_fields
from ml_connector.vault import Vault
from ml_connector.webhooks.endpoint import PREFIX
from ml_connector.webhooks.receiver.app import Receiver, inbox_writer
from ml_connector.webhooks.receiver.keys import Keyring, Keys, MailchimpKey
from ml_connector.webhooks.worker import process_inbox
from ml_connector.wire.retries import Retries
from ml_connector.wire.transport import RequestsTransport
from sandbox.control import Receive, Send
from sandbox.control import Scope as Asgi
from sandbox.running import serving_in_thread


@dataclass
class _MemoryTokens:
    """A token vault for the month; Airflow's Variable keeps the pair of real life."""

    pair: TokenPair = field(
        default_factory=lambda: TokenPair(
            access_token="none",  # noqa: S106
            refresh_token="sandbox-refresh-token",  # noqa: S106
            expires_at=datetime(2020, 1, 1, tzinfo=UTC),
        )
    )

    def load(self) -> TokenPair:
        return self.pair

    def save(self, token: TokenPair) -> None:
        self.pair = token


class Connector:
    """One sync's daily run and its webhooks, in virtual time."""

    def __init__(
        self, servers: Servers, time: VirtualTime, vault: Vault, *, sync: str, settings: Path
    ) -> None:
        self._servers, self._time, self._vault = servers, time, vault
        self.sync: Sync = load_sync(sync, settings)
        self._database = Database(time.database_url)
        self._tokens = _MemoryTokens()
        with self._database.begin() as connection:
            partitions.create_ahead(connection, now=time.now())

    def close(self) -> None:
        """Close the database's connections."""
        self._database.close()

    def run(self, run_id: str) -> Report:
        """Run the daily sync once; an administrator approves a plan that waits."""
        scope = self._scope(run_id, "sync_customers__main")
        quickbooks, mailchimp = self._quickbooks(scope), self._mailchimp(scope)
        learn_fields(scope, mailchimp)
        fetch_customers(scope, quickbooks)
        fetch_members(scope, mailchimp)
        planned = make_plan(scope)
        if planned.changes:
            check_audience(scope, mailchimp)
        plan_id = planned.plan_id
        if guard.hold_plan(scope, plan_id=plan_id) is not None:
            guard.approve(scope, plan_id=plan_id, person=ADMIN)
        for shard in planned.shards:
            push_shard(scope, mailchimp, plan_id=plan_id, shard=shard)
        archive_contacts(scope, mailchimp, plan_id=plan_id)
        follow_up(scope, mailchimp, plan_id=plan_id)
        fetch_engagement(scope, mailchimp)
        if queue_activity(scope):
            write_activity(scope, quickbooks)
        scope.book_calls(plan_id)
        report = make_report(scope, plan_id=plan_id)
        retention.maintain_audit(self._database, self._vault, clock=self._time.now)
        return report

    def process_webhooks(self) -> dict[str, int]:
        """Process what is due in the inbox; return events by outcome."""
        scope = self._scope(f"lived__{self._time.now().isoformat()}", "process_webhooks")
        target = OpenSync(
            scope=scope,
            realm=self._servers.credentials.realm_id,
            open_quickbooks=partial(self._quickbooks, scope),
            open_mailchimp=partial(self._mailchimp, scope),
        )
        done = process_inbox(self._database, [target], vault=self._vault)
        with self._database.begin() as connection:
            run_id = scope.run.run_id
            planned = plans.progress_of(connection, sync=scope.name, run_id=run_id)
        if planned is not None or scope.calls:
            plan_id = scope.plan_id("webhooks")
            scope.book_calls(plan_id)
            with self._database.begin() as connection:
                calls = {"calls": plans.calls_of(connection, plan_id=plan_id)}
                plans.finish(connection, plan_id=plan_id, state="finished", counts=calls)
        return done

    @contextmanager
    def receiver(self) -> Iterator[str]:
        """Serve the webhook receiver; yield its base URL."""
        given = self._servers.credentials
        key = MailchimpKey(
            audience_id=self.sync.audience_id, secrets=frozenset({given.webhook_secret})
        )
        keys = Keys(
            quickbooks={given.verifier_token: frozenset({given.realm_id})},
            mailchimp={self.sync.name: key},
        )
        receiver = Receiver(
            keyring=Keyring(lambda: keys),
            store=inbox_writer(self._database, self._vault),
            email_key=self._vault.email_key,
            clock=self._time.now,
        )

        async def mounted(scope: Asgi, receive: Receive, send: Send) -> None:
            await receiver({**scope, "root_path": PREFIX}, receive, send)

        with serving_in_thread({"receiver": mounted}) as urls:
            yield f"{urls['receiver']}{PREFIX}"

    def _scope(self, run_id: str, dag_id: str) -> Scope:
        return Scope(
            sync=self.sync,
            database=self._database,
            vault=self._vault,
            run=RunContext(dag_id=dag_id, run_id=run_id, task_id="lived"),
            clock=self._time.now,
        )

    def _retries(self, scope: Scope, system: str) -> Retries:
        # Waits would pass in real time.
        return Retries(sleep=lambda _: None, on_retry=on_retry_callback(scope, system))

    def _quickbooks(self, scope: Scope) -> QuickBooksClient:
        given = self._servers.credentials
        transport = RequestsTransport(requests.Session(), system="QuickBooks")
        endpoint = TokenEndpoint(
            transport, given.token_url, given.client_id, given.client_secret, clock=self._time.now
        )
        lock = partial(refresh_lock, self._database, self.sync.quickbooks_conn_id)
        return QuickBooksClient(
            transport=transport,
            base_url=given.quickbooks_url,
            realm_id=given.realm_id,
            tokens=TokenManager(
                vault=self._tokens, lock=lock, endpoint=endpoint, clock=self._time.now
            ),
            pace=lambda: None,
            retries=self._retries(scope, "quickbooks"),
            calls=scope.calls,
            clock=self._time.now,
            custom_fields=self.sync.custom_fields,
        )

    def _mailchimp(self, scope: Scope) -> MailchimpClient:
        given = self._servers.credentials
        return MailchimpClient(
            transport=RequestsTransport(requests.Session(), system="Mailchimp"),
            base_url=mailchimp_protocol.base_url_of(given.mailchimp_key, given.mailchimp_url),
            audience_id=self.sync.audience_id,
            auth=mailchimp_protocol.auth_headers(given.mailchimp_key),
            pace=lambda: None,
            retries=self._retries(scope, "mailchimp"),
            calls=scope.calls,
            member_fields=self.sync.member_fields,
        )
