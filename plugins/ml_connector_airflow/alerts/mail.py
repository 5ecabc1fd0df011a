"""Send a mail with a plain and an HTML part. Airflow's hook sends HTML alone."""

from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.smtp.hooks.smtp import SmtpHook


def mail_hook(conn_id: str, plain: str) -> "SmtpHook":
    """Return the hook of a connection that adds ``plain`` to the mails it sends.

    Raises ``ImportError`` if the extra ``smtp`` is not installed.
    """
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    class PlainAndHtml(SmtpHook):
        def _build_mime_message(self, *args: Any, **kwargs: Any) -> tuple[MIMEMultipart, list[str]]:
            kwargs["mime_subtype"] = "alternative"
            message, recipients = super()._build_mime_message(*args, **kwargs)
            parts: Any = message.get_payload()
            message.set_payload([MIMEText(plain, "plain", "utf-8"), *parts])  # the best part last
            return message, recipients

    return PlainAndHtml(smtp_conn_id=conn_id)
