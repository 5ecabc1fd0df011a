"""Interpret Mailchimp's refusals: the only place that knows its status codes and messages.

https://mailchimp.com/developer/marketing/docs/errors/
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_connector.errors import (
    CallRefused,
    ConnectorError,
    CredentialsError,
    NeedsReauth,
    RateLimited,
    RecordRefused,
    SettingsError,
    Unavailable,
)
from ml_connector.wire.formats import impersonal, plain_text, retry_after
from ml_connector.wire.transport import Response

# Mailchimp's messages about one contact, with our code and our words. The first match counts.
MAX_WORDS = 1_000
"""Characters of a message that are searched for a limit."""
CONTACT_LIMIT = "contact_limit"
# The wording is not documented: plan and limit next to contacts.
_LIMITS = re.compile(
    r"\b(?:contact|member|subscriber|audience|plan)s?\b[^.]{0,40}"
    r"\b(?:limits?|maximum|quota)\b(?! (?:length|size|number of characters)\b)"
    r"|\b(?:limits?|maximum|quota)\b[^.]{0,40}\b(?:contact|member|subscriber|plan)s?\b"
    r"|\b(?:upgrade|exceeds?|over) (?:your|the) (?:current )?plan\b"
)
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    ("compliance", "in a compliance state", "opted out, bounced or under review"),
    ("forgotten", "permanently deleted", "permanently deleted; may not be imported again"),
    ("forgotten", "forgotten email", "permanently deleted; may not be imported again"),
    ("signup_throttled", "signed up to a lot of lists", "signed up to many lists lately"),
    ("fake_email", "looks fake or invalid", "Mailchimp rejected the address as fake or invalid"),
    ("member_exists", "already a list member", "already in the audience"),
    ("member_exists", "already in this list", "already in the audience"),
    ("invalid_email", "valid email address", "not an address Mailchimp accepts"),
    ("invalid_email", "must contain a single @", "not an address Mailchimp accepts"),
    ("invalid_email", "of the email address", "not an address Mailchimp accepts"),
)


def error_of(
    response: Response, document: Mapping[str, Any] | None, request_id: str | None
) -> ConnectorError:
    """Return the error that a response other than 2xx means."""
    return (
        _refused_access(response.status, document, request_id)
        or _come_back(response, document, request_id)
        or _refused(response.status, document, request_id)
    )


def _refused_access(
    status: int, document: Mapping[str, Any] | None, request_id: str | None
) -> ConnectorError | None:
    # A wrong data centre gives the same 401 as a wrong key: the account is unknown there.
    # https://mailchimp.com/developer/marketing/docs/errors/
    if status == 401:
        return NeedsReauth(
            "Mailchimp does not accept this token or key (401); run `ml-connector connect"
            " mailchimp`, or check the connection's password (the whole API key) and its host: the"
            " data centre there must be the one the key ends in",
            system="mailchimp",
            request_id=request_id,
        )
    if status == 403 and document is not None:
        words = impersonal(plain_text(document.get("detail") or document.get("title")))
        if classify_row_error(words) == CONTACT_LIMIT:
            return CallRefused(
                f"Mailchimp refused: {words}", code=CONTACT_LIMIT, request_id=request_id
            )
        return CredentialsError(
            f"Mailchimp refuses this account or key (403): {words.rstrip('.')}. Check in Mailchimp that the"
            " account is active and that the key's user may manage the audience",
            request_id=request_id,
        )
    return None


def _come_back(
    response: Response, document: Mapping[str, Any] | None, request_id: str | None
) -> ConnectorError | None:
    # Neither 429 nor blocks at the edge must carry JSON, so the status alone decides.
    # https://mailchimp.com/developer/marketing/docs/fundamentals/#api-limits
    status, asked = response.status, retry_after(response.headers)
    if status == 429:
        return RateLimited(
            "Mailchimp: too many requests at once (429; 10 connections per user)",
            request_id=request_id,
            retry_after=asked,
        )
    if status in {403, 503} and document is None:
        reference = re.search(rb"Reference(?:\s|&#32;)*(?:#|&#35;)\s*([0-9a-f.]+)", response.body)
        named = f", reference {reference[1].decode()}" if reference else ""
        return RateLimited(
            f"Mailchimp: this network is blocked at the edge ({status}{named})",
            request_id=request_id,
            retry_after=asked,
        )
    if status >= 500 or status == 408:
        return Unavailable(
            f"Mailchimp: out of order ({status})", request_id=request_id, retry_after=asked
        )
    return None


def _refused(
    status: int, document: Mapping[str, Any] | None, request_id: str | None
) -> ConnectorError:
    if document is None:
        return SettingsError(
            f"Mailchimp: no server responds at this address ({status}); check that the connection's"
            " host is the API's base URL and ends in /3.0",
            request_id=request_id,
        )
    if status == 404:
        return RecordRefused("Mailchimp: not found", code="not_found", request_id=request_id)
    title, detail = plain_text(document.get("title")), plain_text(document.get("detail"))
    if status == 405:
        return RecordRefused(
            f"Mailchimp: {impersonal(detail)}", code="method_not_allowed", request_id=request_id
        )
    errors = document.get("errors")
    fields = [
        (plain_text(error.get("field")), plain_text(error.get("message")))
        for error in (errors if isinstance(errors, list) else ())
        if isinstance(error, Mapping)
    ]
    words = f"{title} {detail} {' '.join(said for _, said in fields)}"
    code = classify_row_error(words)
    message = f"Mailchimp refused: {explained(code, detail or title, fields)}"
    if status == 400 and code not in ("invalid", CONTACT_LIMIT):
        return RecordRefused(message, code=code, request_id=request_id)
    return CallRefused(message, code=code, request_id=request_id)


def classify_row_error(error: str, error_code: str = "", field: str = "") -> str:
    """Return our code for Mailchimp's message about one contact.

    ``contact_limit``, ``compliance``, ``forgotten``, ``signup_throttled``, ``fake_email``, ``member_exists``,
    ``invalid_email``, ``merge_fields``, or ``invalid`` for anything else.
    """
    # An address may read like anything: contact@limitless.org is no limit of contacts.
    words = impersonal(error).lower()
    for code, phrase, _ in _REFUSALS:
        if phrase in words:
            return code
    if error_code == "ERROR_CONTACT_EXISTS":
        return "member_exists"
    of_a_field = bool(field) or "merge field" in words
    if not of_a_field and _LIMITS.search(words[:MAX_WORDS]):
        return CONTACT_LIMIT
    if field.lower() in {"email", "email_address", "email address"}:
        return "invalid_email"
    return "merge_fields" if of_a_field else "invalid"


def explained(code: str, words: str, fields: Sequence[tuple[str, str]], email: str = "") -> str:
    """Return a refusal in our words if we have a code for it, else in Mailchimp's."""
    for known, _, meaning in _REFUSALS:
        if code == known:
            return meaning
    named = "; ".join(f"{name}: {said}" if name else said for name, said in fields)
    return impersonal(f"{words} ({named})" if named else words, email)
