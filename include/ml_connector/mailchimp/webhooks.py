"""Mailchimp's audience webhooks: verify a delivery and read its event. No I/O.

https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from ml_connector.wire.webhook_event import (
    State,
    WebhookEvent,
    dedupe_key,
    name_or_nothing,
    parse_event_time,
    unreadable,
)

SYSTEM = "mailchimp"
USED = frozenset({"subscribe", "unsubscribe", "profile", "cleaned", "upemail"})
NOT_USED = frozenset({"campaign", "sms_subscribe", "sms_unsubscribe", "upsms", "sms_campaign"})

UNREADABLE = ("unknown_format", "not_a_form")
"""Reasons to store a body as received; such an event names no member."""

OLDEST = 300.0
"""Seconds allowed between signing and arrival; also how far ahead the sender's clock may be."""

MAX_FIELDS = 1000
"""Fields of a form at most. An audience has at most 80 merge fields."""

_KEY = re.compile(r"([A-Za-z0-9_]{1,80})((?:\[[^\[\]]{0,80}\]){0,6})")
_PART = re.compile(r"\[([^\[\]]*)\]")
_DIGITS = re.compile(rb"\d{1,12}")


def secret_in(query: bytes) -> str:
    """Return ``secret`` of a query string; ``""`` if it has none."""
    try:
        fields = parse_qsl(query.decode("ascii", "replace"), max_num_fields=20)
    except ValueError:
        return ""
    return dict(fields).get("secret", "")


def secret_matches(given: str, secrets: Collection[str]) -> bool:
    """Return whether the URL's secret is one of ours; False if we have none."""
    return any(hmac.compare_digest(given.encode(), secret.encode()) for secret in secrets)


def signature(body: bytes | bytearray, secret: str, time: int) -> str:
    """Return the ``X-Mailchimp-Signature`` of a body sent at ``time`` (Unix seconds)."""
    return f"t={time},v1={_mac(body, secret, str(time).encode()).decode()}"


def signature_matches(
    body: bytes | bytearray, header: bytes, secrets: Collection[str], *, now: datetime
) -> bool:
    """Return whether one of ``secrets`` made ``t=..,v1=..`` of this body, within ``OLDEST``."""
    pairs = [part.strip().partition(b"=")[::2] for part in header.split(b",")[:10]]
    times = [value for name, value in pairs if name == b"t"]
    if len(times) != 1 or not _DIGITS.fullmatch(times[0]):
        return False
    if abs(now.timestamp() - int(times[0])) > OLDEST:
        return False
    marks = [value for name, value in pairs if name == b"v1"]
    rights = [_mac(body, secret, times[0]) for secret in secrets]
    return any(hmac.compare_digest(right, mark) for right in rights for mark in marks)


def _mac(body: bytes | bytearray, secret: str, time: bytes) -> bytes:
    mac = hmac.new(secret.encode(), time + b".", hashlib.sha256)
    mac.update(body)
    return mac.hexdigest().encode()


def read_event(
    body: bytes | bytearray,
    *,
    sync: str,
    audience_id: str,
    email_key: Callable[[str], bytes],
) -> WebhookEvent:
    """Return the event of a verified body, whatever its content.

    ``email_key`` pseudonymises addresses in the dedupe key.
    """
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="replace"
        )
        document = _nested(fields)
    except ValueError:  # not UTF-8, too many fields, or a key that contradicts another
        return unreadable(body, system=SYSTEM, reason="not_a_form", sync=sync)
    data = document.get("data")
    kind = name_or_nothing(document.get("type"))
    if not kind or not isinstance(data, dict):
        return unreadable(body, system=SYSTEM, reason="unknown_format", sync=sync)
    state: State = "pending"
    reason = None
    if data.get("list_id") != audience_id:
        state, reason = "quarantined", "unknown_audience"
    elif kind in NOT_USED:
        state, reason = "ignored", "type_not_used"
    elif kind not in USED:
        state, reason = "quarantined", "unknown_type"
    elif not any(data.get(name) for name in ("email", "new_email")):
        state, reason = "quarantined", "no_email"
    return WebhookEvent(
        system=SYSTEM,
        source=name_or_nothing(data.get("list_id")),
        kind=kind,
        dedupe_key=_dedupe_key(sync, kind, document, data, body, email_key),
        payload=document,
        sync=sync,
        occurred_at=parse_event_time(document.get("fired_at")),
        state=state,
        reason=reason,
    )


def _dedupe_key(
    sync: str,
    kind: str,
    document: dict[str, Any],
    data: dict[str, Any],
    body: bytes | bytearray,
    email_key: Callable[[str], bytes],
) -> str:
    """Return the dedupe key. Deliveries have no id: what, who and when identify an event."""
    fired = document.get("fired_at") or hashlib.sha256(body).hexdigest()
    who = data.get("id") or [
        email_key(str(data.get(name) or "").strip().lower()).hex()
        for name in ("email", "old_email", "new_email")
    ]
    return dedupe_key(SYSTEM, sync, kind, who, data.get("action"), data.get("list_id"), fired)


def _nested(fields: list[tuple[str, str]]) -> dict[str, Any]:
    """Return ``data[merges][FNAME]=Ada`` as nested dictionaries; the last of two values counts.

    Raises ``ValueError`` for a key of another form, and for a key that is both a value and a group.
    """
    document: dict[str, Any] = {}
    for key, value in fields:
        found = _KEY.fullmatch(key)
        if found is None:
            raise ValueError("a key that is no name with brackets")
        *path, last = [found[1], *_PART.findall(found[2])]
        group: Any = document
        for name in path:
            group = group.setdefault(name, {}) if isinstance(group, dict) else None
        if not isinstance(group, dict) or isinstance(group.get(last), dict):
            raise ValueError("a key that is both a value and a group")  # noqa: TRY004
        group[last] = value
    return document
