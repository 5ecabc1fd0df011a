"""The audit row of an archive, for those who make the call and those who find it made."""

from collections.abc import Mapping
from typing import Any

from ml_connector.audit.trail import Entry
from ml_connector.model import Kind, Status
from ml_connector.store.changes import Claimed, Unheard


def archive_entry(
    sync: str,
    change: Claimed | Unheard,
    *,
    outcome: str,
    before: Mapping[str, Any],
    status: Status = Status.ARCHIVED,
    error: str | None = None,
    request_id: str | None = None,
) -> Entry:
    """Return the row; ``before`` is the contact as it was, ``status`` what it has now."""
    return Entry(
        sync=sync,
        action=Kind.ARCHIVE,
        reason=change.reason,
        outcome=outcome,
        cause=f"change:{change.id}",
        customer_id=change.customer_id,
        email_key=change.email_key,
        error=error,
        attempts=change.attempts + 1,
        request_id=request_id,
        before=before,
        after={"status": status.value, "email": before.get("email")},
        origin=change.origin,
    )
