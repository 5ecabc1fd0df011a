"""What the console asks of the world around it: implemented with Airflow's keys by the plugin."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ml_connector.quickbooks.authorize import Consent
from ml_connector.settings import Sync


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEnds:
    """When a connection's tokens end; None where that is not known. ``problem``: why it has none."""

    access: datetime | None = None
    refresh: datetime | None = None
    for_good: datetime | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusLine:
    """One line of Setup. ``ok`` None: neither good nor bad. ``mend`` says what to do."""

    name: str
    said: str
    ok: bool | None = None
    mend: str = ""


class Outside(Protocol):
    """Every method may raise ``ConnectorError`` with a sentence for people."""

    def paused(self, sync: Sync) -> bool | None:
        """Return whether the sync's DAG is paused, None if Airflow does not know it."""
        ...

    def realm(self, sync: Sync) -> str:
        """Return the company that the sync's connection names, empty if it names none."""
        ...

    def token_ends(self, conn_id: str) -> TokenEnds:
        """Return when the tokens of a QuickBooks connection end."""
        ...

    def connections(self, sync: Sync) -> Sequence[StatusLine]:
        """Return how the sync's connections are set, without a call and without a secret."""
        ...

    def webhooks(self, sync: Sync, base: str) -> Sequence[StatusLine]:
        """Return the sync's webhook addresses under ``base``, and which secrets are set."""
        ...

    def ping(self, sync: Sync, system: str) -> str:
        """Call ``quickbooks`` or ``mailchimp``; return who answered."""
        ...

    def audience(self, sync: Sync) -> Sequence[StatusLine]:
        """Read the audience and its merge fields; return whether they fit the settings."""
        ...

    def base_url(self) -> str:
        """Return where people reach this server, without a slash at the end; empty if unknown."""
        ...

    def consent_page(self, conn_id: str, *, redirect_uri: str, state: str) -> str:
        """Return the address of Intuit's consent page."""
        ...

    def connect(self, conn_id: str, consent: Consent, *, redirect_uri: str) -> str:
        """Store what a consent brings; return the company's name."""
        ...
