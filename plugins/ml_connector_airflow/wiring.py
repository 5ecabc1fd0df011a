"""Composition root: build scopes and clients from Airflow's connections and context."""

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from airflow.sdk import Connection
from sqlalchemy import URL

from ml_connector.audit import rate_limits
from ml_connector.errors import SettingsError
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import RunContext
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.scope import Scope
from ml_connector.secret_source import find_secret
from ml_connector.settings import home, load_sync
from ml_connector.store import pacing
from ml_connector.store.database import Database
from ml_connector.vault import vault_from
from ml_connector.wire.retries import Retries
from ml_connector_airflow import metrics
from ml_connector_airflow.compat import AirflowNotFoundException, connection_extra
from ml_connector_airflow.hooks.mailchimp import MailchimpHook
from ml_connector_airflow.hooks.quickbooks import QuickBooksHook

DATABASE_CONN_ID = "ml_connector_db"
PAGES_AT_A_TIME = 3
"""Pages of a Mailchimp listing that a task with a slot of the Mailchimp pool reads in parallel: as
many as the slot has connections."""
PASSWORD_VARIABLE = "ML_CONNECTOR_DB_PASSWORD"  # noqa: S105 - its name; or with _FILE, a file's
_DATABASE_FIX = "add one of type Postgres that points at the connector's database"
_POSTGRES_OPTIONS = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "options", "host"}
)


def connection_named(conn_id: str, fix: str) -> Connection:
    """Return an Airflow connection. Raises ``SettingsError`` with ``fix`` if it is missing."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    try:
        found: Connection = Connection.get(conn_id)
    except (AirflowNotFoundException, AirflowRuntimeError):
        raise SettingsError(f"there is no Airflow connection {conn_id!r}; {fix}") from None
    return found


def airflow_base_url() -> str:
    """Return the base URL in Airflow's configuration, without a trailing slash."""
    from airflow.configuration import conf

    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")


def values_in(extra: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of an extra field, which may hold several by commas during a rotation."""
    return [part for part in map(str.strip, str(extra.get(name) or "").split(",")) if part]


def database_url() -> str:
    """Return the URL of the connector's database (connection ``ml_connector_db``)."""
    connection = connection_named(DATABASE_CONN_ID, _DATABASE_FIX)
    return _address(connection, connection.extra_dejson)


async def database_url_in_trigger() -> str:
    """Return the database URL in a triggerer, where a blocking look-up would stall every trigger.

    Raises ``SettingsError`` if the connection is missing, or while Airflow's own database is
    unavailable: a trigger cannot distinguish the two.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError

    try:
        connection: Connection = await Connection.async_get(DATABASE_CONN_ID)
    except (AirflowNotFoundException, AirflowRuntimeError):
        raise SettingsError(
            f"there is no Airflow connection {DATABASE_CONN_ID!r}; {_DATABASE_FIX}"
        ) from None
    return _address(connection, await connection_extra(connection))


def _address(connection: Connection, extra: Mapping[str, Any]) -> str:
    beside = find_secret(os.environ, PASSWORD_VARIABLE)
    # Not get_uri(): an extra of {} becomes a parameter that Postgres does not know.
    options = {name: str(value) for name, value in extra.items() if name in _POSTGRES_OPTIONS}
    url = URL.create(
        "postgresql",
        username=connection.login,
        password=connection.password or (beside.text if beside else "") or None,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
        query=options,
    )
    return url.render_as_string(hide_password=False)


def open_scope(
    sync_name: str,
    *,
    run: RunContext | None = None,
    database: Database | None = None,
    read_only: bool = False,
) -> Scope:
    """Return what a step of the sync needs. Raises ``SettingsError`` naming any missing setting.

    Without a ``database`` it opens one of its own. The clients of a ``read_only`` scope send no
    call that could write.
    """
    return Scope(
        sync=load_sync(sync_name),
        database=database or Database(database_url()),
        vault=vault_from(os.environ, home()),
        run=run or RunContext(),
        read_only=read_only,
    )


def run_of(context: dict[str, Any]) -> RunContext:
    """Return the run's identity for the audit, including the user who started it."""
    instance = context["ti"]
    return RunContext(
        dag_id=instance.dag_id,
        run_id=instance.run_id,
        task_id=instance.task_id,
        try_number=instance.try_number,
        actor=str(getattr(context.get("dag_run"), "triggering_user_name", "") or ""),
    )


def quickbooks_client(scope: Scope) -> QuickBooksClient:
    """Return a client of the sync's company, within its rate limits across all workers."""
    conn_id = scope.sync.quickbooks_conn_id
    connection_named(conn_id, "add one of type QuickBooks Online")
    return QuickBooksHook(conn_id).get_client(
        database=scope.database,
        pace=partial(_pace, scope.database, conn_id, pacing.reserve),
        pace_batch=partial(_pace, scope.database, conn_id, pacing.reserve_batch),
        retries=Retries(
            on_retry=metrics.retries(
                "quickbooks", rate_limits.on_retry_callback(scope, "quickbooks")
            )
        ),
        calls=scope.calls,
        custom_fields=scope.sync.custom_fields,
        read_only=scope.read_only,
    )


def mailchimp_client(scope: Scope, *, pages_at_a_time: int = 1) -> MailchimpClient:
    """Return a client of the sync's audience.

    It reads one page of a listing at a time unless its task holds a slot of the Mailchimp pool.
    """
    conn_id = scope.sync.mailchimp_conn_id
    connection_named(conn_id, "add one of type Mailchimp")
    retries = Retries(
        on_retry=metrics.retries("mailchimp", rate_limits.on_retry_callback(scope, "mailchimp"))
    )
    return MailchimpHook(conn_id).get_client(
        scope.sync.audience_id,
        retries=retries,
        calls=scope.calls,
        member_fields=scope.sync.member_fields,
        pages_at_a_time=pages_at_a_time,
        read_only=scope.read_only,
    )


def _pace(database: Database, account: str, reserve: Callable[..., float]) -> None:
    with database.begin() as connection:
        wait = reserve(connection, account=account)
    if wait:
        time.sleep(wait)
