"""What was there before the connector: customers of years, an audience of the newsletter."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from local.lived.people import Person, address_of, iter_customers
from local.lived.servers import Servers
from sandbox.quickbooks.generate import FAMILY, GIVEN

MONTHS = 48
INACTIVE = 0.05
IN_AUDIENCE = 0.45
PROSPECTS = 0.07
CAMPAIGNS_BEFORE = (25, 11, 4)  # days
CHUNK = 500


@dataclass
class Company:
    """The customers by id, and what numbers new ones get."""

    people: dict[str, Person] = field(default_factory=dict)
    number: int = 0

    def active(self) -> list[Person]:
        """Return the active customers with an address of their own."""
        return [each for each in self.people.values() if each.active and each.email]


def found_company(servers: Servers, count: int, random: Random, *, now: datetime) -> Company:
    """Fill both mock servers with what there is at ``now``."""
    servers.quickbooks("POST", "company", {"empty": True})
    company = Company(number=count)
    for number, (own, body) in enumerate(iter_customers(count, random)):
        if number % -(-count // MONTHS) == 0:
            ago = timedelta(days=30 * (MONTHS - number * MONTHS // count))
            _set_clock(servers, "quickbooks", now - ago)
        made = servers.quickbooks("POST", "customers", body)
        person = Person(made["Id"], body["GivenName"], body["FamilyName"], own)
        company.people[person.id] = person
        if random.random() < INACTIVE:
            servers.quickbooks("PATCH", f"customers/{person.id}", {"Active": False})
            person.active = False
    _fill_audience(servers, company, random, now=now)
    return company


def _fill_audience(servers: Servers, company: Company, random: Random, *, now: datetime) -> None:
    _set_clock(servers, "mailchimp", now - timedelta(days=400))
    servers.mailchimp("PUT", "settings", {"double_optin": True, "webhook_signing": False})
    members = [
        _member(each.email, each.given, each.family, random)
        for each in company.active()
        if random.random() < IN_AUDIENCE
    ]
    for number in range(int(PROSPECTS * company.number)):
        given, family = random.choice(GIVEN), random.choice(FAMILY)
        address = address_of(given, family, 100_000 + number, random)
        members.append(_member(address, given, family, random))
    for start in range(0, len(members), CHUNK):
        servers.mailchimp("POST", "members", {"members": members[start : start + CHUNK]})
    for days in CAMPAIGNS_BEFORE:
        sent_at = now - timedelta(days=days)
        _set_clock(servers, "mailchimp", sent_at)
        sent = servers.mailchimp("POST", "campaigns", {"title": f"Newsletter {sent_at:%d %B}"})
        _set_clock(servers, "mailchimp", sent_at + timedelta(days=3))
        shares = {"opens": 0.35, "clicks": 0.07, "soft_bounces": 0.01, "seed": days}
        servers.mailchimp("POST", f"campaigns/{sent['id']}/simulate", shares)


def _member(email: str, given: str, family: str, random: Random) -> dict[str, Any]:
    kind = random.random()
    status, origin = (
        ("unsubscribed", "self")
        if kind < 0.06
        else ("cleaned", "mailchimp")
        if kind < 0.08
        else ("subscribed", "marketer")
    )
    fields = {"FNAME": given, "LNAME": family} if random.random() < 0.9 else {}
    return {"email_address": email, "status": status, "origin": origin, "merge_fields": fields}


def _set_clock(servers: Servers, system: str, at: datetime) -> None:
    offset = {"offset_seconds": (at - datetime.now(UTC)).total_seconds()}
    (servers.quickbooks if system == "quickbooks" else servers.mailchimp)("PUT", "clock", offset)
