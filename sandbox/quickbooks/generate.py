"""Made-up customers in any number, the same for the same seed, odd in the ways real ones are.

The shares below are rough guesses at a small company's customer list, meant to reach every branch of
a sync, not to model anything. Domains look real, so no service refuses them as fake.
"""

from collections.abc import Iterator
from random import Random

from sandbox.quickbooks.rows import Json, Row, encode

FIRST_ID = 2  # 1 is the one vendor of a generated company
YEARS = 6
SECONDS_PER_YEAR = 365 * 86400

GIVEN = [
    "Ana",
    "Ben",
    "Chloé",
    "David",
    "Elena",
    "Farid",
    "Grace",
    "Hiro",
    "Inès",
    "José",
    "Karin",
    "Liam",
    "María",
    "Noor",
    "Oskar",
    "Priya",
    "Quinn",
    "Renée",
    "Søren",
    "Tomás",
    "Uma",
    "Věra",
    "Wei",
    "Ximena",
    "Yusuf",
    "Zoë",
    "Łukasz",
    "Björn",
    "小明",
    "Олена",
]
FAMILY = [
    "Adams",
    "Müller",
    "García",
    "O'Brien",
    "Nguyen",
    "Kowalski",
    "Rossi",
    "Smith",
    "Johnson",
    "Østergård",
    "Dvořák",
    "Tanaka",
    "Singh",
    "Ferreira",
    "MacDonald",
    "D'Angelo",
    "Ivanova",
    "Chen",
    "Okafor",
    "Lindqvist",
    "Papadopoulos",
    "Haddad",
    "Brown",
    "Lee",
]
TRADES = [
    "Bakery",
    "Plumbing",
    "Landscaping",
    "Dental",
    "Design",
    "Motors",
    "Coffee",
    "Roofing",
    "Consulting",
    "Books",
]
DOMAINS = [
    "gmail.com",
    "yahoo.com",
    "outlook.com",
    "icloud.com",
    "hotmail.com",
    "bluebirdbakery.com",
    "northfieldplumbing.com",
    "harborlights.net",
    "oakstreetdesign.com",
    "riversidecoffee.org",
    "summitroofing.com",
    "maplevalley.co",
]
CITIES = (
    ("Bayshore", "CA", "94326"),
    ("Tucson", "AZ", "85719"),
    ("Maplewood", "NJ", "07040"),
    ("Portland", "OR", "97205"),
    ("Austin", "TX", "78701"),
    ("Québec", "QC", "G1R 4S9"),
)
STREETS = ("Main St.", "Ocean Dr.", "Willow Rd.", "Elm St.", "Cedar Ave.", "Hill Ln.")
INVALID_EMAILS = ("n/a@none", "call office first", "karen@@harborlights.net", "none@.", "x@y..z")


def iter_customers(count: int, *, seed: int, now: float) -> Iterator[Row]:
    """Yield ``count`` customers with ids from 2; times lie in the six years before ``now``."""
    random = Random(seed)  # noqa: S311 - data, not secrets
    end = int(now) // 86400 * 86400
    parents: list[tuple[str, str, str]] = []
    updated = end
    for row_id in range(FIRST_ID, FIRST_ID + count):
        created = end - random.randrange(SECONDS_PER_YEAR, YEARS * SECONDS_PER_YEAR)
        if random.random() > 0.1:  # one in ten shares its time with the row before it
            updated = end - int(random.random() ** 2 * YEARS * SECONDS_PER_YEAR)
        body = _customer(random, row_id, parents)
        yield encode(
            body,
            row_id=row_id,
            sync_token=random.choice((0, 0, 0, 1, 2, 5)),
            created=min(created, updated),
            updated=updated,
        )


def _customer(random: Random, row_id: int, parents: list[tuple[str, str, str]]) -> Json:
    given, family = random.choice(GIVEN), random.choice(FAMILY)
    is_company = random.random() < 0.4
    name = (
        f"{family} {random.choice(TRADES)} {row_id}" if is_company else f"{given} {family} {row_id}"
    )
    email = _email(random, given, family, row_id)
    body: Json = {"Taxable": random.random() < 0.7}
    address = _address(random, row_id)
    if address is not None:
        body["BillAddr"] = address
    body |= {"Job": False, "BillWithParent": False}
    full_name = name
    is_project = False
    if parents and random.random() < 0.08:
        parent_id, parent_name, parent_email = random.choice(parents)
        is_project = random.random() < 0.25
        body |= {"Job": True, "ParentRef": {"value": parent_id}, "Level": 1}
        full_name = f"{parent_name}:{name}"
        email = parent_email if random.random() < 0.6 else email
    is_inactive = random.random() < 0.06
    body |= {
        "Balance": 0,
        "BalanceWithJobs": 0,
        "CurrencyRef": {"value": "USD", "name": "United States Dollar"},
        "PreferredDeliveryMethod": "Print",
        "IsProject": is_project,
        "ClientEntityId": "0",
        "domain": "QBO",
        "sparse": False,
        "Id": "",
        "SyncToken": "",
        "MetaData": {},
        "GivenName": given,
        "FamilyName": family,
        "FullyQualifiedName": full_name + (" (deleted)" if is_inactive else ""),
        "DisplayName": name + (" (deleted)" if is_inactive else ""),
        "PrintOnCheckName": name,
        "Active": not is_inactive,
    }
    if is_company:
        body["CompanyName"] = name
    if random.random() < 0.8:
        body["PrimaryPhone"] = {"FreeFormNumber": f"(650) 555-{random.randrange(10000):04d}"}
    if email:
        body["PrimaryEmailAddr"] = {"Address": email}
    if not is_inactive and "ParentRef" not in body and (len(parents) < 500):
        parents.append((str(row_id), name, email))
    return body


def _email(random: Random, given: str, family: str, row_id: int) -> str:
    domain = random.choice(DOMAINS)
    invalid = random.choice(INVALID_EMAILS)
    local = "".join(c for c in f"{given}.{family}" if c.isascii() and (c.isalnum() or c == "."))
    address = f"{local.strip('.').lower() or 'info'}{row_id}@{domain}"
    shares = (
        (0.06, ""),
        (0.07, invalid),
        (0.10, f"office{row_id // 1000}@{domain}"),  # shared by a handful of customers
        (0.12, f"{address}, billing{row_id}@{domain}"),
        (0.13, f"{address}; {invalid}"),
        (0.25, address.title()),
        (0.27, f" {address} "),
        (1.00, address),
    )
    kind = random.random()
    return next(text for share, text in shares if kind < share)


def _address(random: Random, row_id: int) -> Json | None:
    kind = random.random()
    if kind < 0.1:
        return None
    city, state, postal_code = random.choice(CITIES)
    address: Json = {"Id": str(10_000_000 + row_id)}
    if kind > 0.13:
        address["Line1"] = f"{random.randrange(1, 9999)} {random.choice(STREETS)}"
    address["City"] = city
    if kind > 0.9:
        address["Country"] = "USA" if state != "QC" else "Canada"
    if kind > 0.16:
        address["CountrySubDivisionCode"] = state
    if kind > 0.22:
        address["PostalCode"] = postal_code
    return address
