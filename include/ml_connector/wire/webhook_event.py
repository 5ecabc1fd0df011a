"""The webhook event of both systems, as stored in the inbox. No I/O."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

State = Literal["pending", "ignored", "quarantined"]

MAX_EVENTS = 5000
"""Events per delivery. Intuit sends 100 at most."""

MAX_LEVELS = 20
"""Nesting levels of an event. Real ones have four."""

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,80}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """One verified event.

    Attributes:
        system: ``quickbooks`` or ``mailchimp``.
        source: Realm or audience; empty if the event does not name it.
        kind: ``customer.updated``; ``unsubscribe``.
        dedupe_key: Equal for every delivery of this event; contains no personal data.
        payload: The event as received, JSON-able; may hold personal data.
        sync: The sync it was addressed to; None means every sync of the realm.
        entity_id: QuickBooks' id; in a merge, the surviving customer's.
        deleted_id: The id that was merged away.
        occurred_at: By the sender's clock, if given.
        state: ``pending``, or the event's final state on receipt, with its ``reason``.
    """

    system: str
    source: str
    kind: str
    dedupe_key: str
    payload: Any
    sync: str | None = None
    entity_id: str | None = None
    deleted_id: str | None = None
    occurred_at: datetime | None = None
    state: State = "pending"
    reason: str | None = None


def unreadable(
    body: bytes | bytearray, *, system: str, reason: str, sync: str | None = None
) -> WebhookEvent:
    """Return a signed but unparsable delivery, stored whole for review."""
    return WebhookEvent(
        system=system,
        source="",
        kind="unreadable",
        dedupe_key=dedupe_key(system, sync, "body", hashlib.sha256(body).hexdigest()),
        payload={"body": bytes(body)},  # as base64 in JSON
        sync=sync,
        state="quarantined",
        reason=reason,
    )


def dedupe_key(*parts: object) -> str:
    """Return a key of fixed length: an index entry holds 2,700 bytes, a sender may send more."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def name_or_nothing(value: object) -> str:
    """Return ``value`` if it can be an id or a name, else ``""``."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def parse_event_time(value: object) -> datetime | None:
    """Return an ISO 8601 time, UTC if it names no zone; None if it is invalid or out of range."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if time is None or not 2000 < time.year < 2200:  # beyond what the driver reads back
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def is_shallow(value: Any, levels: int = MAX_LEVELS) -> bool:
    """Return whether ``value`` is nested at most ``levels`` deep."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(is_shallow(one, levels - 1) for one in inner)
