"""Map merge fields to QuickBooks attributes: ranked rules, as data.

A rule is a merge field and a list of attribute paths (``PrimaryPhone.FreeFormNumber``). The first
path with a value wins. A path to an address gives a complete Mailchimp address or none, because
Mailchimp refuses partial ones (behaviour A25).
"""

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import pycountry

from ml_connector.model import Customer, MergeValue
from ml_connector.rules.addresses import split_addresses

TEXT_BYTES = 255
"""Mailchimp cuts text merge fields at 255 bytes. The connector cuts first, between characters."""

BYTES_A_CHARACTER = 4
"""The maximum in UTF-8 (RFC 3629)."""

INACTIVE_SUFFIX = " (deleted)"
"""QuickBooks appends this to the names of an inactive customer. It is never sent on."""

FieldRules = Mapping[str, tuple[str, ...]]


def customer_from(
    raw: Mapping[str, Any],
    rules: FieldRules,
    *,
    tags: tuple[str, ...] | None = None,
    left_out: str | None = None,
) -> Customer:
    """Return the customer in a QuickBooks API object (query row, CDC row or webhook read)."""
    addresses = split_addresses(_string(picked(raw, "PrimaryEmailAddr.Address")))
    active = bool(raw.get("Active", True))
    return Customer(
        id=str(raw["Id"]),
        sync_token=str(raw.get("SyncToken", "0")),
        active=active,
        is_job=bool(raw.get("Job", False)),
        is_project=bool(raw.get("IsProject", False)),
        last_updated=datetime.fromisoformat(raw["MetaData"]["LastUpdatedTime"]),
        display_name=_without_suffix(_printable(_string(raw.get("DisplayName"))), active=active),
        addresses=addresses.valid,
        email_problem=addresses.problem,
        email_detail=addresses.detail,
        merge_fields=merge_fields(raw, rules),
        notes=_string(raw.get("Notes")),
        tags=tags,
        left_out=left_out,
    )


def merge_fields(raw: Mapping[str, Any], rules: FieldRules) -> dict[str, MergeValue]:
    """Return a value for every merge field in ``rules``; ``""`` if QuickBooks has none."""
    active = bool(raw.get("Active", True))
    return {tag: _first(raw, paths, active) for tag, paths in rules.items()}


def _first(raw: Mapping[str, Any], paths: tuple[str, ...], active: bool) -> MergeValue:
    for path in paths:
        found = picked(raw, path)
        if found is None:
            continue
        value = _address(found) if isinstance(found, dict) else _text(found, active=active)
        if value:
            return value
    return ""


def picked(raw: Mapping[str, Any], path: str) -> Any:
    """Return the value at a path into a QuickBooks customer; None if there is none."""
    value: Any = raw
    for part in _parts(path):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


@lru_cache(maxsize=1024)
def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def _text(value: object, *, active: bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = _without_suffix(_printable(_string(value)).strip(), active=active)
    if len(text) * BYTES_A_CHARACTER <= TEXT_BYTES:
        return text
    return text.encode()[:TEXT_BYTES].decode(errors="ignore")


def _string(value: object) -> str:
    """Return a value as text; ``""`` for a list or an object, which has no text of its own."""
    return "" if value is None or isinstance(value, Mapping | list) else str(value)


def _printable(text: str) -> str:
    """Return text without control characters; line ends and tabs become blanks."""
    if text.isprintable():
        return text
    return "".join(
        " " if each in "\t\n\r" else each
        for each in text
        if each in "\t\n\r" or unicodedata.category(each) not in ("Cc", "Cs")
    )


def _without_suffix(text: str, *, active: bool) -> str:
    return text if active else text.removesuffix(INACTIVE_SUFFIX)


def _address(parts: Mapping[str, Any]) -> dict[str, str] | None:
    """Return a Mailchimp address; None if it is partial or its country is unknown."""
    whole = {name: _part(parts, ours) for name, ours in _WHOLE.items()}
    if not all(whole.values()):
        return None
    rest = [line for name in _FURTHER_LINES if name in parts and (line := _part(parts, name))]
    if rest:
        whole["addr2"] = ", ".join(rest)
    written = _part(parts, "Country")
    if written:
        country = _country_code(written)
        if country is None:
            return None
        whole["country"] = country
    return whole


_WHOLE = {
    "addr1": "Line1",
    "city": "City",
    "state": "CountrySubDivisionCode",
    "zip": "PostalCode",
}
_FURTHER_LINES = ("Line2", "Line3", "Line4", "Line5")


def _part(parts: Mapping[str, Any], name: str) -> str:
    return _printable(_string(parts.get(name))).strip()


@lru_cache(maxsize=512)
def _country_code(written: str) -> str | None:
    """Return the ISO 3166-1 alpha-2 code of a country as people write it; None if unknown."""
    try:
        found = pycountry.countries.lookup({"UK": "GB"}.get(written.upper(), written))
    except LookupError:
        return None
    return str(found.alpha_2)
