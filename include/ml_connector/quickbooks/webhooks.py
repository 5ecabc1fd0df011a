"""QuickBooks' webhooks: verify the signer of a delivery and read its events. No I/O.

Two formats: CloudEvents, an array (all apps since 2026), and ``eventNotifications``, an object.
https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks
"""

import base64
import hmac
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ml_connector.wire.webhook_event import (
    MAX_EVENTS,
    State,
    WebhookEvent,
    dedupe_key,
    is_shallow,
    name_or_nothing,
    parse_event_time,
    unreadable,
)

SYSTEM = "quickbooks"
ENTITY = "customer"

OPERATIONS = {
    "create": "created",
    "update": "updated",
    "delete": "deleted",
    "merge": "merged",
    "void": "void",
    "emailed": "emailed",
}
"""Operations of ``eventNotifications``, with their CloudEvents names."""

_TYPE = re.compile(r"qbo\.([a-z0-9]{1,40})\.([a-z]{1,20})\.v\d+")
_ID = re.compile(r"\d{1,20}")


def signature(body: bytes | bytearray, token: str) -> bytes:
    """Return the required ``intuit-signature``: base64 of the body's HMAC-SHA256.

    https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks/managing-webhooks-notifications
    """
    return base64.b64encode(hmac.digest(token.encode(), body, "sha256"))


def signers(body: bytes | bytearray, header: bytes, tokens: Iterable[str]) -> list[str]:
    """Return the verifier tokens that signed this body."""
    return [token for token in tokens if hmac.compare_digest(signature(body, token), header)]


def read_events(body: bytes | bytearray, *, realms: Collection[str]) -> list[WebhookEvent]:
    """Return the events of a signed body; none is lost, whatever its content.

    ``realms`` are those the signing token is valid for. Events of other realms are quarantined.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [unreadable(body, system=SYSTEM, reason="not_json")]
    if not is_shallow(document):
        return [unreadable(body, system=SYSTEM, reason="nested_too_deep")]
    if isinstance(document, list):
        events = [_from_cloud_event(one, realms) for one in document[: MAX_EVENTS + 1]]
    elif isinstance(document, dict) and isinstance(document.get("eventNotifications"), list):
        events = list(_from_notifications(document["eventNotifications"], realms))
    else:
        return [unreadable(body, system=SYSTEM, reason="unknown_format")]
    if len(events) > MAX_EVENTS:
        return [unreadable(body, system=SYSTEM, reason="too_many_events")]
    return events


def _from_cloud_event(raw: Any, realms: Collection[str]) -> WebhookEvent:
    # https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#required-attributes
    if not isinstance(raw, dict):
        return _quarantined(raw, "unknown_format")
    kind = _TYPE.fullmatch(str(raw.get("type")))
    if kind is None:
        return _quarantined(raw, "unknown_type")
    data = raw.get("data")
    # An id is unique within its source. Entity and realm are equal in every delivery of an event.
    names = [raw.get(key) for key in ("source", "type", "intuitaccountid", "intuitentityid")]
    return _event(
        raw,
        realms,
        realm=raw.get("intuitaccountid"),
        entity=kind[1],
        operation=kind[2],
        entity_id=raw.get("intuitentityid"),
        deleted_id=_deleted_id(data),
        time=raw.get("time"),
        key=dedupe_key(SYSTEM, "cloudevent", raw["id"], *names) if raw.get("id") else _whole(raw),
    )


def _from_notifications(
    notifications: Iterable[Any], realms: Collection[str]
) -> Iterator[WebhookEvent]:
    for notification in notifications:
        match notification:
            case {"realmId": realm, "dataChangeEvent": {"entities": [*entities]}}:
                for entity in entities:
                    yield _from_entity(realm, entity, realms)
            case _:
                yield _quarantined(notification, "unknown_format")


def _from_entity(realm: Any, raw: Any, realms: Collection[str]) -> WebhookEvent:
    kept = {"realmId": realm, "entity": raw}
    if not isinstance(raw, dict):
        return _quarantined(kept, "unknown_format")
    said = str(raw.get("operation")).lower()
    told = ("name", "id", "operation", "lastUpdated")
    return _event(
        kept,
        realms,
        realm=realm,
        entity=str(raw.get("name")).lower(),
        operation=OPERATIONS.get(said, said),
        entity_id=raw.get("id"),
        deleted_id=_deleted_id(raw),
        time=raw.get("lastUpdated"),
        key=dedupe_key(
            SYSTEM, "notification", realm, *(raw.get(name) for name in told), _deleted_id(raw)
        ),
    )


def _event(
    raw: Mapping[str, Any],
    realms: Collection[str],
    *,
    realm: object,
    entity: str,
    operation: str,
    entity_id: object,
    deleted_id: object,
    time: object,
    key: str,
) -> WebhookEvent:
    number = _number(entity_id)
    state: State = "pending"
    reason = None
    if str(realm) not in realms:
        state, reason = "quarantined", "unknown_realm"
    elif entity != ENTITY:
        state, reason = "ignored", "entity_not_used"
    elif number is None:
        state, reason = "quarantined", "no_id"
    return WebhookEvent(
        system=SYSTEM,
        source=name_or_nothing(str(realm)),
        kind=name_or_nothing(f"{entity}.{operation}") or "unknown",
        dedupe_key=key,
        payload=raw,
        entity_id=number,
        deleted_id=_number(deleted_id),
        occurred_at=parse_event_time(time),
        state=state,
        reason=reason,
    )


def _deleted_id(raw: object) -> object:
    """Return the merged customer's id, however its key is spelled: ``deletedid``, ``deletedID``."""
    if not isinstance(raw, dict):
        return None
    return next((raw[key] for key in raw if str(key).lower() == "deletedid"), None)


def _quarantined(raw: Any, reason: str) -> WebhookEvent:
    return WebhookEvent(
        system=SYSTEM,
        source="",
        kind="unknown",
        dedupe_key=_whole(raw),
        payload=raw,
        state="quarantined",
        reason=reason,
    )


def _whole(raw: Any) -> str:
    return dedupe_key(SYSTEM, "whole", raw)


def _number(value: object) -> str | None:
    text = str(value) if isinstance(value, str | int) else ""
    return text if _ID.fullmatch(text) and text.isascii() else None
