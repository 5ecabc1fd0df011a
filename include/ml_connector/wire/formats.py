"""Request and header formats that both systems share."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

MAX_RETRY_AFTER = 3_600.0
"""Seconds: a vendor's Retry-After counts for at most an hour."""

MAX_DEPTH = 64
"""A value nested deeper than this is cut off. Neither system nests deeper than 10."""

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]|[^"\[\]{}]++', re.DOTALL)
"""Strings, brackets and what is between them. Possessive: linear in the length of the body."""

_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WORD = re.compile(r"[^\s\"'<>(),:;]+")


def format_time(time: datetime) -> str:
    """Return an aware ``time`` as RFC 3339 in UTC with ``Z``, cut to the second.

    Never with an offset, because its plus sign gets lost in a query.
    """
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def response_time(headers: Mapping[str, str]) -> datetime | None:
    """Return the sender's clock from the Date header; None if it is missing or invalid.

    Resolution 1 s. https://www.rfc-editor.org/rfc/rfc9110#name-date
    """
    try:
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):
        return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return a Retry-After in seconds, at most an hour; None if missing, a date or invalid."""
    said = headers.get("retry-after", "")
    known = re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,20})?", said)
    return min(float(said), MAX_RETRY_AFTER) if known else None


def plain_text(value: object) -> str:
    """Return a text or a number without control characters; ``""`` for anything else.

    Postgres takes no NUL, neither in text nor in JSON.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = str(value)
    return text if text.isprintable() else _CONTROL.sub("", text)


def impersonal(text: str, email: str = "") -> str:
    """Return a vendor's message with every address replaced by "the address"."""
    if email:
        text = re.sub(re.escape(email), "the address", text, flags=re.IGNORECASE)
    # Word by word: one pattern for addresses would search long texts in quadratic time.
    return _WORD.sub(_without_address, text)


def _without_address(word: re.Match[str]) -> str:
    bare = word[0].rstrip(".")
    return f"the address{word[0][len(bare) :]}" if "@" in bare[1:-1] else word[0]


def decode_shaped(body: bytes, shape: Any) -> dict[str, Any] | None:
    """Return a response's JSON object if it has this shape, without what the shape does not name.

    None if it has another one. Half the price of a check after decoding.
    """
    try:
        document: dict[str, Any] = msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # ValidationError is one of the former
    return document


def decode_document(body: bytes) -> dict[str, Any] | None:
    """Return a response's JSON object; None if the body is no JSON object.

    Invalid UTF-8 and lone surrogates lose the characters concerned, so that one record's text never
    costs the page. A value nested too deep to decode is cut off, which makes its record unreadable
    if the value is read at all.
    """
    try:
        document = msgspec.json.decode(body)
    except RecursionError:
        return decode_document(_cut(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = _decode_leniently(body)
    return document if isinstance(document, dict) else None


def _decode_leniently(body: bytes) -> Any:
    try:
        document = json.loads(body.decode("utf-8", errors="ignore"))
        text = json.dumps(document, ensure_ascii=False)
    except ValueError:
        return None
    except RecursionError:
        return _decode_leniently(_cut(body))
    return json.loads(_LONE_SURROGATES.sub("", text))


def _cut(body: bytes) -> bytes:
    """Return JSON with every value nested deeper than ``MAX_DEPTH`` replaced by null."""
    kept: list[bytes] = []
    depth = 0
    for token in _TOKENS.finditer(body):
        piece = token[0]
        opens, closes = piece in (b"[", b"{"), piece in (b"]", b"}")
        if opens and depth == MAX_DEPTH:
            kept.append(b"null")
        depth += opens
        if depth <= MAX_DEPTH:
            kept.append(piece)
        depth = max(0, depth - closes)
    return b"".join(kept)
