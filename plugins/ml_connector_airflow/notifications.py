"""Alerts to people: in the log always, and to the webhook that syncs.yaml names.

An alert is recorded and sent in one transaction: if the webhook does not take it, it counts as not
sent and is tried again the next time its cause shows. What the alert is about goes on either way.
"""

import requests
import structlog
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk.exceptions import AirflowException

from ml_connector.settings import load_alerts
from ml_connector.store import alerts
from ml_connector.store.database import Database

_NOT_SENT = (requests.RequestException, AirflowException)
log = structlog.get_logger(__name__)


def raise_alert(database: Database, *, cause: str, message: str) -> None:
    """Tell people about ``cause`` unless they know already. ``message`` holds no secrets."""
    try:
        with database.begin() as connection:
            if alerts.raise_once(connection, cause=cause, message=message):
                log.error("alert_raised", cause=cause, message=message)
                _post({"state": "raised", "cause": cause, "message": message})
    except _NOT_SENT as error:
        log.warning("alert_not_sent", cause=cause, reason=type(error).__name__)


def end_alert(database: Database, *, cause: str) -> None:
    """Tell people that ``cause`` is over, if they had been told of it."""
    try:
        with database.begin() as connection:
            if alerts.end(connection, cause=cause):
                log.info("alert_ended", cause=cause)
                _post({"state": "ended", "cause": cause, "message": f"{cause} is over"})
    except _NOT_SENT as error:
        log.warning("alert_not_sent", cause=cause, reason=type(error).__name__)


def _post(alert: dict[str, str]) -> None:
    conn_id = load_alerts().webhook_conn_id
    if conn_id:
        HttpHook(method="POST", http_conn_id=conn_id).run(json=alert)
