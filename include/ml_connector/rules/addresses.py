"""Normalise e-mail addresses.

A QuickBooks e-mail field may hold several addresses separated by comma or semicolon, or junk.
Mailchimp takes one address and ignores its case. Plus-addresses stay distinct.
"""

import re
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

_SEPARATORS = re.compile(r"[,;]")
_USUAL_LOCAL = re.compile(r"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*")
_LOOKS_LIKE_ONE = re.compile(r"[^\s\"'\\<>()\[\]{},;:=&%]+@[^\s\"'\\<>()\[\]{},;:=&%]+")
USUAL = 64
"""An address of up to this many characters cannot exceed RFC 5321's limits: 64 before the @, 254
in total."""


def split_addresses(field: str | None) -> tuple[tuple[str, ...], str | None]:
    """Return the valid addresses of a QuickBooks e-mail field in order, and the problem if none.

    The problem is ``no_email`` for an empty field and ``invalid_email`` for a field without an
    address.
    """
    parts = [part for each in _SEPARATORS.split(field or "") if (part := each.strip())]
    if not parts:
        return (), "no_email"
    if len(parts) == 1:
        only = normalised(parts[0])
        return ((only,), None) if only else ((), "invalid_email")
    valid = dict.fromkeys(address for part in parts if (address := normalised(part)))
    return tuple(valid), None if valid else "invalid_email"


def normal_form(address: str) -> str:
    """Return the form of an address that identifies a contact, even for an invalid address."""
    return normalised(address) or address.strip().lower()


def addresses_in(words: str) -> set[str]:
    """Return whatever looks like an address in a text, in the form that identifies contacts."""
    return {normal_form(found) for found in _LOOKS_LIKE_ONE.findall(words)}


def normalised(address: str) -> str | None:
    """Return the address in lower case with an ASCII domain (IDNA 2008), or None if invalid.

    Does not query mail servers. Mailchimp judges whether an address looks fake.
    """
    local, _, domain = address.strip().rpartition("@")
    if len(address) <= USUAL and _USUAL_LOCAL.fullmatch(local):
        # Only the domain is left to validate, and a company's customers share domains.
        at_domain = _validated(f"a@{domain}")
        return at_domain and f"{local.lower()}{at_domain[1:]}"
    return _validated(address)


@lru_cache(maxsize=4096)
def _validated(address: str) -> str | None:
    try:
        checked = validate_email(
            address.strip(),
            check_deliverability=False,
            allow_smtputf8=False,
            globally_deliverable=True,
        )
    except EmailNotValidError:
        return None
    return (checked.ascii_email or "").lower() or None
