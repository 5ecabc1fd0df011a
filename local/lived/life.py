"""What people do in a month: the bookkeeper in QuickBooks, the marketer and the members in Mailchimp."""

from collections.abc import Callable
from datetime import datetime
from random import Random

from local.lived.history import Company
from local.lived.people import ABROAD, UNUSABLE, Person, address_of, customer, phone
from local.lived.servers import Servers
from sandbox.quickbooks.generate import CITIES, FAMILY, GIVEN, STREETS

TUESDAY = 1
CAMPAIGN_HOUR = 10
SUBJECTS = (
    "What is new this autumn",
    "Five ideas for the long evenings",
    "Open day at our workshop",
    "Your winter check-up",
    "Opening hours over the holidays",
)
WAVES = ((0.16, 0.045, 0.008, 0.003), (0.09, 0.02, 0.002, 0.001), (0.05, 0.012, 0.0, 0.0))
"""Opens, clicks, soft and hard bounces of a campaign's recipients, some hours apart."""

REASONS = ("I no longer want to receive these emails", "Too many mails", "N/A (No reason given)")
CLEARED_OUT, LEAST = 0.13, 30
"""The share of customers, and the least number, that an import makes inactive at the end. A run may
archive a tenth of the contacts, and 25 of few."""


class Life:
    """The people. ``act`` lets them do what falls to an hour; weekends are quiet."""

    def __init__(
        self, servers: Servers, company: Company, random: Random, *, clock: Callable[[], datetime]
    ) -> None:
        self._servers, self._company, self._random = servers, company, random
        self._clock = clock
        self._waves: list[tuple[str, int]] = []
        self._pending: list[str] = []
        self._throttled: list[str] = []
        self._subjects = 0

    def act(self, now: datetime) -> None:
        """Do what falls to this hour."""
        pace = 0.2 if now.weekday() > 4 else 1.0
        if 8 < now.hour < 18:
            self._bookkeeper(pace)
        self._members(pace)
        self._react()
        if now.weekday() == TUESDAY and now.hour == CAMPAIGN_HOUR:
            self._send_campaign()

    def clear_out(self) -> None:
        """Let an import make old customers inactive overnight; QuickBooks reports none of them."""
        active = self._company.active()
        ids = [each.id for each in active[: max(LEAST, int(CLEARED_OUT * len(active)))]]
        self._servers.quickbooks(
            "POST", "customers/edit-many", {"ids": ids, "fields": {"Active": False}}
        )

    # ── QuickBooks ────────────────────────────────────────────────────────────────────────────

    def _bookkeeper(self, pace: float) -> None:
        for _ in range(self._times(4 * pace)):
            self._new_customer()
        for _ in range(self._times(8 * pace)):
            self._edit(self._some(), self._new_detail())
        for _ in range(self._times(pace)):
            self._move(self._some())
        for _ in range(self._times(0.8 * pace)):
            person = self._some()
            self._edit(person, {"Active": False})
            person.active = False
        if self._random.random() < 0.2 * pace:
            survivor, loser = self._some(), self._some()
            if survivor is not loser:
                order = {"survivor": survivor.id, "loser": loser.id}
                self._servers.quickbooks("POST", "customers/merge", order)
                self._company.people.pop(loser.id)

    def _new_customer(self) -> None:
        self._company.number += 1
        number = self._company.number
        given, family = self._random.choice(GIVEN), self._random.choice(FAMILY)
        email = address_of(given, family, number, self._random)
        kind = self._random.random()
        if kind < 0.03:
            email = f"{email.partition('@')[0]}@example.com"  # Mailchimp takes it for a fake
        elif kind < 0.06:
            email = self._random.choice(UNUSABLE)
        elif kind < 0.08:  # "has signed up to a lot of lists very recently"
            self._throttled.append(email)
            self._servers.mailchimp("PUT", "settings", {"throttled": self._throttled})
        body = customer(given, family, number, email, self._random)
        made = self._servers.quickbooks("POST", "customers", body)
        own = email if email.endswith(".example") else ""
        self._company.people[made["Id"]] = Person(made["Id"], given, family, own)

    def _new_detail(self) -> dict[str, object]:
        kind = self._random.random()
        if kind < 0.45:
            return {"PrimaryPhone": {"FreeFormNumber": phone(self._random)}}
        if kind < 0.8:
            city, state, code = self._random.choice(CITIES)
            line = f"{self._random.randrange(1, 9999)} {self._random.choice(STREETS)}"
            place = {"City": city, "CountrySubDivisionCode": state, "PostalCode": code}
            return {"BillAddr": {"Line1": line, **place}}
        if kind < 0.9:
            return {"FamilyName": self._random.choice(FAMILY)}
        return {"BillAddr": {"Line1": "1 Harbour Road", **self._random.choice(ABROAD)}}

    def _move(self, person: Person) -> None:
        self._company.number += 1
        person.email = address_of(person.given, person.family, self._company.number, self._random)
        self._edit(person, {"PrimaryEmailAddr": {"Address": person.email}})

    def _edit(self, person: Person, fields: dict[str, object]) -> None:
        self._servers.quickbooks("PATCH", f"customers/{person.id}", fields)

    # ── Mailchimp ─────────────────────────────────────────────────────────────────────────────

    def _members(self, pace: float) -> None:
        for email in self._pending:
            self._servers.person(email, "confirm")
        self._pending.clear()
        for _ in range(self._times(0.8)):
            self._sign_up()
        for email in self._subscribed(self._times(0.6)):
            reason = self._random.choice(REASONS)
            self._servers.person(email, "unsubscribe", by="self", reason=reason)
        for email in self._subscribed(self._times(1.2)):
            fields = {"PHONE": phone(self._random)}
            if self._random.random() < 0.4:
                fields = {"FNAME": self._random.choice(GIVEN)}
            self._servers.person(email, "profile", merge_fields=fields)
        for email in self._subscribed(self._times(0.2)):
            self._company.number += 1
            moved = f"new.{self._company.number}.{email}"
            self._servers.person(email, "upemail", email_address=moved)
        for email in self._subscribed(self._times(0.13 * pace)):
            self._servers.person(email, "archive")

    def _sign_up(self) -> None:
        self._company.number += 1
        given, family = self._random.choice(GIVEN), self._random.choice(FAMILY)
        email = address_of(given, family, self._company.number, self._random)
        self._servers.person(email, "subscribe")
        if self._random.random() < 0.8:
            self._pending.append(email)

    def _send_campaign(self) -> None:
        subject = SUBJECTS[self._subjects % len(SUBJECTS)]
        self._subjects += 1
        sent = self._servers.mailchimp("POST", "campaigns", {"title": subject, "subject": subject})
        self._waves = [(sent["id"], wave) for wave in range(len(WAVES))]

    def _react(self) -> None:
        """Let a wave of recipients react to the last campaign, and a few of them leave."""
        if not self._waves:
            return
        campaign, wave = self._waves.pop(0)
        opens, clicks, soft, hard = WAVES[wave]
        shares = {"opens": opens, "clicks": clicks, "soft_bounces": soft, "hard_bounces": hard}
        seed = self._random.randrange(1_000_000)
        self._servers.mailchimp("POST", f"campaigns/{campaign}/simulate", {**shares, "seed": seed})
        for email in self._subscribed(3):
            self._servers.person(
                email, "unsubscribe", by="self", reason=self._random.choice(REASONS)
            )
        for email in self._subscribed(wave == 1):
            self._servers.person(email, "unsubscribe", by="self", abuse=True)

    # ── chance ────────────────────────────────────────────────────────────────────────────────

    def _times(self, mean: float) -> int:
        """Return how often something happens that happens ``mean`` times."""
        return int(mean) + (self._random.random() < mean % 1)

    def _some(self) -> Person:
        return self._random.choice(self._company.active())

    def _subscribed(self, number: int) -> list[str]:
        """Return addresses of subscribed customers."""
        found: list[str] = []
        for _ in range(50 * number):
            if len(found) == number:
                break
            email = self._some().email
            if email not in found and self._servers.status_of(email) == "subscribed":
                found.append(email)
        return found
