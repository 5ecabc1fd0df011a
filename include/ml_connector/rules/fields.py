"""Map merge fields to QuickBooks attributes: ranked rules, as data.

A rule is a merge field and a list of sources: attribute paths (``PrimaryPhone.FreeFormNumber``),
custom fields (``CustomField[Region]``) or templates. The first with a value that fits wins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from ml_connector.customer_paths import CUSTOM_FIELDS, custom_field, field_name
from ml_connector.model import Customer, MergeField, MergeValue
from ml_connector.rules.addresses import split_addresses
from ml_connector.rules.postal import postal_address
from ml_connector.rules.templates import filled
from ml_connector.rules.texts import as_text, printable
from ml_connector.rules.typed import fit
from ml_connector.rules.unfit import Unfit

TEXT_BYTES = 255
"""Mailchimp cuts text merge fields at 255 bytes. The connector cuts first, between characters."""

BYTES_A_CHARACTER = 4
"""The maximum in UTF-8 (RFC 3629)."""

INACTIVE_SUFFIX = " (deleted)"
"""QuickBooks appends this to the names of an inactive customer. It is never sent on."""

FieldRules = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Target:
    """What a value must fit.

    ``fields``: the audience's merge fields by tag; a missing field takes any text. ``home``: the
    country of an address that names none, as ISO 3166-1 alpha-2, ``""`` if unknown. ``groups``: by
    category, the ids of its groups by name in lower case.
    """

    fields: Mapping[str, MergeField] = field(default_factory=dict)
    home: str = ""
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


NONE: Mapping[str, Any] = {}
ANY = Target()
"""Takes every value: nothing is known of the audience."""


def customer_from(
    raw: Mapping[str, Any],
    rules: FieldRules,
    *,
    target: Target = ANY,
    tags: tuple[str, ...] | None = None,
    left_out: str | None = None,
    groups: Mapping[str, str | Unfit] = NONE,
    language: str | Unfit = "",
) -> Customer:
    """Return the customer in a QuickBooks API object (query row, CDC row or webhook read)."""
    addresses = split_addresses(as_text(picked(raw, "PrimaryEmailAddr.Address")))
    active = bool(raw.get("Active", True))
    values, unfit = merge_fields(raw, rules, target)
    if isinstance(language, Unfit):
        unfit["language"] = language.reason
    for title, found in groups.items():
        if isinstance(found, Unfit):
            unfit[f"group {title}"] = found.reason
    return Customer(
        id=str(raw["Id"]),
        sync_token=str(raw.get("SyncToken", "0")),
        active=active,
        is_job=bool(raw.get("Job", False)),
        is_project=bool(raw.get("IsProject", False)),
        last_updated=datetime.fromisoformat(raw["MetaData"]["LastUpdatedTime"]),
        display_name=_without_suffix(printable(as_text(raw.get("DisplayName"))), active=active),
        addresses=addresses.valid,
        email_problem=addresses.problem,
        email_detail=addresses.detail,
        merge_fields=values,
        unfit=unfit,
        notes=as_text(raw.get("Notes")),
        tags=tags,
        left_out=left_out,
        groups={title: found for title, found in groups.items() if isinstance(found, str)},
        language="" if isinstance(language, Unfit) else language,
    )


def merge_fields(
    raw: Mapping[str, Any], rules: FieldRules, target: Target = ANY
) -> tuple[dict[str, MergeValue], dict[str, str]]:
    """Return the value of each merge field in ``rules``, and the reason for each field without one.

    A value is ``""`` if QuickBooks has none, which clears the field. A field whose value does not
    fit is in the second part only: what the contact has there stays.
    """
    active = bool(raw.get("Active", True))
    values: dict[str, MergeValue] = {}
    unfit: dict[str, str] = {}
    for tag, paths in rules.items():
        found = _first(raw, paths, active, target.fields.get(tag), target.home)
        if isinstance(found, Unfit):
            unfit[tag] = found.reason
        else:
            values[tag] = found
    return values, unfit


def _first(
    raw: Mapping[str, Any],
    paths: tuple[str, ...],
    active: bool,
    field: MergeField | None,
    home: str,
) -> MergeValue | Unfit:
    unfit: Unfit | None = None
    for path in paths:
        found = text_of(raw, path, active=active) if "{" in path else picked(raw, path)
        if found is None:
            continue
        value = (
            postal_address(found, home)
            if isinstance(found, dict)
            else _fitted(_text(found, active=active), field)
        )
        if isinstance(value, Unfit):
            unfit = unfit or value
        elif value:
            return value
    return unfit or ""


def _fitted(text: str, field: MergeField | None) -> str | Unfit:
    return text if field is None else fit(text, field)


def picked(raw: Mapping[str, Any], path: str) -> Any:
    """Return the value at a path into a QuickBooks customer; None if there is none."""
    if "[" in path:
        return _custom(raw, custom_field(path).casefold())
    value: Any = raw
    for part in _parts(path):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


_VALUES = ("StringValue", "NumberValue", "DateValue", "BooleanValue")


def _custom(raw: Mapping[str, Any], name: str) -> Any:
    for each in raw.get(CUSTOM_FIELDS) or ():
        if field_name(each) == name:
            return next((each[key] for key in _VALUES if each.get(key) is not None), None)
    return None


def text_of(raw: Mapping[str, Any], source: str, *, active: bool) -> str:
    """Return what a path or a template gives as text; ``""`` if nothing."""
    if "{" not in source:
        return _text(picked(raw, source), active=active)
    return filled(source, lambda path: _text(picked(raw, path), active=active))


@lru_cache(maxsize=1024)
def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def _text(value: object, *, active: bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = _without_suffix(printable(as_text(value)).strip(), active=active)
    if len(text) * BYTES_A_CHARACTER <= TEXT_BYTES:
        return text
    return text.encode()[:TEXT_BYTES].decode(errors="ignore").rstrip()


def _without_suffix(text: str, *, active: bool) -> str:
    return text if active else text.removesuffix(INACTIVE_SUFFIX)
