"""Alert texts: subject and message for each cause.

A cause is ``<kind>:<subject>``, the subject being a sync, a connection or a DAG. Texts contain no
personal data and no secrets, because they leave your systems.
"""

from ml_connector.alerts.causes import PendingAlert
from ml_connector.display import utc_minute

WHAT_TO_DO = {
    "task_failed": "Open the run, read the error, fix what it names, and clear the failed task.",
    "needs_reauth": "Press Connect on the console's Setup page, or run `ml-connector connect`.",
    "refresh_token_ending": "Run `ml-connector connect quickbooks` before that day.",
    "guard_waiting": "Approve or reject the plan in Airflow, under Required actions.",
    "dead_letters": "Look at the console's webhooks page, fix the reason, and queue them again.",
    "no_success": "Look whether the DAG is paused or its runs fail or wait.",
    "audit_broken": "Treat it as an incident: keep the database as it is and see who wrote to it.",
    "clock_skew": "Set the clock of the worker's machine by NTP. Runs read more meanwhile, never less.",
    "webhook_broken": "Run `ml-connector register-webhooks`, or set webhooks.repair.",
    "webhooks_silent": "Check that the vendor can reach the receiver.",
    "monthly_reads": "Check which runs use most reads. QuickBooks may refuse or bill further reads.",
    "contact_limit": "Archive contacts or take a larger plan; Mailchimp then refuses new contacts.",
    "storage_full": "Free space, or shorten the retention. A full disk stops every run.",
    "consent_raised": "Nothing is written until it is understood: compare the contact in Mailchimp.",
}
"""The action for each kind of alert. Each kind has a page in docs/runbook."""


def kind_of(cause: str) -> str:
    """Return the kind of a cause."""
    return cause.partition(":")[0]


def subject(alert: PendingAlert) -> str:
    """Return the subject line."""
    over = " is over" if alert.state == "ended" else ""
    return f"ml-connector: {alert.cause}{over}"


def message(alert: PendingAlert, *, runbook: str) -> str:
    """Return the message: the fact, its start, the action, and the links."""
    kind = kind_of(alert.cause)
    if alert.state == "ended":
        return f"{alert.cause} is over. It began at {utc_minute(alert.raised_at)}."
    lines = [
        alert.message,
        f"Since {utc_minute(alert.raised_at)}. {WHAT_TO_DO.get(kind, '')}".strip(),
        f"Runbook: {_page(runbook, kind)}",
    ]
    if alert.link:
        lines.append(f"Run: {alert.link}")
    return "\n".join(lines)


def _page(runbook: str, kind: str) -> str:
    """Return the runbook URL of a kind: its own page, or a section of a shared page."""
    return runbook.replace("{kind}", kind) if "{kind}" in runbook else f"{runbook}#{kind}"
