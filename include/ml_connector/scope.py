"""Context of every step of a sync: its settings, store, keys and run."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import Policy, RunContext
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.settings import Sync
from ml_connector.store import pacing, plans
from ml_connector.store.database import Database
from ml_connector.vault import Vault


@dataclass(frozen=True, kw_only=True)
class Scope:
    """One run of one sync. ``calls`` counts what its clients send.

    ``written`` counts the writes that webhooks caused, by system and outcome, until the metrics
    report them. ``origins`` maps a customer to what triggered the run for it: ``webhook:9``,
    ``replay:3``. ``threads``: whether a step may use several threads at once. ``read_only``: the run
    is a preview, whose clients send nothing that could write.
    """

    sync: Sync
    database: Database
    vault: Vault
    run: RunContext = field(default_factory=RunContext)
    calls: Counter[str] = field(default_factory=Counter)
    written: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    origins: Mapping[str, str] = field(default_factory=dict)
    skews: dict[str, timedelta] = field(default_factory=dict)
    threads: bool = True
    read_only: bool = False

    @property
    def name(self) -> str:
        """Return the sync's name, the first part of most keys in the store."""
        return self.sync.name

    @property
    def policy(self) -> Policy:
        """Return the settings that affect decisions."""
        return Policy(
            new_contact_status=self.sync.new_contact_status,
            create=self.sync.create,
            include_jobs=self.sync.include_jobs,
            on_inactive=self.sync.on_inactive,
        )

    def plan_id(self, kind: str | None = None) -> int:
        """Return the id of this run's plan; the first call creates it."""
        with self.database.begin() as connection:
            return plans.open_plan(connection, sync=self.name, run_id=self.run.run_id, kind=kind)

    def book_calls(self, plan_id: int | None = None) -> dict[str, int]:
        """Add the calls made so far to the day's usage and to a plan; reset and return them."""
        made = dict(self.calls)
        self.calls.clear()
        with self.database.begin() as connection:
            if plan_id is not None:
                plans.add_calls(connection, plan_id=plan_id, calls=made)
            for system, account in (
                ("quickbooks", self.sync.quickbooks_conn_id),
                ("mailchimp", self.sync.mailchimp_conn_id),
            ):
                mine = {call: n for call, n in made.items() if call.startswith(system)}
                pacing.count_calls(connection, account=account, calls=mine, day=self.clock().date())
        return made

    @contextmanager
    def outside_runs(self) -> Iterator[None]:
        """Book the calls of the block, however it ends: they belong to no run."""
        try:
            yield
        finally:
            if self.calls:
                self.book_calls()


@dataclass
class OpenSync:
    """One sync with its clients, which open on first use. ``realm`` is its company's id."""

    scope: Scope
    realm: str
    open_quickbooks: Callable[[], QuickBooksClient]
    open_mailchimp: Callable[[], MailchimpClient]

    @cached_property
    def quickbooks(self) -> QuickBooksClient:
        """Return the company's client."""
        return self.open_quickbooks()

    @cached_property
    def mailchimp(self) -> MailchimpClient:
        """Return the audience's client."""
        return self.open_mailchimp()
