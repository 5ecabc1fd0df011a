"""The body of a webhook: a form with bracketed keys, as PHP's `http_build_query` writes it.

https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from sandbox.mailchimp.changes import Change
from sandbox.mailchimp.members import Member


def encode(change: Change) -> bytes:
    """Encode the form that reports the change; `fired_at` is UTC without saying so."""
    fired_at = datetime.fromtimestamp(change.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    document = {"type": change.type, "fired_at": fired_at, "data": _data(change)}
    return urlencode(list(_flat(document))).encode("ascii")


def _data(change: Change) -> dict[str, Any]:
    member, details = change.member, change.details
    if member is None:
        return details | {"list_id": change.list_id}
    match change.type:
        case "upemail":
            return {
                "list_id": change.list_id,
                "new_id": member.unique_email_id,
                "new_email": member.email_address,
                "old_email": details["old_email"],
            }
        case "cleaned":
            return details | {"list_id": change.list_id, "email": member.email_address}
        case "unsubscribe":
            return details | _person(change, member)
        case _:
            return _person(change, member) | {"ip_signup": member.ip_signup}


def _person(change: Change, member: Member) -> dict[str, Any]:
    merges = change.merge_fields.render(member.merge_values)
    return {
        "id": member.unique_email_id,
        "web_id": member.web_id,
        "list_id": change.list_id,
        "email": member.email_address,
        "email_type": member.email_type,
        "ip_opt": member.ip_opt,
        "merges": {"EMAIL": member.email_address} | merges | {"INTERESTS": ""},
    }


def _flat(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        key = f"{prefix}[{name}]" if prefix else name
        if isinstance(value, dict):
            yield from _flat(value, key)
        else:
            yield key, str(value)
