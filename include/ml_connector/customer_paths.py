"""Allow-list of the customer attributes that may leave QuickBooks.

Money, tax and payment terms are not on it, so no setting can send them on, and decoding drops them
before anything is stored (behaviour A47). Attributes:
https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/customer
"""

from collections.abc import Mapping
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
    "CustomerTypeRef": _REFERENCE,
    "CurrencyRef": _REFERENCE,
    "MetaData": frozenset({"CreateTime", "LastUpdatedTime"}),
}
"""Attributes that settings may name, each with its own parts."""

ATTRIBUTES = frozenset({*PATHS, "SyncToken", "status"})
"""Attributes that are decoded: those, and two that only the connector itself uses."""


def check_path(path: str) -> None:
    """Raise ``ValueError`` with the reason if settings may not send a customer's ``path`` on."""
    name, _, part = path.partition(".")
    parts = PATHS.get(name)
    if parts is None:
        raise ValueError(
            f"{path} may not leave QuickBooks: only names, addresses, phones, notes and types are"
            " sent on, never money, tax or terms. The list: docs/configuration.md, Attributes"
        )
    if part and part not in parts:
        known = ", ".join(f"{name}.{each}" for each in sorted(parts)) or name
        raise ValueError(f"{path} is not an attribute of a QuickBooks customer; known: {known}")


def allowed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a customer as QuickBooks sent it, without the attributes that stay there."""
    return {name: value for name, value in row.items() if name in ATTRIBUTES}
