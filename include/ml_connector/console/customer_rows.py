"""A customer as one row for other programs: JSON objects and CSV cells."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ml_connector.console import words
from ml_connector.console.queries.customer_list import CustomerEntry
from ml_connector.settings import Sync

_PHONES = ("PrimaryPhone.FreeFormNumber", "Mobile.FreeFormNumber", "AlternatePhone.FreeFormNumber")
SHEET = (
    "customer id", "name", "email", "phone", "status", "status since", "engagement",
    "last opened or clicked", "decision", "reason", "reason in words", "in QuickBooks",
    "changed in QuickBooks", "shown as customer", "retry at",
)  # fmt: skip
"""The head of a CSV file."""


def row_of(entry: CustomerEntry) -> dict[str, Any]:
    """Return a customer as a JSON object."""
    return {
        "id": entry.customer_id,
        "name": entry.customer.display_name,
        "email": entry.email or None,
        "status": entry.status,
        "status_since": iso_time(entry.since),
        "engagement": entry.engagement,
        "last_engaged_at": iso_time(entry.engaged_at),
        "decision": entry.decision,
        "reason": entry.reason,
        "in_quickbooks": "gone" if entry.gone else "active" if entry.active else "inactive",
        "changed_at": iso_time(entry.changed_at),
        "linked_to": entry.linked_to,
        "retry_at": iso_time(entry.retry_at),
    }


def row_with_phone(entry: CustomerEntry, sync: Sync) -> dict[str, Any]:
    """Return a customer as ``row_of`` does, with the phone number."""
    return {**row_of(entry), "phone": phone_of(entry, sync) or None}


def phone_of(entry: CustomerEntry, sync: Sync) -> str:
    """Return the phone number by the first merge field that maps one; no other is stored."""
    return next(
        (
            str(value)
            for path in _PHONES
            for tag, sources in sync.fields.items()
            if path in sources and (value := entry.customer.merge_fields.get(tag))
        ),
        "",
    )


def cells_of(entry: CustomerEntry, sync: Sync) -> list[object]:
    """Return the cells of a customer's line, in the order of ``SHEET``."""
    row = row_of(entry)
    labels = (
        words.STATUS.get(entry.status or "", entry.status or ""),
        row["status_since"],
        words.ENGAGEMENT.get(row["engagement"] or "", row["engagement"]),
        row["last_engaged_at"],
        words.DECISION[entry.decision or "none"],
    )
    return [
        *(entry.customer_id, row["name"], row["email"], phone_of(entry, sync), *labels),
        *(entry.reason, words.reason(entry.reason) if entry.reason else ""),
        words.CHOICE["quickbooks"][row["in_quickbooks"]],
        *(row["changed_at"], entry.linked_to, row["retry_at"]),
    ]


def iter_cells(entries: Iterator[CustomerEntry], sync: Sync) -> Iterator[list[object]]:
    """Yield the cells of each customer."""
    return (cells_of(entry, sync) for entry in entries)


def iso_time(time: datetime | None) -> str | None:
    """Return a time in ISO 8601, to the second."""
    return time.isoformat(timespec="seconds") if time else None
