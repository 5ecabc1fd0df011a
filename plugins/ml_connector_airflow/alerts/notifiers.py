"""Recipients of alerts and digests: those of syncs.yaml, as Airflow's own notifiers."""

from html import escape
from importlib.util import find_spec
from smtplib import SMTPException
from typing import Any

import requests
from airflow.providers.http.notifications.http import HttpNotifier
from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

from ml_connector.alerts.causes import PendingAlert
from ml_connector.alerts.digest import Digest
from ml_connector.alerts.digest_texts import (
    digest_subject,
    html_digest,
    json_digest,
    plain_digest,
    slack_digest,
    teams_digest,
    teams_text,
)
from ml_connector.alerts.texts import kind_of, message, subject
from ml_connector.errors import SettingsError
from ml_connector.settings import Alerts, Recipient
from ml_connector_airflow.alerts.mail import mail_hook

TIMEOUT = 10
"""Seconds to wait for a response; a task is blocked meanwhile."""


def _errors_of_slack() -> tuple[type[Exception], ...]:
    try:
        from slack_sdk.errors import SlackClientError
    except ImportError:  # the extra [slack]
        return ()
    return (SlackClientError,)


NOT_SENT: tuple[type[Exception], ...] = (
    requests.RequestException,
    AirflowException,
    AirflowRuntimeError,
    SMTPException,
    OSError,
    ImportError,  # the recipient's extra is not installed
    *_errors_of_slack(),
    ValueError,  # an SMTP connection without a sender, a Slack connection without a token
)
"""Errors of a notifier that did not reach its recipient."""


def send(alert: PendingAlert, recipient: Recipient, settings: Alerts) -> None:
    """Send an alert to one recipient. Raises one of ``NOT_SENT`` if it was not accepted."""
    # Not notifier(...): that logs a failure with the connection's address and swallows it.
    _notifier(alert, recipient, message(alert, runbook=settings.runbook)).notify({})


def require_packages(settings: Alerts) -> str:
    """Return the recipients. Raises ``SettingsError`` if one needs an extra that is not installed."""
    for recipient in settings.recipients:
        kind = recipient.name.partition(":")[0]
        if kind not in ("webhook", "teams") and not find_spec(f"airflow.providers.{kind}"):
            raise SettingsError(
                f"alerts to {recipient.name} need a package: pip install 'ml-connector[{kind}]'"
            )
    return ", ".join(recipient.name for recipient in settings.recipients)


def _notifier(alert: PendingAlert, recipient: Recipient, text: str) -> BaseNotifier:
    if recipient.slack:
        return _slack(recipient.slack, f"*{subject(alert)}*\n{text}")
    if recipient.smtp:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        return SmtpNotifier(
            smtp_conn_id=recipient.smtp,
            to=list(recipient.to),
            subject=subject(alert),
            html_content=f"<pre>{escape(text)}</pre>",
        )
    if recipient.teams:
        return _post(recipient.teams, teams_text(subject(alert), text))
    return _post(
        recipient.webhook,
        {
            "state": alert.state,
            "cause": alert.cause,
            "kind": kind_of(alert.cause),
            "message": alert.message if alert.state == "raised" else f"{alert.cause} is over",
            "text": text,
            "link": alert.link,
        },
    )


def send_digest_to(digest: Digest, recipient: Recipient) -> None:
    """Send a digest to one recipient. Raises one of ``NOT_SENT`` if it was not accepted."""
    if recipient.smtp:
        plain, html = plain_digest(digest), html_digest(digest)
        with mail_hook(recipient.smtp, plain) as smtp:
            smtp.send_email_smtp(
                to=list(recipient.to), subject=digest_subject(digest), html_content=html
            )
    elif recipient.slack:
        _slack(recipient.slack, slack_digest(digest)).notify({})
    elif recipient.teams:
        _post(recipient.teams, teams_digest(digest)).notify({})
    else:
        _post(recipient.webhook, json_digest(digest)).notify({})


def _slack(conn_id: str, text: str) -> BaseNotifier:
    from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

    return SlackWebhookNotifier(slack_webhook_conn_id=conn_id, text=text, timeout=TIMEOUT)


def _post(conn_id: str, document: dict[str, Any]) -> BaseNotifier:
    return HttpNotifier(http_conn_id=conn_id, json=document, extra_options={"timeout": TIMEOUT})
