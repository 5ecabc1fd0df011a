"""Made-up customers of a company of some years, the same for the same seed.

Every address ends in ``.example`` and every phone number is one of those reserved for stories:
neither can belong to a person. The shares are guesses at a small company's customer list.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from sandbox.quickbooks.generate import CITIES, FAMILY, GIVEN, STREETS, TRADES

DOMAINS = (
    "bluebird-bakery.example",
    "northfield-plumbing.example",
    "harbor-lights.example",
    "oakstreet-design.example",
    "riverside-coffee.example",
    "maplevalley.example",
    "postbox.example",
    "inbox.example",
    "mail.example",
)
UNUSABLE = ("n/a", "call office first", "karen@@harbor-lights.example", "none@", "see notes")
ABROAD = (
    {"City": "Hamburg", "PostalCode": "20095", "Country": "Deutschland"},
    {"City": "Leeds", "PostalCode": "LS1 4DY", "Country": "England, UK"},
    {"City": "Utrecht", "PostalCode": "3511 LX", "Country": "Nederland"},
    {"City": "Guadalajara", "PostalCode": "44100", "Country": "México"},
    {"City": "Lyon", "PostalCode": "69002", "Country": "France"},
    {"City": "Wellington", "PostalCode": "6011", "Country": "Middle-earth"},
)


@dataclass
class Person:
    """A customer; ``email`` is their own address, or empty if they share one or have none."""

    id: str
    given: str
    family: str
    email: str
    active: bool = True


def iter_customers(count: int, random: Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (own address, customer as QuickBooks takes it)."""
    shared = [f"office@{domain}" for domain in DOMAINS[:6]]
    for number in range(1, count + 1):
        given, family = random.choice(GIVEN), random.choice(FAMILY)
        own = address_of(given, family, number, random)
        written = _written(own, shared, random)
        yield own if own in written else "", customer(given, family, number, written, random)


def address_of(given: str, family: str, number: int, random: Random) -> str:
    """Return an address that no other number has."""
    plain = "".join(c for c in f"{given}.{family}".lower() if c.isascii() and c not in "' ")
    return f"{plain.strip('.') or 'hello'}{number}@{random.choice(DOMAINS)}"


def customer(given: str, family: str, number: int, email: str, random: Random) -> dict[str, Any]:
    """Return a customer as QuickBooks takes it."""
    is_company = random.random() < 0.4
    name = f"{family} {random.choice(TRADES)}" if is_company else f"{given} {family}"
    body: dict[str, Any] = {
        "DisplayName": f"{name} {number}",
        "GivenName": given,
        "FamilyName": family,
        "BillAddr": _address(random),
    }
    if is_company:
        body["CompanyName"] = name
    if random.random() < 0.8:
        body["PrimaryPhone"] = {"FreeFormNumber": phone(random)}
    if email:
        body["PrimaryEmailAddr"] = {"Address": email}
    return body


def phone(random: Random) -> str:
    """Return one of the numbers that are reserved for stories."""
    return f"({random.choice((415, 510, 650))}) 555-01{random.randrange(100):02d}"


def _written(own: str, shared: list[str], random: Random) -> str:
    """Return the text of QuickBooks' e-mail field."""
    kinds = (
        (0.06, ""),
        (0.075, random.choice(UNUSABLE)),
        (0.10, random.choice(shared)),
        (0.13, f"{own}, accounts.{own}"),
        (0.22, own.title()),
        (1.0, own),
    )
    kind = random.random()
    return next(text for share, text in kinds if kind < share)


def _address(random: Random) -> dict[str, str]:
    line = f"{random.randrange(1, 9999)} {random.choice(STREETS)}"
    if random.random() < 0.06:
        return {"Line1": line, **random.choice(ABROAD)}
    city, state, code = random.choice(CITIES)
    address = {"Line1": line, "City": city, "CountrySubDivisionCode": state, "PostalCode": code}
    if random.random() < 0.05:
        del address["PostalCode"]
    return address
