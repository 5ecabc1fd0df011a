"""The console with Airflow's users, roles and connections."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import structlog
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
from airflow.api_fastapi.auth.managers.models.resource_details import (
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.models.connection import Connection as StoredConnection
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import HTTPException
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from ml_connector.activity import use_edit
from ml_connector.console.access import HEADERS, Caller, Right
from ml_connector.console.app import build_console
from ml_connector.console.links import Apps, mailchimp_app, quickbooks_app
from ml_connector.console.outside import RunUnderWay, StatusLine, TokenExpiry
from ml_connector.console.pages.setup import RETURN
from ml_connector.console.visit import Services
from ml_connector.display import counted, utc_minute
from ml_connector.errors import ConnectorError, NeedsReauth, NotConnected, SettingsError
from ml_connector.mailchimp.protocol import base_url_of, member_count
from ml_connector.mailchimp.webhooks import SYSTEM as MAILCHIMP
from ml_connector.model import RunContext
from ml_connector.quickbooks.webhooks import SYSTEM as QUICKBOOKS
from ml_connector.scope import Scope
from ml_connector.settings import Sync, home, load_syncs
from ml_connector.store.database import Database
from ml_connector.sync import groups, names, permissions, preflight
from ml_connector.sync.drift import Drift, iter_drift
from ml_connector.sync.samples import SampleContact, Samples
from ml_connector.vault import vault_from
from ml_connector.webhooks.endpoint import PREFIX as WEBHOOKS
from ml_connector.webhooks.endpoint import public_base
from ml_connector.wire.consent import Consent
from ml_connector_airflow import connecting
from ml_connector_airflow.alerts.delivery import end_alert
from ml_connector_airflow.dag_ids import SERVICES
from ml_connector_airflow.hooks.mailchimp import MailchimpHook
from ml_connector_airflow.installation import paused_among
from ml_connector_airflow.mounts import triggering
from ml_connector_airflow.mounts.receiver import load_keys
from ml_connector_airflow.tasks.tokens import alert_reauth, needs_reauth
from ml_connector_airflow.token_variable import TokenVariable
from ml_connector_airflow.typed import realm_in
from ml_connector_airflow.wiring import (
    airflow_base_url,
    connection_named,
    database_url,
    mailchimp_client,
    open_scope,
    quickbooks_client,
)

log = structlog.get_logger(__name__)


async def identify(request: Request) -> Caller | None:
    """Return the caller by Airflow's session cookie or bearer token; None if not logged in."""
    try:
        user = await get_user(request, None, await bearer_scheme(request))
    except HTTPException as refused:
        if refused.status_code in (401, 403):
            return None
        raise
    return Caller(name=user.get_name(), may=partial(_may, user))


def _may(user: Any, right: Right, sync: Sync) -> bool:
    manager = get_auth_manager()
    if right in (Right.READ, Right.RUN):
        dag_id = triggering.dag_of(sync)
        details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
        run = right is Right.RUN
        return bool(
            manager.is_authorized_dag(
                method="POST" if run else "GET",
                access_entity=DagAccessEntity.RUN if run else None,
                details=details,
                user=user,
            )
        )
    method: ResourceMethod = "GET" if right is Right.SETUP else "PUT"
    return all(
        manager.is_authorized_connection(
            method=method,
            details=ConnectionDetails(
                conn_id=conn_id, team_name=StoredConnection.get_team_name(conn_id)
            ),
            user=user,
        )
        for conn_id in (sync.quickbooks_conn_id, sync.mailchimp_conn_id)
    )


