"""Write the activity block on QuickBooks customers: batch items, the call, our attached notes.

The activity writer and the erasure share this module, so a customer's Notes are written one way.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ml_connector.errors import ConnectorError
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.protocol import BatchItem
from ml_connector.rules.notes_block import Markers
from ml_connector.scope import Scope

_ACTIONS = {("Customer", "update"): "write_notes", ("Attachable", "delete"): "remove_note"}

Result = dict[str, Any] | ConnectorError | None
"""The object as written, the item's error, or None if the response omits the item."""


def markers_of(scope: Scope, customer_id: str) -> Markers:
    """Return the marker lines of one customer's block."""
    code = scope.vault.fields_hash(["activity", scope.name, customer_id])[:3].hex()
    return Markers(scope.name, code)


def action_of(item: BatchItem) -> str:
    """Return a write's audit action: ``write_notes``, ``attach_note`` or ``remove_note``."""
    return _ACTIONS.get((item.entity, item.operation), "attach_note")


def notes_item(customer_id: str, sync_token: str, notes: str) -> BatchItem:
    """Return the sparse update that sets a customer's Notes."""
    payload = {"Id": customer_id, "SyncToken": sync_token, "sparse": True, "Notes": notes}
    return BatchItem(b_id="", payload=payload)


def attach_item(customer_id: str, note: str, *, attachment: tuple[str, str]) -> BatchItem:
    """Return the write of an attached note.

    ``attachment`` is its id and SyncToken, both empty for a new note.
    """
    target = {"EntityRef": {"type": "Customer", "value": customer_id}}
    payload = {"Note": note, "AttachableRef": [target], **_named(attachment)}
    operation = "update" if attachment[0] else "create"
    return BatchItem(b_id="", payload=payload, operation=operation, entity="Attachable")


def detach_item(attachment: tuple[str, str]) -> BatchItem:
    """Return the deletion of an attached note, given its id and SyncToken."""
    payload = _named(attachment)
    return BatchItem(b_id="", payload=payload, operation="delete", entity="Attachable")


def iter_attached(
    client: QuickBooksClient, customer_id: str, markers: Markers
) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield a customer's attached notes that start with our marker: id and SyncToken, and the text."""
    for row in client.notes_of(customer_id):
        text = str(row.get("Note", ""))
        if text.startswith(markers.first):
            yield (str(row["Id"]), str(row["SyncToken"])), text


def write_items(
    client: QuickBooksClient, items: Sequence[BatchItem], *, operation_id: str
) -> tuple[list[tuple[BatchItem, Result]], str | None]:
    """Send ``items`` as one batch; return each with its result, and the request id.

    Passes on the errors of the batch call. The outcome of a single item is in its result.
    """
    named = [replace(item, b_id=str(n)) for n, item in enumerate(items)]
    answer = client.write_batch(named, operation_id=operation_id)
    return [(item, answer.results.get(item.b_id)) for item in named], answer.request_id


def _named(attachment: tuple[str, str]) -> Mapping[str, str]:
    found, token = attachment
    return {"Id": found, "SyncToken": token} if found else {}
