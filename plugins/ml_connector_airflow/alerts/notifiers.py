"""Alert recipients: those of syncs.yaml, as Airflow's own notifiers."""

from html import escape
from smtplib import SMTPException

import requests
from airflow.providers.http.notifications.http import HttpNotifier
from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError
from slack_sdk.errors import SlackClientError

from ml_connector.alerts.causes import PendingAlert
from ml_connector.alerts.texts import kind_of, message, subject
from ml_connector.settings import Alerts, Recipient

TIMEOUT = 10
"""Seconds to wait for a response; a task is blocked meanwhile."""

NOT_SENT = (
    requests.RequestException,
    AirflowException,
    AirflowRuntimeError,
    SlackClientError,
    SMTPException,
    OSError,
    ValueError,  # an SMTP connection without a sender, a Slack connection without a token
)
"""Errors of a notifier that did not reach its recipient."""


def send(alert: PendingAlert, recipient: Recipient, settings: Alerts) -> None:
    """Send an alert to one recipient. Raises one of ``NOT_SENT`` if it was not accepted."""
    # Not notifier(...): that logs a failure with the connection's address and swallows it.
    _notifier(alert, recipient, message(alert, runbook=settings.runbook)).notify({})


def _notifier(alert: PendingAlert, recipient: Recipient, text: str) -> BaseNotifier:
    if recipient.slack:
        return SlackWebhookNotifier(
            slack_webhook_conn_id=recipient.slack,
            text=f"*{subject(alert)}*\n{text}",
            timeout=TIMEOUT,
        )
    if recipient.smtp:
        return SmtpNotifier(
            smtp_conn_id=recipient.smtp,
            to=list(recipient.to),
            subject=subject(alert),
            html_content=f"<pre>{escape(text)}</pre>",
        )
    return HttpNotifier(
        http_conn_id=recipient.webhook,
        json={
            "state": alert.state,
            "cause": alert.cause,
            "kind": kind_of(alert.cause),
            "message": alert.message if alert.state == "raised" else f"{alert.cause} is over",
            "text": text,
            "link": alert.link,
        },
        extra_options={"timeout": TIMEOUT},
    )
