"""What a customer may hold, and what QuickBooks refuses in a write.

Lengths are those of Intuit's Customer reference; error codes those of its error table.
"""

import re
from collections.abc import Mapping
from typing import Any

from sandbox.quickbooks import problems

Json = dict[str, Any]

LENGTHS = {
    "DisplayName": 500,
    "Title": 16,
    "GivenName": 100,
    "MiddleName": 100,
    "FamilyName": 100,
    "Suffix": 16,
    "CompanyName": 100,
    "PrintOnCheckName": 110,
    "Notes": 2000,
    "ResaleNum": 16,
}
NAME_PARTS = ("Title", "GivenName", "MiddleName", "FamilyName", "Suffix")
NO_COLON = ("DisplayName", *NAME_PARTS, "PrintOnCheckName")

PHONES = ("PrimaryPhone", "AlternatePhone", "Mobile", "Fax")
ADDRESSES = ("BillAddr", "ShipAddr")
ADDRESS_KEYS = frozenset(
    [
        "Id",
        "Line1",
        "Line2",
        "Line3",
        "Line4",
        "Line5",
        "City",
        "Country",
        "CountryCode",
        "CountrySubDivisionCode",
        "PostalCode",
        "PostalCodeSuffix",
        "Lat",
        "Long",
        "Tag",
        "Note",
    ]
)
ADDRESS_LENGTHS = dict.fromkeys(("Line1", "Line2", "Line3", "Line4", "Line5"), 500) | {
    "City": 255,
    "Country": 255,
    "CountrySubDivisionCode": 255,
    "PostalCode": 30,
}
REFS = [
    "ParentRef",
    "CurrencyRef",
    "CustomerTypeRef",
    "DefaultTaxCodeRef",
    "SalesTermRef",
    "PaymentMethodRef",
    "ARAccountRef",
]
FLAGS = ("Active", "Job", "BillWithParent", "Taxable")

# Set by the service; a value in a write is ignored.
READ_ONLY = frozenset(
    [
        "FullyQualifiedName",
        "Level",
        "IsProject",
        "BalanceWithJobs",
        "MetaData",
        "domain",
        "sparse",
        "status",
        "Source",
        "V4IDPseudonym",
        "ClientEntityId",
    ]
)
CREATE_ONLY = frozenset({"Balance", "OpenBalanceDate"})
WRITABLE = frozenset(
    [
        *LENGTHS,
        *PHONES,
        *ADDRESSES,
        *REFS,
        *FLAGS,
        *CREATE_ONLY,
        "PrimaryEmailAddr",
        "WebAddr",
        "PreferredDeliveryMethod",
        "PrimaryTaxIdentifier",
        "TaxExemptionReasonId",
    ]
)
KNOWN = WRITABLE | READ_ONLY | {"Id", "SyncToken"}

# What a full update that leaves them out falls back to; everything else becomes null.
DEFAULTS: Mapping[str, Any] = {
    "Taxable": True,
    "Job": False,
    "BillWithParent": False,
    "Active": True,
    "PreferredDeliveryMethod": "Print",
    "CurrencyRef": {"value": "USD", "name": "United States Dollar"},
}


def read_writable(sent: Json) -> Json:
    """Check a write and return its writable fields; a value of None means "cleared".

    Raises:
        FaultError: 2010, 2040, 2050 or 2210.
    """
    for name in sent:
        if name not in KNOWN:
            raise problems.unknown_property(name, "Customer")
    return {name: _read(name, value) for name, value in sent.items() if name in WRITABLE}


def _read(name: str, value: Any) -> Any:
    if value is None or value in ("", {}):
        return None
    checked: Any = value
    if name in LENGTHS:
        checked = check_text(name, value, LENGTHS[name])
    elif name in PHONES:
        checked = _nested(name, value, {"FreeFormNumber": 30})
    elif name == "PrimaryEmailAddr":
        checked = _email(value)
    elif name == "WebAddr":
        checked = _nested(name, value, {"URI": 1000})
    elif name in ADDRESSES:
        checked = _address(name, value)
    elif name in REFS:
        checked = _reference(name, value)
    elif name in FLAGS and not isinstance(value, bool):
        raise problems.unreadable(f"Property Name:{name} is not a boolean")
    return checked


def length(text: str) -> int:
    """Count a text's UTF-16 code units, as a Java service does: an emoji counts as two or more."""
    return len(text.encode("utf-16-le")) // 2


def check_text(name: str, value: Any, longest: int) -> str:
    """Check a text field and return it unchanged, byte for byte.

    Raises:
        FaultError: 2010 for what is no text, 2050 for more than ``longest`` UTF-16 code units, 2040
            for characters that a name may not have.
    """
    if not isinstance(value, str):
        raise problems.unreadable(f"Property Name:{name} is not a string")
    if length(value) > longest:
        raise problems.wrong_length(name, longest, length(value))
    if name in NO_COLON and re.search(r"[:\t\r\n]", value):
        raise problems.bad_characters(name)
    return value


def _object(name: str, value: Any) -> Json:
    if not isinstance(value, dict):
        raise problems.unreadable(f"Property Name:{name} is not an object")
    return value


def _nested(name: str, value: Any, lengths: Mapping[str, int]) -> Json | None:
    kept: Json = {}
    for key, text in _object(name, value).items():
        if key not in lengths:
            raise problems.unknown_property(key, name)
        if text:
            kept[key] = check_text(f"{name}.{key}", text, lengths[key])
    return kept or None


def _email(value: Any) -> Json | None:
    kept = _nested("PrimaryEmailAddr", value, {"Address": 100})
    if kept is not None and not ("@" in kept["Address"] and "." in kept["Address"]):
        raise problems.bad_email()
    return kept


def _address(name: str, value: Any) -> Json | None:
    kept: Json = {}
    for key, text in _object(name, value).items():
        if key not in ADDRESS_KEYS:
            raise problems.unknown_property(key, "PhysicalAddress")
        if text:
            kept[key] = check_text(f"{name}.{key}", text, ADDRESS_LENGTHS.get(key, 500))
    return kept or None


def _reference(name: str, value: Any) -> Json | None:
    given = _object(name, value)
    for key in given:
        if key not in {"value", "name", "type"}:
            raise problems.unknown_property(key, "ReferenceType")
    if not given.get("value"):
        return None
    return {key: text for key, text in given.items() if text and key != "type"}


def display_name(fields: Json) -> str:
    """Return the display name, made from the name parts where there is none.

    Raises:
        FaultError: 6080, there is nothing to make one from.
    """
    name = fields.get("DisplayName") or " ".join(
        fields[part] for part in NAME_PARTS if fields.get(part)
    )
    if not name:
        raise problems.no_name()
    return str(name)
