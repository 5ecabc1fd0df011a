"""One request to the console: who asks, for which sync, and what a page has at hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ml_connector.console.access import HEADERS, Caller, Identify, Right
from ml_connector.console.outside import Outside
from ml_connector.console.queries.inbox import Whose
from ml_connector.console.rendering import Times, render
from ml_connector.settings import Sync
from ml_connector.store.database import Database
from ml_connector.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What was started, in a sentence, and where in Airflow to follow it."""

    said: str
    link: str = ""


class Replay(Protocol):
    """Evaluates audit rows again against the state of today."""

    def __call__(self, sync: Sync, ids: list[int], *, actor: str) -> Started:
        """Start it, on behalf of ``actor``; may raise ``ConnectorError``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the console is built with. ``replay`` None: this installation cannot replay."""

    database: Database
    vault: Vault
    syncs: Callable[[], Mapping[str, Sync]]
    identify: Identify
    outside: Outside
    clock: Callable[[], datetime]
    login_url: str = "/auth/login"
    replay: Replay | None = None


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What a page is made from. ``path`` holds the route's parameters, ``form`` a body's fields."""

    request: Request
    caller: Caller
    sync: Sync
    services: Services
    syncs: tuple[str, ...]
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """Where the console is mounted."""
        return str(self.request.scope.get("root_path", ""))

    @property
    def here(self) -> str:
        """The sync's own pages."""
        return f"{self.root}/{self.sync.name}"

    @property
    def now(self) -> datetime:
        """The time, once for the whole page would be nicer but a page is quick."""
        return self.services.clock()

    @property
    def zone(self) -> ZoneInfo:
        """The sync's time zone."""
        return ZoneInfo(self.sync.timezone)

    @property
    def partial(self) -> bool:
        """Whether a part of a page is asked for, not a page."""
        return self.request.headers.get("hx-request") == "true"

    @property
    def realm(self) -> str:
        """The sync's company in QuickBooks; empty if its connection names none."""
        return self.services.outside.realm(self.sync)

    def events(self, right: Right) -> Whose:
        """Say which webhook events the caller has a ``right`` on.

        What may be of any company takes the right on every sync.
        """
        syncs = self.services.syncs()
        every = all(self.caller.may(right, sync) for sync in syncs.values())
        return Whose(sync=self.sync.name, realm=self.realm, syncs=list(syncs) if every else [])

    def may(self, right: Right) -> bool:
        """Tell whether the caller has a right on this sync."""
        return self.caller.may(right, self.sync)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a rendered page, or a part of one."""
        html = render(
            template,
            root=self.root,
            here=self.here,
            sync=self.sync,
            syncs=self.syncs,
            caller=self.caller,
            may={right.value: self.may(right) for right in Right},
            times=Times(self.now, self.zone),
            **values,
        )
        return HTMLResponse(html, status_code=status, headers=HEADERS)

    def elsewhere(self, path: str) -> Response:
        """Send the browser to another page of the sync."""
        target = f"{self.here}{path}"
        if self.partial:
            return Response(status_code=204, headers={**HEADERS, "hx-redirect": target})
        return RedirectResponse(target, status_code=303, headers=HEADERS)

    def days_ago(self, days: int) -> datetime:
        """Return the time so many days before now."""
        return self.now - timedelta(days=days)


def number(value: str | None, *, default: int = 0) -> int:
    """Return a whole number that a query may have made up; ``default`` if it is none."""
    text = (value or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else default
