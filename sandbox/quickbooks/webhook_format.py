"""Webhooks as Intuit writes and signs them.

CloudEvents in a top-level array (all apps since 2026), or the older ``eventNotifications`` object.
https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks
"""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

SOURCE = "intuit.c2FuZGJveC1jbGllbnQ="
CONTENT_TYPES = {
    "cloudevents": "application/cloudevents+json",
    "legacy": "application/json; charset=utf-8",
}
_LEGACY_OPERATIONS = {
    "created": "Create",
    "updated": "Update",
    "deleted": "Delete",
    "merged": "Merge",
}


@dataclass(frozen=True)
class Notice:
    """One event of one customer; ``id`` stays the same however often it is sent."""

    id: str
    operation: str
    customer: str
    at: float
    deleted_id: str | None = None
    repeats: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Describe the event for the control API."""
        described = {"id": self.id, "operation": self.operation, "customer": self.customer}
        return described | ({"deleted_id": self.deleted_id} if self.deleted_id else {})


def signature(body: bytes, verifier_token: str) -> str:
    """Return the ``intuit-signature`` of a body: base64 of its HMAC-SHA256."""
    return base64.b64encode(hmac.digest(verifier_token.encode(), body, "sha256")).decode()


def time_text(seconds: float) -> str:
    """Write an instant as webhooks do: ``2025-09-08T20:52:31.657Z``."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def render(notices: Sequence[Notice], *, kind: str, realm: str) -> bytes:
    """Return the body that reports these events of one company, as "cloudevents" or "legacy"."""
    if kind == "cloudevents":
        return msgspec.json.encode([_cloud_event(each, realm) for each in notices])
    entities = [_entity(each) for each in notices]
    notification = {"realmId": realm, "dataChangeEvent": {"entities": entities}}
    return msgspec.json.encode({"eventNotifications": [notification]})


def _cloud_event(notice: Notice, realm: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": notice.id,
        "source": SOURCE,
        "type": f"qbo.customer.{notice.operation}.v1",
        "datacontenttype": "application/json",
        "time": time_text(notice.at),
        "intuitentityid": notice.customer,
        "intuitaccountid": realm,
        "data": {} if notice.deleted_id is None else {"deletedid": notice.deleted_id},
    }


def _entity(notice: Notice) -> dict[str, Any]:
    entity = {
        "name": "Customer",
        "id": notice.customer,
        "operation": _LEGACY_OPERATIONS[notice.operation],
        "lastUpdated": time_text(notice.at),
    }
    return entity | ({} if notice.deleted_id is None else {"deletedId": notice.deleted_id})
