"""Alerts to people: the one place that decides who is told of what, and when.

An alert is recorded first. Each recipient is told once that it holds and once that it is over. One
that does not take it is tried again at the next alert, and by the watch of the token DAG at the
latest. What the alert is about goes on either way.
"""

import structlog
from airflow.sdk import get_current_context

from ml_connector.alerts import causes
from ml_connector.errors import ConnectorError
from ml_connector.settings import load_alerts
from ml_connector.store.database import Database

log = structlog.get_logger(__name__)


def raise_alert(database: Database, *, cause: str, message: str, link: str = "") -> None:
    """Tell people about ``cause`` unless they know already. ``message`` holds no secrets.

    ``link`` is the running task's own if none is given; a command has none.
    """
    link = link or _running_task()
    try:
        with database.begin() as connection:
            is_new = causes.raise_once(connection, cause=cause, message=message, link=link)
        if is_new:
            log.error("alert_raised", cause=cause, message=message)
        deliver_alerts(database)
    except ConnectorError as error:
        log.warning("alert_not_recorded", cause=cause, reason=str(error))


def end_alert(database: Database, *, cause: str) -> None:
    """Tell people that ``cause`` is over, if they had been told of it."""
    try:
        with database.begin() as connection:
            is_new = causes.end(connection, cause=cause)
        if is_new:
            log.info("alert_ended", cause=cause)
            deliver_alerts(database)
    except ConnectorError as error:
        log.warning("alert_not_recorded", cause=cause, reason=str(error))


def _running_task() -> str:
    try:
        instance = get_current_context()["ti"]
    except RuntimeError:  # not in a task
        return ""
    return str(getattr(instance, "log_url", "") or "")


def deliver_alerts(database: Database) -> None:
    """Tell every recipient what it does not know yet."""
    from ml_connector_airflow.alerts import notifiers  # three providers: loaded only to deliver

    settings = load_alerts()
    for recipient in settings.recipients:
        with database.begin() as connection:
            for alert in causes.untold(connection, recipient=recipient.name):
                try:
                    notifiers.send(alert, recipient, settings)
                except notifiers.NOT_SENT as error:
                    # Not the error's text: it may hold the webhook's address, which is a secret.
                    log.warning(
                        "alert_not_sent",
                        cause=alert.cause,
                        recipient=recipient.name,
                        reason=type(error).__name__,
                    )
                    break
                causes.mark_told(connection, alert, recipient=recipient.name)
