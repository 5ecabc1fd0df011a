"""A company in a test: its company in QuickBooks, its audience in Mailchimp, and our connector.

Everything goes over HTTP and into a real Postgres. The steps of ``sync`` are those of the DAG, in
its order.
"""

import base64
import json
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import requests
from sqlalchemy import text

from ml_connector.activity.engagement import fetch_engagement
from ml_connector.activity.queue import queue_activity
from ml_connector.activity.writer import write_activity
from ml_connector.audit import trail
from ml_connector.audit.rate_limits import on_retry_callback
from ml_connector.errors import RetryLater
from ml_connector.mailchimp import protocol as mailchimp_protocol
from ml_connector.mailchimp import webhooks as mailchimp_webhooks
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import RunContext
from ml_connector.quickbooks import webhooks as quickbooks_webhooks
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.tokens import TokenEndpoint, TokenManager, TokenPair
from ml_connector.scope import OpenSync, Scope
from ml_connector.settings import Sync
from ml_connector.store.database import Database
from ml_connector.store.refresh_lock import refresh_lock
from ml_connector.sync.archive import archive_contacts
from ml_connector.sync.fetch_customers import fetch_customers
from ml_connector.sync.fetch_members import fetch_members
from ml_connector.sync.follow_up import follow_up
from ml_connector.sync.planner import Planned, make_plan
from ml_connector.sync.preflight import check_audience
from ml_connector.sync.push import push_shard
from ml_connector.sync.report import Report, make_report
from ml_connector.sync.targets import learn_fields
from ml_connector.vault import Vault
from ml_connector.webhooks import inbox
from ml_connector.webhooks.worker import process_inbox
from ml_connector.wire.retries import Retries
from ml_connector.wire.transport import RequestsTransport, Transport

REALM = "9341450000000001"
AUDIENCE = "a1b2c3d4e5"
ADDRESS = {
    "Line1": "4581 Finch St.",
    "City": "Bayshore",
    "CountrySubDivisionCode": "CA",
    "PostalCode": "94326",
}


@dataclass(frozen=True)
class MockServers:
    """Base URLs of both mock servers, and their control calls."""

    quickbooks: str
    mailchimp: str

    def reset(self) -> None:
        for base in (self.quickbooks, self.mailchimp):
            control(base, "POST", "reset")
        control(self.quickbooks, "POST", "company", {"empty": True})


def control(base: str, method: str, path: str, body: object = None) -> Any:
    """Make a control call; fail loudly if the mock server refuses it."""
    answer = requests.request(method, f"{base}/_sandbox/{path}", json=body, timeout=60)
    assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


@dataclass
class MemoryTokens:
    """A token vault that keeps the pair in memory."""

    pair: TokenPair = field(
        default_factory=lambda: TokenPair(
            access_token="stale",
            refresh_token="sandbox-refresh-token",
            expires_at=datetime(2020, 1, 1, tzinfo=UTC),
        )
    )

    def load(self) -> TokenPair:
        return self.pair

    def save(self, token: TokenPair) -> None:
        self.pair = token


