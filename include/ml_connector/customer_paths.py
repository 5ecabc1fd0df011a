"""Allow-list of the customer attributes that may leave QuickBooks.

A source in the settings is a path (``BillAddr.City``), a custom field (``CustomField[Region]``) or
a template with such paths in braces (``"{GivenName} {FamilyName}"``). Money, tax and payment terms
are not on the list, so no setting can send them on, and decoding drops them before anything is
stored (behaviour A47). A custom field holds what you put there: do not map one with amounts.

The attributes of a customer:
https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/customer
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

_PHONE = frozenset({"FreeFormNumber"})
_REFERENCE = frozenset({"value", "name"})
_ADDRESS = frozenset(
    {
        *(f"Line{number}" for number in range(1, 6)),
        "City",
        "Country",
        "CountrySubDivisionCode",
        "PostalCode",
    }
)
_TEXT: frozenset[str] = frozenset()

PATHS: Mapping[str, frozenset[str]] = {
    "Id": _TEXT,
    "Active": _TEXT,
    "Job": _TEXT,
    "IsProject": _TEXT,
    "Level": _TEXT,
    "BillWithParent": _TEXT,
    "DisplayName": _TEXT,
    "FullyQualifiedName": _TEXT,
    "PrintOnCheckName": _TEXT,
    "Title": _TEXT,
    "GivenName": _TEXT,
    "MiddleName": _TEXT,
    "FamilyName": _TEXT,
    "Suffix": _TEXT,
    "CompanyName": _TEXT,
    "Notes": _TEXT,
    "PreferredDeliveryMethod": _TEXT,
    "Locale": _TEXT,
    "PrimaryEmailAddr": frozenset({"Address"}),
    "PrimaryPhone": _PHONE,
    "AlternatePhone": _PHONE,
    "Mobile": _PHONE,
    "Fax": _PHONE,
    "WebAddr": frozenset({"URI"}),
    "BillAddr": _ADDRESS,
    "ShipAddr": _ADDRESS,
    "ParentRef": _REFERENCE,
    "CustomerTypeRef": frozenset({"value"}),  # QuickBooks gives no name with it
    "CurrencyRef": _REFERENCE,
    "MetaData": frozenset({"CreateTime", "LastUpdatedTime"}),
}
"""Attributes that settings may name, each with its own parts."""

ADDRESSES = frozenset({"BillAddr", "ShipAddr"})
"""Attributes that fill a merge field as a whole."""

REFERENCES = frozenset({"CustomerTypeRef", "CurrencyRef"})
"""Attributes that stand for the customer's type and currency in tags and groups."""

ATTRIBUTES = frozenset({*PATHS, "SyncToken", "status"})
"""Attributes that are decoded: those, and two that only the connector itself uses."""


CUSTOM_FIELDS = "CustomField"
"""The attribute with a customer's custom fields. Only those that the settings name are decoded."""

_CUSTOM = re.compile(r"CustomField\[(.+)\]")
_PLACE = re.compile(r"\{([^{}]*)\}")


def check_source(source: str, wholes: Collection[str] = ()) -> None:
    """Raise ``ValueError`` with the reason if settings may not send a source on.

    ``wholes``: the attributes with parts that a path may name as a whole.
    """
    if not is_template(source):
        check_path(source, wholes)
        return
    if {"{", "}"} & set(_PLACE.sub("", source)):
        raise ValueError(f"{source!r} has a brace without its pair")
    for path in paths_of(source):
        if PATHS.get(path):
            raise ValueError(f"{path} has parts, so a template names one: {_known(path)}")
        check_path(path)


def check_path(path: str, wholes: Collection[str] = ()) -> None:
    """Raise ``ValueError`` with the reason if settings may not send a customer's ``path`` on.

    ``wholes`` as of ``check_source``.
    """
    if custom_field(path):
        return
    name, dot, part = path.partition(".")
    parts = PATHS.get(name)
    if parts is None:
        hint = "; a custom field is written CustomField[Its name]" if "Custom" in name else ""
        raise ValueError(
            f"{path} may not leave QuickBooks: only names, addresses, phones, notes and types are"
            " sent on, never money, tax or terms. The list: docs/reference/configuration.md, Attributes"
            + hint
        )
    if parts and not dot and path not in wholes:
        raise ValueError(f"{path} has parts, so name one: {_known(path)}")
    if dot and part not in parts:
        raise ValueError(
            f"{path} is not an attribute of a QuickBooks customer; known: {_known(name)}"
        )


def _known(name: str) -> str:
    return ", ".join(f"{name}.{each}" for each in sorted(PATHS[name])) or name


def is_template(source: str) -> bool:
    """Return whether a source is a template."""
    return "{" in source or "}" in source


def pieces(template: str) -> list[str]:
    """Return a template's texts and paths in turn; the first and the last are texts."""
    return _PLACE.split(template)


def paths_of(source: str) -> tuple[str, ...]:
    """Return the paths that a source names."""
    return tuple(_PLACE.findall(source)) if is_template(source) else (source,)


@lru_cache(maxsize=1024)
def custom_field(path: str) -> str:
    """Return the name of the custom field that a path names; ``""`` if it names none."""
    found = _CUSTOM.fullmatch(path)
    return found[1].strip() if found else ""


def custom_fields(sources: Iterable[str]) -> Iterator[str]:
    """Yield the names of the custom fields in ``sources``."""
    for source in sources:
        yield from filter(None, map(custom_field, paths_of(source)))


def allowed(row: Mapping[str, Any], custom: Collection[str] = ()) -> dict[str, Any]:
    """Return a customer as QuickBooks sent it, without what stays there.

    ``custom``: the names of the custom fields to keep, in lower case.
    """
    kept = {name: value for name, value in row.items() if name in ATTRIBUTES}
    if custom and isinstance(fields := row.get(CUSTOM_FIELDS), list):
        kept[CUSTOM_FIELDS] = [each for each in fields if field_name(each) in custom]
    return kept


def field_name(field: Any) -> str:
    """Return the name of a custom field as QuickBooks sent it, in lower case; ``""`` if it has none."""
    name = field.get("Name") if isinstance(field, Mapping) else None
    return name.strip().casefold() if isinstance(name, str) else ""
