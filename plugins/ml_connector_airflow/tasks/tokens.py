"""Token tasks: keep QuickBooks connected."""

import heapq
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from airflow.sdk import get_current_context

from ml_connector.errors import (
    ConnectorError,
    NeedsReauth,
    NotConnected,
    RetryLater,
    StopRun,
    StorageError,
    values_withheld,
)
from ml_connector.quickbooks.tokens import TokenPair
from ml_connector.settings import Sync, quickbooks_connections
from ml_connector.store.database import Database
from ml_connector_airflow import metrics
from ml_connector_airflow.alerts.callbacks import run_succeeded
from ml_connector_airflow.alerts.delivery import end_alert, raise_alert
from ml_connector_airflow.hooks.quickbooks import QuickBooksHook
from ml_connector_airflow.wiring import database_url

WARN_BEFORE = timedelta(days=14)
GROUP = 25
"""Connections that one task refreshes: the task costs Airflow a second, a refresh much less."""

TURNS = 7
"""Runs after which each of very many connections was refreshed: six hours. A refresh token lasts
for 100 days, and each call refreshes an access token that is too old."""

EVERY = timedelta(minutes=50)
"""An access token lives an hour."""

log = structlog.get_logger(__name__)


def needs_reauth(conn_id: str) -> str:
    """Return the cause of the alert that a connection needs a new consent."""
    return f"needs_reauth:{conn_id}"


def alert_reauth(database: Database, sync: Sync, error: NeedsReauth) -> None:
    """Raise the alert that one of a sync's connections needs a new consent."""
    quickbooks = error.system == "quickbooks"
    conn_id = sync.quickbooks_conn_id if quickbooks else sync.mailchimp_conn_id
    raise_alert(database, cause=needs_reauth(conn_id), message=f"{conn_id}: {error}")


@values_withheld()
def connection_groups() -> list[list[str]]:
    """Return the QuickBooks connections of all syncs by task, ``TURNS`` groups to each.

    A task refreshes one group a run. So the tasks of a run stay few with many connections, and up
    to ``GROUP`` connections are refreshed in every run.
    """
    found = quickbooks_connections()
    return [found[start : start + TURNS * GROUP] for start in range(0, len(found), TURNS * GROUP)]


def due(conn_ids: Sequence[str], at: datetime | None) -> Sequence[str]:
    """Return those of a task's connections whose turn it is in a run at ``at``; None means all."""
    if at is None:
        return conn_ids
    turns = -(-len(conn_ids) // GROUP)
    turn = int(at.timestamp() // EVERY.total_seconds()) % turns
    return conn_ids[turn * GROUP : (turn + 1) * GROUP]


def _scheduled_at() -> datetime | None:
    run = get_current_context()["dag_run"]
    return run.run_after if run.run_type == "scheduled" else None


@values_withheld()
def refresh_tokens(conn_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Refresh the connections whose turn it is; return expiry times and no token.

    A run triggered by a user refreshes all.

    A failed connection holds up no other one. A retry of the task refreshes those that are left.

    Raises, after the whole group, an error that names the failed connections: ``RetryLater`` if one
    of them may work later, else ``StopRun`` or the kind of error that all of them share.
    """
    conn_ids = due(conn_ids, _scheduled_at())
    since = get_current_context()["dag_run"].start_date
    done, failed = list[dict[str, Any]](), dict[str, ConnectorError]()
    with closing(Database(database_url(), connections=3)) as database:
        for conn_id in conn_ids:
            try:
                done.append(_refreshed(database, conn_id, since=since))
            except StorageError:
                raise
            except NotConnected:
                log.info("not_connected_yet", conn_id=conn_id)
            except ConnectorError as error:
                failed[conn_id] = error
                log.warning("token_not_refreshed", conn_id=conn_id, reason=str(error))
    log.info("tokens_refreshed", connections=done)
    if failed:
        raise group_error(failed, len(conn_ids))
    return done


def _refreshed(database: Database, conn_id: str, *, since: datetime | None) -> dict[str, Any]:
    try:
        token = QuickBooksHook(conn_id).token_manager(database).refresh(since=since)
    except NotConnected:  # there is nothing to keep alive, and the sync that needs it fails
        raise
    except NeedsReauth as error:
        metrics.token(conn_id, "refused")
        raise_alert(database, cause=needs_reauth(conn_id), message=f"{conn_id}: {error}")
        raise
    metrics.token(conn_id, "renewed")
    end_alert(database, cause=needs_reauth(conn_id))
    warn_before_end(database, conn_id, token, now=datetime.now(UTC))
    return {
        "conn_id": conn_id,
        "refreshed_at": _shown(token.rotated_at),
        "refresh_token_ends": _shown(token.refresh_expires_at),
        "connection_ends": _shown(token.hard_expires_at),
    }


def group_error(failed: Mapping[str, ConnectorError], number: int) -> ConnectorError:
    """Return the error of a group of ``number`` connections, some of which failed."""
    errors = list(failed.values())
    if len(errors) == 1:
        message = "; ".join(f"{conn_id}: {error}" for conn_id, error in failed.items())
    else:
        names = ", ".join(failed)
        message = (
            f"QuickBooks: {len(failed)} of {number} connections were not refreshed: {names}. "
            "The log has the reason of each."
        )
    if any(isinstance(error, RetryLater) for error in errors):
        return RetryLater(message)
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else StopRun
    return kind(message) if issubclass(kind, StopRun) else StopRun(message)


def refresh_token(conn_id: str) -> dict[str, Any]:
    """Refresh one connection, as 0.1.0's DAG file asks for it; to drop in 0.3."""
    (refreshed,) = refresh_tokens([conn_id])
    return refreshed


@values_withheld()
def report(refreshed: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the ``GROUP`` connections whose refresh token ends first.

    ``refreshed`` has the result of each task: a list, or one connection's result from 0.1.0.
    """
    lists = [each if isinstance(each, list) else [each] for each in refreshed]
    connections = [connection for each in lists for connection in each]
    log.info("tokens_refreshed", number=len(connections))
    if len(lists) == len(connection_groups()):  # a task that failed has no result
        with closing(Database(database_url(), connections=2)) as database:
            run_succeeded(database, "refresh_quickbooks_tokens")
    return heapq.nsmallest(GROUP, connections, key=lambda each: each["refresh_token_ends"] or "~")


def warn_before_end(database: Database, conn_id: str, token: TokenPair, *, now: datetime) -> None:
    """Raise an alert within two weeks of the rolling or the hard expiry; end it otherwise."""
    cause = f"refresh_token_ending:{conn_id}"
    ends = [end for end in (token.refresh_expires_at, token.hard_expires_at) if end is not None]
    if ends and min(ends) - now < WARN_BEFORE:
        message = (
            f"{conn_id}: QuickBooks ends this connection on {min(ends).date().isoformat()}; "
            "run `ml-connector connect quickbooks` before that"
        )
        raise_alert(database, cause=cause, message=message)
    else:
        end_alert(database, cause=cause)


def _shown(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
