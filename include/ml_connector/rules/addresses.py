"""Normalise e-mail addresses.

A QuickBooks e-mail field may hold several addresses, pasted text, or junk. Mailchimp takes one
address and ignores its case. Plus-addresses stay distinct.
"""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from email_validator import EmailNotValidError, validate_email

from ml_connector.errors import SettingsError

_SEPARATORS = re.compile(r"[,;]")
_PASTED = re.compile(r"[\s/|<>()\[\]\"\u2018-\u201f\u00ab\u00bb]+")
"""Separators and brackets around an address in pasted text. A slash is valid in an address, so
they apply only to text that is not yet a valid address."""

_WIDE_SIGNS = str.maketrans({"\uff20": "@", "\ufe6b": "@", "\uff0e": ".", "\u3002": "."})
"""Full-width and ideographic forms of @ and the period."""

_USUAL_LOCAL = re.compile(r"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*")
_CANNOT_BE_IN_ONE = re.compile(r"[\s\"'\\<>()\[\]{},;:=&%]+")
USUAL = 64
"""An address of up to this many characters cannot exceed RFC 5321's limits: 64 before the @, 254
in total."""


class Addresses(NamedTuple):
    """The valid addresses of an e-mail field in order, without duplicates.

    Without one, ``problem`` is ``no_email`` for an empty field and ``invalid_email`` otherwise.
    ``detail`` then says in words what is wrong with the first candidate. It quotes at most single
    characters.
    """

    valid: tuple[str, ...]
    problem: str | None = None
    detail: str = ""


def split_addresses(field: str | None) -> Addresses:
    """Return the addresses in a QuickBooks e-mail field as people type and paste them (A6)."""
    parts = [part for each in _SEPARATORS.split(field or "") if (part := _visible(each).strip())]
    if not parts:
        return Addresses((), "no_email")
    if len(parts) == 1 and (only := normalised(parts[0])):
        return Addresses((only,))
    valid = dict.fromkeys(address for part in parts for address in _found(part))
    if valid:
        return Addresses(tuple(valid))
    return Addresses((), "invalid_email", _objection(parts))


def _found(part: str) -> list[str]:
    if whole := normalised(part):
        return [whole]
    candidates = map(_bare, _PASTED.split(part))
    return [address for each in candidates if "@" in each and (address := normalised(each))]


def _bare(word: str) -> str:
    """Return a word without a label, the query of a link, and the marks that end a sentence."""
    if word[:7].lower() == "mailto:":
        word = word[7:].partition("?")[0]
    told = next((part for part in word.split(":") if "@" in part), word)  # "E-mail:amy@..."
    return told.strip(".'").rstrip(".'!?*")


def _visible(text: str) -> str:
    """Return text without invisible characters and with one kind of blank, @ and period."""
    if text.isascii() and text.isprintable():
        return text
    shown = (" " if each.isspace() else each for each in text.translate(_WIDE_SIGNS))
    return "".join(each for each in shown if unicodedata.category(each) not in _INVISIBLE)


_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs"})
"""Unicode categories: control, format (zero-width, bidirectional), private use, surrogate."""


def _objection(parts: list[str]) -> str:
    candidate = next((part for part in parts if "@" in part), "")
    if not candidate:
        return "has no @"
    local = candidate.rpartition("@")[0]
    odd = next((each for each in local if not each.isascii()), None)
    if odd is not None:
        return f"contains {odd!r} before the @, which Mailchimp does not accept"
    try:
        validate_email(candidate, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError as error:
        return str(error).rstrip(".")
    return ""


def normal_form(address: str) -> str:
    """Return the form of an address that identifies a contact, even for an invalid address."""
    return normalised(address) or address.strip().lower()


def typed_address(typed: str) -> str:
    """Return the form of a typed address that identifies a contact.

    Raises ``SettingsError`` if it is not an e-mail address.
    """
    if "@" not in typed:
        raise SettingsError("that is no e-mail address")
    return normal_form(typed)


def addresses_in(words: str) -> set[str]:
    """Return whatever looks like an address in a text, in the form that identifies contacts."""
    return {normal_form(word) for word in _CANNOT_BE_IN_ONE.split(words) if "@" in word[1:-1]}


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
