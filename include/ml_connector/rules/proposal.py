"""Propose which QuickBooks attribute fills which merge field, by the field's type, tag and name. Pure.

A field without a clear counterpart is proposed nothing: it stays with the marketers.
"""

import re
from collections.abc import Iterable

from ml_connector.model import MergeField

PHONE, MOBILE, FAX = (f"{name}.FreeFormNumber" for name in ("PrimaryPhone", "Mobile", "Fax"))
_TYPED = {
    "address": ((r"ship|deliver", "ShipAddr"), (r"", "BillAddr")),
    "phone": ((r"mobile|cell", MOBILE), (r"fax", FAX), (r"", PHONE)),
}
"""By type of merge field: what its name contains, and the attribute. The first that fits wins."""
_TEXTS = (
    (r"f ?name|first( name)?|given name|vorname|prénom", "GivenName"),
    (r"l ?name|last( name)?|family name|surname|nachname", "FamilyName"),
    (r"m ?name|middle( name)?", "MiddleName"),
    (r"company( name)?|organi[sz]ation|firm|business( name)?|firma", "CompanyName"),
    (r"title|salutation|prefix", "Title"),
    (r"suffix", "Suffix"),
    (r"(full |display |contact )?name", "DisplayName"),
    (r"(work |business )?(tele)?phone( number)?|telefon", PHONE),
    (r"mobile( phone| number)?|cell( phone)?", MOBILE),
    (r"fax( number)?", FAX),
    (r"web ?site|url|web( address)?|home ?page", "WebAddr.URI"),
    (r"street|address( line)?( 1)?", "BillAddr.Line1"),
    (r"city|town|ort", "BillAddr.City"),
    (r"state|province|region|county", "BillAddr.CountrySubDivisionCode"),
    (r"zip( code)?|post(al)? ?code|plz", "BillAddr.PostalCode"),
    (r"country", "BillAddr.Country"),
    (r"currency", "CurrencyRef.value"),
)
_TEXT_TYPES = ("text", "url", "zip", "dropdown", "radio")


def proposed(fields: Iterable[MergeField]) -> dict[str, str]:
    """Return attributes by merge field; each attribute is proposed once."""
    found: dict[str, str] = {}
    for field in fields:
        source = _source(field)
        if source is not None and source not in found.values():
            found[field.tag] = source
    return found


def _source(field: MergeField) -> str | None:
    names = [_plain(field.name), _plain(field.tag)]
    for pattern, source in _TYPED.get(field.type, ()):
        if any(re.search(pattern, name) for name in names):
            return source
    if field.type not in _TEXT_TYPES:
        return None
    for name in names:
        for pattern, source in _TEXTS:
            if re.fullmatch(pattern, name):
                return source
    return None


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()
