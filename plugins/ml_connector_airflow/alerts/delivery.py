"""Deliver alerts: the only place that decides who receives which alert, and when.

The connector records an alert first. Each recipient gets one message when it is raised and one when
it ends. A failed delivery is retried with the next alert, at the latest by the token DAG's watch.
The work that raised the alert continues either way.
"""

from collections.abc import Collection

import structlog
from airflow.sdk import get_current_context

from ml_connector.alerts import causes
from ml_connector.errors import ConnectorError
from ml_connector.settings import load_alerts
from ml_connector.store.database import Database

log = structlog.get_logger(__name__)


def raise_alert(database: Database, *, cause: str, message: str, link: str = "") -> None:
    """Raise an alert for ``cause`` unless it is already raised. ``message`` holds no secrets.

    ``link`` defaults to the running task's log; a command has none.
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
    """End the alert for ``cause`` and notify its recipients, if it is raised."""
    try:
        with database.begin() as connection:
            is_new = causes.end(connection, cause=cause)
        if is_new:
            log.info("alert_ended", cause=cause)
            deliver_alerts(database)
    except ConnectorError as error:
        log.warning("alert_not_recorded", cause=cause, reason=str(error))


def hold_alert(database: Database, *, cause: str, message: str | None) -> bool:
    """Raise the alert for ``cause`` if there is a message, else end it; return whether it holds."""
    if message:
        raise_alert(database, cause=cause, message=message)
    else:
        end_alert(database, cause=cause)
    return bool(message)


def end_others(database: Database, *, kind: str, known: Collection[str]) -> None:
    """End the alerts of a kind whose cause is no longer evaluated, as of a removed sync."""
    with database.begin() as connection:
        gone = causes.open_causes(connection, kind=kind) - set(known)
    for cause in sorted(gone):
        end_alert(database, cause=cause)


def _running_task() -> str:
    try:
        instance = get_current_context()["ti"]
    except RuntimeError:  # not in a task
        return ""
    return str(getattr(instance, "log_url", "") or "")


def deliver_alerts(database: Database) -> None:
    """Send every recipient the alerts it has not received yet."""
    from ml_connector_airflow.alerts import notifiers  # three providers: loaded only to deliver

    settings = load_alerts()
    for recipient in settings.recipients:
        with database.begin() as connection:
            for alert in causes.pending_for(connection, recipient=recipient.name):
                try:
                    notifiers.send(alert, recipient, settings)
                except notifiers.NOT_SENT as error:
                    # Not the error's text: it may contain the webhook's URL, which is a secret.
                    log.warning(
                        "alert_not_sent",
                        cause=alert.cause,
                        recipient=recipient.name,
                        reason=type(error).__name__,
                    )
                    break
                causes.mark_delivered(connection, alert, recipient=recipient.name)