class AirflowServices:
    """The console's outside world (``console/outside.py``), with Airflow's credentials."""

    def paused(self, sync: Sync) -> bool | None:
        """Return whether the sync's DAG is paused."""
        with create_session() as session:
            query = select(DagModel.is_paused).where(DagModel.dag_id == triggering.dag_of(sync))
            found: bool | None = session.scalar(query)
            return found

    def paused_dags(self, sync: Sync) -> Sequence[str] | None:
        """Return which DAGs that the sync needs are paused."""
        return paused_among([*SERVICES, triggering.dag_of(sync)])

    def run_under_way(self, sync: Sync) -> RunUnderWay | None:
        """Return the run of the sync that is running or queued."""
        return triggering.run_under_way(sync)

    def realm(self, sync: Sync) -> str:
        """Return the realm id in the connection; ``""`` if there is none."""
        try:
            connection = connection_named(sync.quickbooks_conn_id, "")
        except SettingsError:
            return ""
        return realm_in(connection.extra_dejson)

    def apps(self, sync: Sync) -> Apps:
        """Return where the accounts are opened, by the hosts of the connections."""
        quickbooks = mailchimp = ""
        with suppress(ConnectorError):  # one without its connection has no link
            quickbooks = quickbooks_app(connection_named(sync.quickbooks_conn_id, "").host or "")
        with suppress(ConnectorError):
            found = connection_named(sync.mailchimp_conn_id, "")
            mailchimp = mailchimp_app(base_url_of(found.password or "", found.host or ""))
        return Apps(quickbooks=quickbooks, mailchimp=mailchimp)

    def token_ends(self, conn_id: str) -> TokenExpiry:
        """Return the expiry times in the token Variable, without the tokens."""
        try:
            token = TokenVariable(conn_id).load()
        except NotConnected as error:
            return TokenExpiry(problem=str(error), connected=False)
        except (NeedsReauth, SettingsError) as error:
            return TokenExpiry(problem=str(error))
        return TokenExpiry(
            access=token.expires_at,
            refresh=token.refresh_expires_at,
            for_good=token.hard_expires_at,
        )

    def key_problem(self, conn_id: str) -> str:
        """Return why a Mailchimp connection has no token or key; empty if it has one."""
        connection_named(conn_id, "add one of type Mailchimp")
        try:
            MailchimpHook(conn_id).get_client()
        except NotConnected as error:
            return str(error)
        except ConnectorError:  # a key of another form; the call says so
            return ""
        return ""

    def connections(self, sync: Sync) -> Sequence[StatusLine]:
        """Report which values of each connection are set, without showing secrets."""
        return [
            self._quickbooks(sync.quickbooks_conn_id),
            self._token(sync.quickbooks_conn_id),
            self._mailchimp(sync.mailchimp_conn_id),
        ]

    def _quickbooks(self, conn_id: str) -> StatusLine:
        try:
            connection = connection_named(conn_id, "add one of type QuickBooks Online")
        except SettingsError as error:
            return StatusLine(name="QuickBooks", said=str(error), ok=False)
        realm = realm_in(connection.extra_dejson)
        lacking = [
            name
            for name, value in (
                ("client id", connection.login),
                ("client secret", connection.password),
                ("realm id", realm),
            )
            if not value
        ]
        if lacking == ["realm id"] and self.token_ends(conn_id).problem:
            said = f"connection {conn_id}, the app's client id and secret are set"
            return StatusLine(name="QuickBooks", said=said, ok=True)
        if lacking:
            said = f"connection {conn_id} has no {' and no '.join(lacking)}"
            fix = "Connect QuickBooks, which fills it in."
            if lacking != ["realm id"]:
                fix = "Add it under Admin → Connections in Airflow."
            return StatusLine(name="QuickBooks", said=said, ok=False, fix=fix)
        place = connection.host or "production"
        said = f"connection {conn_id}, company {realm}, at {place}"
        return StatusLine(name="QuickBooks", said=said, ok=True)

    def _token(self, conn_id: str) -> StatusLine:
        ends, name = self.token_ends(conn_id), "QuickBooks token"
        if not ends.connected:
            return StatusLine(name=name, said="not connected yet", access=QUICKBOOKS)
        if ends.problem:
            return StatusLine(name=name, said=ends.problem, ok=False, access=QUICKBOOKS)
        if ends.refresh is None:
            said = "stored; the next refresh shows when it ends"
            return StatusLine(name=name, said=said, access=QUICKBOOKS)
        said = f"stored; the refresh token ends on {utc_minute(ends.refresh)}"
        ok = ends.refresh > datetime.now(UTC)
        return StatusLine(name=name, said=said, ok=ok, access=QUICKBOOKS)

    def _mailchimp(self, conn_id: str) -> StatusLine:
        try:
            connection = connection_named(conn_id, "add one of type Mailchimp")
        except SettingsError as error:
            return StatusLine(name="Mailchimp", said=str(error), ok=False)
        if self.key_problem(conn_id):
            said = "not connected yet"
            return StatusLine(name="Mailchimp", said=said, access=MAILCHIMP)
        place = f", at {connection.host}" if connection.host else ""
        said = f"connection {conn_id}, token or key set{place}"
        return StatusLine(name="Mailchimp", said=said, ok=True, access=MAILCHIMP)

    def webhooks(self, sync: Sync, base: str) -> Sequence[StatusLine]:
        """Report the webhook URLs of both systems, and which secrets are set."""
        keys = load_keys()
        mailchimp = keys.mailchimp.get(sync.name)
        signed = bool(mailchimp and mailchimp.signing_secrets)
        how = "The secret verifies deliveries" + (", and so does a signature." if signed else ".")
        return [
            StatusLine(
                name="QuickBooks",
                said=f"{base}{WEBHOOKS}/quickbooks",
                ok=bool(keys.quickbooks) or None,
                fix="The verifier token is set."
                if keys.quickbooks
                else "Not set up. Register this address with your Intuit app, and copy the app's"
                f" verifier token into the connection {sync.quickbooks_conn_id}.",
            ),
            StatusLine(
                name="Mailchimp",
                said=f"{base}{WEBHOOKS}/mailchimp/{sync.name}",
                ok=bool(mailchimp and mailchimp.secrets) or None,
                fix=how
                if mailchimp and mailchimp.secrets
                else "Not set up. Run `ml-connector register-webhooks`.",
            ),
        ]

    def ping(self, sync: Sync, system: str) -> str:
        """Ask the system for our account's name there."""
        with _scope(sync) as scope:
            if system == QUICKBOOKS:
                client = quickbooks_client(scope)
                company = client.company().name
                names.store_company(scope, realm=client.realm_id, name=company)
                return f"QuickBooks responds: {company}"
            name = mailchimp_client(scope).account().get("account_name")
            end_alert(scope.database, cause=needs_reauth(sync.mailchimp_conn_id))
            return f"Mailchimp responds: {name}"

    def audience(self, sync: Sync) -> Sequence[StatusLine]:
        """Read the audience and compare its merge fields with the settings."""
        with _scope(sync) as scope:
            client = mailchimp_client(scope)
            found, existing = client.audience(), client.merge_fields()
            names.store_audience(scope, name=str(found.get("name") or ""))
            lacking = groups.store_groups(scope, client)
            wrong = permissions.check_permissions(scope, client)
            with scope.database.begin() as connection:
                warning = permissions.warning(scope.sync, connection)
        problems = dict(preflight.iter_problems(sync, existing))
        double = bool(found.get("double_optin")) and sync.new_contact_status == "subscribed"
        kinds = {field.tag: field.type for field in existing}
        return [
            StatusLine(
                name=str(found.get("name")),
                said=counted(member_count(found), "member"),
                ok=not double,
                fix="Double opt-in is on, and new_contact_status: subscribed bypasses it."
                if double
                else "",
            ),
            *(
                StatusLine(
                    name=tag,
                    said=problems.get(tag, f"is there, type {kinds.get(tag)}"),
                    ok=tag not in problems,
                    fix="`ml-connector check --fix` adds missing fields."
                    if tag in problems
                    else "",
                )
                for tag in dict.fromkeys([*sync.fields, *problems])
            ),
            *(
                StatusLine(
                    name=title,
                    said=preflight.missing_category(title)
                    if title in lacking
                    else "is there, groups",
                    ok=title not in lacking,
                    fix="`ml-connector check --fix` adds missing ones." if title in lacking else "",
                )
                for title in sync.groups
            ),
            *(
                StatusLine(
                    name="Marketing permissions",
                    said=said,
                    ok=False,
                    fix="Set marketing_permissions in syncs.yaml, each with its legal basis.",
                )
                for said in (*wrong, *([warning] if warning else []))
            ),
        ]

    def sample_contacts(self, sync: Sync) -> Sequence[SampleContact]:
        """Read a few customers and their members; return what the mapping makes of them."""
        with _scope(sync, read_only=True) as scope:
            quickbooks, mailchimp = quickbooks_client(scope), mailchimp_client(scope)
            return Samples.read(sync, quickbooks, mailchimp).shown(sync)

    def drift(self, sync: Sync) -> Iterator[Drift]:
        """Read the audience; yield what differs from the customers as last read."""
        with _scope(sync) as scope:
            yield from iter_drift(scope, mailchimp_client(scope))

    def use_in_quickbooks(self, sync: Sync, customer_id: str, tag: str, *, actor: str) -> None:
        """Write the value that a merge field shows in Mailchimp to the customer."""
        with _scope(sync) as scope:
            asked = replace(scope, run=RunContext(actor=actor))
            client = quickbooks_client(asked)
            use_edit.use_in_quickbooks(asked, client, customer_id=customer_id, tag=tag)

    def base_url(self) -> str:
        """Return the base URL from Airflow's configuration."""
        return airflow_base_url()

    def public_url(self) -> str:
        """Return the receiver's public address, from the environment."""
        return public_base(os.environ)

    def consent_page(self, system: str, conn_id: str, *, redirect_uri: str, state: str) -> str:
        """Return the URL of a system's consent page."""
        return connecting.consent_page(system, conn_id, redirect_uri=redirect_uri, state=state)

    def connect(self, system: str, conn_id: str, consent: Consent, *, redirect_uri: str) -> str:
        """Exchange the code and store the result; return the company's or the account's name."""
        return connecting.complete_consent(system, conn_id, consent, redirect_uri=redirect_uri)


