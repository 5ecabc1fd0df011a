"""One console request: its user, its sync, and the services that a page uses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ml_connector.console.access import HEADERS, PREFIX, Caller, Identify, Right
from ml_connector.console.outside import Host
from ml_connector.console.queries.inbox import InboxScope
from ml_connector.console.rendering import Times, render
from ml_connector.settings import Sync
from ml_connector.store.database import Database
from ml_connector.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A started run: a sentence about it, and the path of its page in Airflow.

    ``ok`` is False if none was started. Then ``said`` has the reason and what to do.
    """

    said: str
    link: str = ""
    ok: bool = True


class Start(Protocol):
    """Starts a run of a sync, or its preview."""

    def __call__(self, sync: Sync, *, preview: bool, actor: str) -> Started:
        """Start it on behalf of ``actor``; may raise ``ConnectorError``."""
        ...


class Replay(Protocol):
    """Starts a replay: evaluates audit rows against current data."""

    def __call__(self, sync: Sync, ids: list[int], *, actor: str) -> Started:
        """Start the replay on behalf of ``actor``; may raise ``ConnectorError``."""
        ...


class Undo(Protocol):
    """Starts the undo of a run, or its preview."""

    def __call__(self, sync: Sync, plan_id: int, *, dry_run: bool, actor: str) -> Started:
        """Start it on behalf of ``actor``; may raise ``ConnectorError``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Services:
    """Services the console is built with.

    ``start``, ``replay`` and ``undo`` are None if this installation can start no runs. ``refusal``
    returns why ``start`` would refuse, without starting anything; None if it would not.
    """

    database: Database
    vault: Vault
    syncs: Callable[[], Mapping[str, Sync]]
    identify: Identify
    outside: Host
    clock: Callable[[], datetime]
    login_url: str = "/auth/login"
    start: Start | None = None
    refusal: Callable[[Sync], Started | None] | None = None
    replay: Replay | None = None
    undo: Undo | None = None


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """The input of a page. ``path`` holds the route's parameters, ``form`` the body's fields."""

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
        """Return the path where the console is mounted."""
        return str(self.request.scope.get("root_path", ""))

    @property
    def airflow(self) -> str:
        """Return the path that Airflow is served under; empty if it is the root."""
        return self.root.removesuffix(PREFIX)

    @property
    def here(self) -> str:
        """Return the base path of the sync's pages."""
        return f"{self.root}/{self.sync.name}"

    @property
    def now(self) -> datetime:
        """Return the current time. Each use reads the clock again, which is close enough."""
        return self.services.clock()

    @property
    def zone(self) -> ZoneInfo:
        """Return the sync's time zone."""
        return ZoneInfo(self.sync.timezone)

    @property
    def partial(self) -> bool:
        """Return whether the request is for a part of a page."""
        return self.request.headers.get("hx-request") == "true"

    @property
    def realm(self) -> str:
        """Return the sync's QuickBooks company, empty if its connection names none."""
        return self.services.outside.realm(self.sync)

    def events(self, right: Right) -> InboxScope:
        """Return the scope of webhook events on which the user has a ``right``.

        Events that may belong to any company require the right on every sync.
        """
        syncs = self.services.syncs()
        every = all(self.caller.may(right, sync) for sync in syncs.values())
        return InboxScope(sync=self.sync.name, realm=self.realm, syncs=list(syncs) if every else [])

    def may(self, right: Right) -> bool:
        """Return whether the user has a right on this sync."""
        return self.caller.may(right, self.sync)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Render a page, or a part of one."""
        html = render(
            template,
            root=self.root,
            airflow=self.airflow,
            here=self.here,
            sync=self.sync,
            syncs=self.syncs,
            caller=self.caller,
            may={right.value: self.may(right) for right in Right},
            times=Times(self.now, self.zone),
            **values,
        )
        return HTMLResponse(html, status_code=status, headers=HEADERS)

    def told(self, started: Started) -> Response:
        """Say that a run was started, or why not."""
        status = 200 if started.ok else 409
        values = {"ok": started.ok, "said": started.said, "link": started.link}
        return self.page("notice.html", status=status, **values)

    def elsewhere(self, path: str) -> Response:
        """Redirect the browser to another page of the sync."""
        target = f"{self.here}{path}"
        if self.partial:
            return Response(status_code=204, headers={**HEADERS, "hx-redirect": target})
        return RedirectResponse(target, status_code=303, headers=HEADERS)

    def days_ago(self, days: int) -> datetime:
        """Return the time that many days before now."""
        return self.now - timedelta(days=days)


def readable(given: Mapping[str, object]) -> dict[str, str]:
    """Return a request's parameters as texts that Postgres takes: U+FFFD in place of NUL."""
    return {
        name: str(value).replace("\0", "\N{REPLACEMENT CHARACTER}") for name, value in given.items()
    }


def number(value: str | None, *, default: int = 0) -> int:
    """Return an integer from untrusted input; ``default`` if it is not one."""
    text = (value or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else default
