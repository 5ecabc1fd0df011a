"""Token tasks: keep QuickBooks connected."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from ml_connector.errors import NeedsReauth
from ml_connector.quickbooks.tokens import TokenPair
from ml_connector.settings import quickbooks_connections
from ml_connector.store.database import Database
from ml_connector_airflow import metrics
from ml_connector_airflow.alerts.callbacks import run_succeeded
from ml_connector_airflow.alerts.delivery import end_alert, raise_alert
from ml_connector_airflow.hooks.quickbooks import QuickBooksHook
from ml_connector_airflow.wiring import database_url

WARN_BEFORE = timedelta(days=14)
log = structlog.get_logger(__name__)


def needs_reauth(conn_id: str) -> str:
    """Return the cause of the alert that a connection needs a new consent."""
    return f"needs_reauth:{conn_id}"


def refresh_token(conn_id: str) -> dict[str, Any]:
    """Refresh one connection's tokens; return expiry times and no token.

    Raises ``NeedsReauth``, after an alert, if QuickBooks refused the refresh token.
    """
    with closing(Database(database_url(), connections=3)) as database:
        try:
            token = QuickBooksHook(conn_id).token_manager(database).refresh()
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


def report(refreshed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Log one line: which connections were refreshed and when each refresh token expires."""
    log.info("tokens_refreshed", connections=refreshed)
    if len(refreshed) == len(quickbooks_connections()):
        with closing(Database(database_url(), connections=2)) as database:
            run_succeeded(database, "refresh_quickbooks_tokens")
    return refreshed


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