class Company:
    """One company. ``settings`` overrides the sync's settings; ``waits`` lists what was slept."""

    def __init__(
        self,
        *,
        mock_servers: MockServers,
        database_url: str,
        folder: Path,
        database: Database | None = None,
    ) -> None:
        self.mock_servers, self.database_url, self.folder = mock_servers, database_url, folder
        self.quickbooks, self.mailchimp = mock_servers.quickbooks, mock_servers.mailchimp
        self.database = database or Database(database_url)
        key = base64.b64decode("A" * 43 + "=")
        self.vault = Vault(encryption_keys=[key], index_key=key)
        self.settings: dict[str, Any] = {"new_contact_status": "subscribed"}
        self.waits: list[float] = []
        self.ahead = timedelta()
        self.tokens = MemoryTokens()
        self.mailchimp_key = "sandbox-key-us99"
        self.client_secret = "sandbox-secret"
        self.realm = REALM
        self.mailchimp_api = f"{mock_servers.mailchimp}/3.0"
        self.quickbooks_api = mock_servers.quickbooks
        self.timeout = 30.0
        self.threads = 2
        self.runs = 0
        self.current: Scope | None = None
        self.pace: Callable[[], None] = lambda: None
        self.pace_batch: Callable[[], None] = lambda: None
        self.mailchimp_pace: Callable[[], None] = lambda: None
        self.control = control
        self.sender: Callable[[str], Transport] = self._session
        self.around: Callable[[str, Transport], Transport] = lambda _system, transport: transport

    def close(self) -> None:
        self.database.close()

    # ── the connector ─────────────────────────────────────────────────────────────────────────

    def sync_settings(self) -> Sync:
        fields = {
            "FNAME": "GivenName",
            "LNAME": "FamilyName",
            "COMPANY": "CompanyName",
            "PHONE": "PrimaryPhone.FreeFormNumber",
            "ADDRESS": "BillAddr",
        }
        values = {"name": "main", "audience_id": AUDIENCE, "fields": fields, "tags": ["QuickBooks"]}
        values["first_run"] = "write"
        return Sync.model_validate({**values, **self.settings})

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def scope(self, run_id: str | None = None) -> Scope:
        if run_id is None:
            self.runs += 1
            run_id = f"run-{self.runs}"
        self.current = Scope(
            sync=self.sync_settings(),
            database=self.database,
            vault=self.vault,
            run=RunContext(dag_id="sync_customers__main", run_id=run_id, task_id="test"),
            clock=self.clock,
            threads=self.threads > 1,
        )
        return self.current

    def retries(self, system: str = "quickbooks") -> Retries:
        def heard(error: RetryLater, tried: int, wait: float) -> None:
            if self.current is not None:
                on_retry_callback(self.current, system)(error, tried, wait)

        return Retries(tries=4, sleep=self.waits.append, chance=lambda: 0.5, on_retry=heard)

    def quickbooks_client(self, calls: Counter[str]) -> QuickBooksClient:
        transport = self._transport("QuickBooks")
        endpoint = TokenEndpoint(
            transport,
            f"{self.quickbooks_api}/oauth2/v1/tokens/bearer",
            "sandbox-client",
            self.client_secret,
        )
        manager = TokenManager(
            vault=self.tokens,
            lock=partial(refresh_lock, self.database, "quickbooks_default"),
            endpoint=endpoint,
        )
        return QuickBooksClient(
            transport=transport,
            base_url=self.quickbooks_api,
            realm_id=self.realm,
            tokens=manager,
            pace=self.pace,
            pace_batch=self.pace_batch,
            retries=self.retries(),
            calls=calls,
            custom_fields=self.sync_settings().custom_fields,
        )

    def mailchimp_client(self, calls: Counter[str]) -> MailchimpClient:
        return MailchimpClient(
            transport=self._transport("Mailchimp"),
            base_url=mailchimp_protocol.base_url_of(self.mailchimp_key, self.mailchimp_api),
            audience_id=self.sync_settings().audience_id,
            auth=mailchimp_protocol.auth_headers(self.mailchimp_key),
            pace=self._pace_mailchimp,
            retries=self.retries("mailchimp"),
            calls=calls,
            member_fields=self.sync_settings().member_fields,
            pages_at_a_time=self.threads,
        )

    def _transport(self, system: str) -> Transport:
        """What ``sender`` opens; ``around`` may put something between it and the client."""
        return self.around(system.lower(), self.sender(system))

    def _session(self, system: str) -> Transport:
        """A session of its own."""
        return RequestsTransport(requests.Session(), system=system, timeout=(5, self.timeout))

    def _pace_mailchimp(self) -> None:
        self.mailchimp_pace()  # a test may set it while a client is at work

    def fetch(self, scope: Scope, *, full_sync: bool = False, ids: Sequence[str] = ()) -> Any:
        learn_fields(scope, self.mailchimp_client(scope.calls))
        return fetch_customers(
            scope, self.quickbooks_client(scope.calls), full_sync=full_sync, customer_ids=ids
        )

    def plan(self, scope: Scope, *, preview: bool = False, ids: Sequence[str] = ()) -> Planned:
        return make_plan(scope, preview=preview, customer_ids=ids)

    def sync(
        self,
        *,
        full_sync: bool = False,
        preview: bool = False,
        ids: Sequence[str] = (),
        before_push: Callable[[], None] = lambda: None,
        before_archive: Callable[[], None] = lambda: None,
        before_link: Callable[[], None] = lambda: None,
        before_write_back: Callable[[], None] = lambda: None,
    ) -> Report:
        """Run the daily sync once, as the DAG does."""
        scope = self.scope()
        planned = self.decide(scope, full_sync=full_sync, preview=preview, ids=ids)
        if not preview:
            before_push()
            self.push(scope, planned)
            before_archive()
            self.archive(scope, planned, before_link=before_link)
            before_write_back()
            self.write_back(scope, full_sync=full_sync)
        return self.report(scope, planned)

    def decide(
        self,
        scope: Scope,
        *,
        full_sync: bool = False,
        preview: bool = False,
        ids: Sequence[str] = (),
    ) -> Planned:
        """The tasks of the daily sync up to its plan."""
        self.fetch(scope, full_sync=full_sync, ids=ids)
        return self.read_and_plan(scope, full_sync=full_sync, preview=preview, ids=ids)

    def read_and_plan(
        self,
        scope: Scope,
        *,
        full_sync: bool = False,
        preview: bool = False,
        ids: Sequence[str] = (),
    ) -> Planned:
        """Read the audience, decide, and check the audience."""
        mailchimp = self.mailchimp_client(scope.calls)
        fetch_members(scope, mailchimp, full_sync=full_sync)
        planned = self.plan(scope, preview=preview, ids=ids)
        if planned.changes:
            check_audience(scope, mailchimp)
        return planned

    def push(self, scope: Scope, planned: Planned, *, again: bool = True) -> None:
        """Write a plan's creations, updates and restores."""
        mailchimp, plan_id = self.mailchimp_client(scope.calls), planned.plan_id
        for shard in planned.shards:
            push_shard(
                scope, mailchimp, plan_id=plan_id, shard=shard, threads=self.threads, again=again
            )

    def archive(
        self, scope: Scope, planned: Planned, *, before_link: Callable[[], None] = lambda: None
    ) -> None:
        """Write a plan's archives, read what the run created, and take opt-outs along."""
        mailchimp = self.mailchimp_client(scope.calls)
        archive_contacts(scope, mailchimp, plan_id=planned.plan_id, threads=self.threads)
        before_link()
        follow_up(scope, mailchimp, plan_id=planned.plan_id)

    def report(self, scope: Scope, planned: Planned) -> Report:
        """Close a run."""
        scope.book_calls(planned.plan_id)
        return make_report(scope, plan_id=planned.plan_id)

    def write_back(self, scope: Scope, *, full_sync: bool = False) -> dict[str, int]:
        """Read what campaigns report, and show on the customers what members did."""
        fetch_engagement(scope, self.mailchimp_client(scope.calls), full_sync=full_sync)
        if not queue_activity(scope):
            return {}
        return write_activity(scope, self.quickbooks_client(scope.calls))

    # ── webhooks ──────────────────────────────────────────────────────────────────────────────

    def open_sync(self, run_id: str | None = None) -> OpenSync:
        """The sync as the webhooks' task opens it."""
        scope = self.scope(run_id)
        return OpenSync(
            scope=scope,
            realm=self.realm,
            open_quickbooks=lambda: self.quickbooks_client(scope.calls),
            open_mailchimp=lambda: self.mailchimp_client(scope.calls),
        )

    def told_by_quickbooks(
        self, *events: tuple[str, ...], spelling: str | None = "deletedid"
    ) -> None:
        """Deliver (operation, id[, merged id]) as Intuit's CloudEvents would.

        ``spelling``: of the merged id's key; None leaves the id out.
        """
        body = [
            {
                "specversion": "1.0",
                "id": secrets.token_hex(8),
                "source": "intuit.sandbox",
                "type": f"qbo.customer.{operation}.v1",
                "time": datetime.now(UTC).isoformat(),
                "intuitentityid": ids[0],
                "intuitaccountid": self.realm,
                "data": {spelling: ids[1]} if len(ids) > 1 and spelling else {},
            }
            for operation, *ids in events
        ]
        self.deliver_from_quickbooks(json.dumps(body).encode())

    def deliver_from_quickbooks(self, body: bytes) -> None:
        """Store a genuine body of QuickBooks, as the receiver does."""
        read = quickbooks_webhooks.read_events(body, realms={self.realm})
        with self.database.begin() as connection:
            inbox.deliver(connection, read, vault=self.vault)

    def deliver_from_mailchimp(self, body: bytes) -> None:
        """Store a genuine body of Mailchimp, as the receiver does."""
        event = mailchimp_webhooks.read_event(
            body, sync="main", audience_id=AUDIENCE, email_key=self.vault.email_key
        )
        with self.database.begin() as connection:
            inbox.deliver(connection, [event], vault=self.vault)

    def told_by_mailchimp(self, kind: str, **data: str) -> None:
        """Deliver one event as Mailchimp's form would."""
        form = {"type": kind, "fired_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"}
        form |= {"data[list_id]": AUDIENCE} | {f"data[{key}]": text for key, text in data.items()}
        self.deliver_from_mailchimp(urlencode(form).encode())

    def make_due(self) -> None:
        """Let the waits and leases of all webhook events pass."""
        with self.database.begin() as connection:
            connection.execute(
                text("""UPDATE ml_connector.webhook_inbox
                        SET next_try_at = clock_timestamp() - interval '1 s',
                            lease_until = clock_timestamp() - interval '1 s'
                        WHERE state IN ('pending', 'leased')""")
            )

    def let_decisions_age(self) -> None:
        """Let every decided change be as old as one that waited for an approval."""
        with self.database.begin() as connection:
            connection.execute(
                text("UPDATE ml_connector.changes SET decided_at = decided_at - interval '1 hour'")
            )

    def work_off(self, *, gather: bool = False) -> dict[str, int]:
        """Work on the inbox once, as the webhooks' task does; with ``gather`` as one that stays."""
        return process_inbox(self.database, [self.open_sync()], vault=self.vault, gather=gather)

    def inbox(self) -> dict[str, int]:
        """Events by state."""
        with self.database.begin() as connection:
            rows = connection.execute(
                text("SELECT state, count(*) FROM ml_connector.webhook_inbox GROUP BY state")
            ).all()
        return {row[0]: row[1] for row in rows}

    # ── the bookkeeper ────────────────────────────────────────────────────────────────────────

    def record_of(self, customer_id: str) -> dict[str, Any]:
        """A customer as QuickBooks has it."""
        return self.quickbooks_control("GET", f"customers/{customer_id}")

    def customer(self, name: str, email: str | None = None, **fields: Any) -> str:
        """Create a customer; return its id."""
        body: dict[str, Any] = {"DisplayName": name, "GivenName": name, **fields}
        if email is not None:
            body["PrimaryEmailAddr"] = {"Address": email}
        return str(self.quickbooks_control("POST", "customers", body)["Id"])

    def edit(self, customer_id: str, **fields: Any) -> None:
        self.quickbooks_control("PATCH", f"customers/{customer_id}", fields)

    def move(self, customer_id: str, email: str | None) -> None:
        """Give a customer another address."""
        self.edit(customer_id, PrimaryEmailAddr={"Address": email or ""})

    def quickbooks_control(self, method: str, path: str, body: object = None) -> Any:
        return self.control(self.quickbooks, method, path, body)

    # ── the newsletter editor and the people ──────────────────────────────────────────────────

    def mailchimp_control(self, method: str, path: str, body: object = None) -> Any:
        return self.control(self.mailchimp, method, path, body)

    def person(self, email: str, action: str, **body: Any) -> None:
        """What a person or the marketer does: unsubscribe, clean, archive, forget ..."""
        self.mailchimp_control("POST", f"members/{email}/{action}", body)

    def seed(self, email: str, status: str = "subscribed", **fields: Any) -> None:
        self.mailchimp_control(
            "POST", "members", {"email_address": email, "status": status, **fields}
        )

    def campaign(self, **body: Any) -> str:
        """Send a campaign to every subscriber; return its id."""
        return str(self.mailchimp_control("POST", "campaigns", body)["id"])

    def did(self, campaign: str, email: str, action: str, **more: Any) -> None:
        """What a recipient did with a campaign: open, click, bounce."""
        body = {"email_address": email, "action": action, **more}
        self.mailchimp_control("POST", f"campaigns/{campaign}/activity", body)

    def pass_time(self, **by: float) -> None:
        """Move every clock but the database's."""
        self.ahead += timedelta(**by)
        offset = {"offset_seconds": self.ahead.total_seconds()}
        self.mailchimp_control("PUT", "clock", offset)
        self.quickbooks_control("PUT", "clock", offset)

    def members(self) -> dict[str, dict[str, Any]]:
        """Everyone in the audience by address, archived and forgotten included."""
        found = self.mailchimp_control("GET", "members")["members"]
        return {member["email_address"].lower(): member for member in found}

    def fields(self, email: str) -> dict[str, Any]:
        """A member's merge fields, without the empty ones."""
        return {tag: value for tag, value in self.members()[email]["merge_fields"].items() if value}

    def tags(self, email: str) -> set[str]:
        return {tag["name"] for tag in self.members()[email]["tags"]}

    def statuses(self) -> dict[str, str]:
        return {email: member["status"] for email, member in self.members().items()}

    # ── what happened ─────────────────────────────────────────────────────────────────────────

    def writes(self) -> list[dict[str, Any]]:
        """Calls to Mailchimp that write, in order."""
        return self.mailchimp_control("GET", "journal?write=true")["calls"]

    def calls(self, system: str) -> list[dict[str, Any]]:
        """Every call to a system since the journal was cleared, token calls left out."""
        base = self.quickbooks if system == "quickbooks" else self.mailchimp
        calls = self.control(base, "GET", "journal")["calls"]
        return [call for call in calls if call.get("kind") != "token"]

    def every_call(self, base: str) -> list[dict[str, Any]]:
        """Every call to a mock server since its journal was cleared, token calls included."""
        return self.control(base, "GET", "journal")["calls"]

    def clear_faults(self, base: str) -> None:
        self.control(base, "DELETE", "faults")

    def clear_journals(self) -> None:
        for base in (self.quickbooks, self.mailchimp):
            self.control(base, "DELETE", "journal")

    def fault(self, system: str, **rule: Any) -> None:
        base = self.quickbooks if system == "quickbooks" else self.mailchimp
        self.control(base, "POST", "faults", rule)

    def audit(self) -> list[dict[str, Any]]:
        return list(trail.iter_entries(self.database.begin, vault=self.vault))

    def told(self, customer_id: str, system: str = "mailchimp") -> list[tuple[str, str, str]]:
        """Action, reason and outcome of a customer's audit rows about a system, in order."""
        mine = [
            entry
            for entry in self.audit()
            if (entry["customer_id"], entry["system"]) == (customer_id, system)
        ]
        return [(entry["action"], entry["reason"], entry["outcome"]) for entry in mine]

    def decisions(self) -> dict[str, tuple[str, str, str | None]]:
        """Decision, reason and whom it is linked to, by customer id."""
        with self.database.begin() as connection:
            rows = connection.execute(
                text("SELECT customer_id, decision, reason, linked_to FROM ml_connector.customers")
            ).all()
        return {row[0]: (row[1], row[2], row[3]) for row in rows}