@contextmanager
def _scope(sync: Sync, *, read_only: bool = False) -> Iterator[Scope]:
    scope = open_scope(sync.name, read_only=read_only)
    with closing(scope.database), scope.outside_runs():
        try:
            yield scope
        except NotConnected:
            raise
        except NeedsReauth as error:
            alert_reauth(scope.database, sync, error)
            raise


AGAIN = 3.0
"""Seconds until a console with a missing setting tries again."""


class MountedConsole:
    """An application of the console inside the API server, built on the first request."""

    def __init__(self, build: Callable[[Services], Any]) -> None:
        self._build = build
        self._app: Any = None
        self._problem = ""
        self._building = asyncio.Lock()
        self._tried_at = float("-inf")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request. While a setting is missing, report it to logged-in users only."""
        app = self._app or await self._built()
        if app is None and scope["type"] == "http":
            known = await identify(Request(scope, receive))
            said = self._problem if known else "Log in first."
            app = PlainTextResponse(f"{said}\n", status_code=503 if known else 401, headers=HEADERS)
        if app is not None:
            try:
                await app(scope, receive, send)
            finally:
                if RETURN in scope.get("path", ""):  # Airflow logs the query: a consent's code
                    scope["query_string"] = b""

    async def _built(self) -> Any:
        async with self._building:
            if self._app is None and time.monotonic() - self._tried_at > AGAIN:
                self._tried_at = time.monotonic()
                try:
                    self._app = await asyncio.to_thread(lambda: self._build(console_services()))
                except ConnectorError as error:
                    self._problem = str(error)
                    log.warning("console_cannot_be_opened", error=self._problem)
            return self._app


@cache
def console_services() -> Services:
    """Return the services of this process.

    Raises ``ConnectorError`` while a setting is missing.
    """
    return Services(
        database=Database(database_url(), connections=3),
        vault=vault_from(os.environ, home()),
        syncs=load_syncs,
        identify=identify,
        outside=AirflowServices(),
        clock=lambda: datetime.now(UTC),
        login_url=get_auth_manager().get_url_login(),
        start=triggering.start_sync,
        refusal=triggering.sync_refusal,
        replay=triggering.replay,
        undo=triggering.undo,
    )


mounted = MountedConsole(build_console)
