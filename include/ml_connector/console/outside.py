"""Interface to the console's host. The Airflow plugin implements it with Airflow's credentials."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ml_connector.console.links import Apps
from ml_connector.settings import Sync
from ml_connector.sync.drift import Drift
from ml_connector.sync.samples import SampleContact
from ml_connector.wire.consent import Consent


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExpiry:
    """When a connection's tokens expire; None if unknown. ``problem``: why it has no tokens.

    ``connected``: whether it has ever been connected.
    """

    access: datetime | None = None
    refresh: datetime | None = None
    for_good: datetime | None = None
    problem: str = ""
    connected: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusLine:
    """One line of the Setup page. ``ok`` is None if neutral. ``fix`` says what to do.

    ``access``: the system whose token or key the line is about, if any.
    """

    name: str
    said: str
    ok: bool | None = None
    fix: str = ""
    access: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUnderWay:
    """A run of a sync that the host has queued or begun. ``tasks``: ids of those at work.

    ``link``: the path of its page at the host.
    """

    run_id: str
    preview: bool
    queued: bool
    since: datetime | None
    tasks: frozenset[str]
    link: str


class Host(Protocol):
    """Services of the host. Every method may raise ``ConnectorError`` with a message for users."""

    def paused(self, sync: Sync) -> bool | None:
        """Return whether the sync's DAG is paused, None if Airflow does not know it."""
        ...

    def paused_dags(self, sync: Sync) -> Sequence[str] | None:
        """Return which DAGs that the sync needs are paused; None if Airflow knows none of them."""
        ...

    def run_under_way(self, sync: Sync) -> RunUnderWay | None:
        """Return the sync's running run, else a queued one; None without any."""
        ...

    def realm(self, sync: Sync) -> str:
        """Return the company that the sync's connection names, empty if it names none."""
        ...

    def apps(self, sync: Sync) -> Apps:
        """Return where people open the sync's accounts, without a call."""
        ...

    def token_ends(self, conn_id: str) -> TokenExpiry:
        """Return when the tokens of a QuickBooks connection expire."""
        ...

    def key_problem(self, conn_id: str) -> str:
        """Return why a Mailchimp connection has no token or key; empty if it has one."""
        ...

    def connections(self, sync: Sync) -> Sequence[StatusLine]:
        """Return the settings of the sync's connections, without a call and without secrets."""
        ...

    def webhooks(self, sync: Sync, base: str) -> Sequence[StatusLine]:
        """Return the sync's webhook URLs under ``base``, and which secrets are set."""
        ...

    def ping(self, sync: Sync, system: str) -> str:
        """Call ``quickbooks`` or ``mailchimp``; return the company or account that responded."""
        ...

    def audience(self, sync: Sync) -> Sequence[StatusLine]:
        """Read the audience and its merge fields; return whether they match the settings."""
        ...

    def sample_contacts(self, sync: Sync) -> Sequence[SampleContact]:
        """Read a few customers and their members; return what the mapping makes of them."""
        ...

    def drift(self, sync: Sync) -> Iterator[Drift]:
        """Read the audience; yield what differs from the customers as last read."""
        ...

    def use_in_quickbooks(self, sync: Sync, customer_id: str, tag: str, *, actor: str) -> None:
        """Write the value that a merge field shows in Mailchimp to the customer."""
        ...

    def base_url(self) -> str:
        """Return the server's public URL without a trailing slash, empty if unknown."""
        ...

    def public_url(self) -> str:
        """Return the address of a receiver that is the only public part; empty if there is none."""
        ...

    def consent_page(self, system: str, conn_id: str, *, redirect_uri: str, state: str) -> str:
        """Return the URL of a system's consent page."""
        ...

    def connect(self, system: str, conn_id: str, consent: Consent, *, redirect_uri: str) -> str:
        """Store what a consent grants; return the company's or the account's name."""
        ...
