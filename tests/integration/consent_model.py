"""A reference model of consent, written from docs/consent.md: what each address may be mailed.

It knows what people, marketers and the bookkeeper did, and nothing of the connector's store. Levels
count how much mail a status allows: 3 subscribed, 2 pending, 1 transactional, 0 none.
"""

import copy
from dataclasses import dataclass, field

LEVEL = {"subscribed": 3, "pending": 2, "transactional": 1}
SETTING = "subscribed"


def level(word: str | None) -> int:
    return LEVEL.get(word or "", 0)


@dataclass
class Customer:
    """A customer in QuickBooks: the address it has, and those it was represented at before."""

    email: str | None
    active: bool = True
    way: list[str] = field(default_factory=list)
    opted_out: bool = False
    """It opted out at a former address after it left there, and has not signed up since."""


@dataclass
class Consent:
    """``state`` has a word an address: a status, ``complained``, ``bounced``, ``moved`` ...

    A word is there from the moment that a person, a marketer or a write of ours made the address
    a member; a write of ours never makes the word better.
    """

    state: dict[str, str] = field(default_factory=dict)
    moved_to: dict[str, str] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)

    # ── what people do ────────────────────────────────────────────────────────────────────────

    def set_by_person(self, email: str, word: str) -> None:
        """A person or a marketer decided at ``email``; the last word counts."""
        self.moved_to.pop(email, None)
        self.state[email] = word
        if word in ("unsubscribed", "complained"):
            self._opt_out_travels(email)
        if level(word):
            for each in self._at(email):
                each.opted_out = False

    def change_address(self, old: str, new: str) -> None:
        """A member took another address in Mailchimp: the consent goes there, the old one is gone."""
        self.state[new] = self.state[old]
        self.state[old] = "moved"
        self.moved_to[old] = new

    def _opt_out_travels(self, email: str) -> None:
        if self._at(email):
            return  # someone else lives there now: it may have been their opt-out
        for each in self.customers.values():
            if email not in each.way or each.email in (None, email):
                continue
            each.opted_out = True
            if self._at(each.email) == [each] and level(self.state.get(each.email)):
                self.state[each.email] = "unsubscribed"

    # ── what the bookkeeper does ──────────────────────────────────────────────────────────────

    def move(self, customer_id: str, email: str | None) -> None:
        customer = self.customers[customer_id]
        former, customer.email = customer.email, email
        if former is not None and former != email and former in self.state:
            customer.way = [each for each in customer.way if each != former] + [former]

    def _at(self, email: str | None) -> list[Customer]:
        return [each for each in self.customers.values() if each.active and each.email == email]

    # ── what may be ───────────────────────────────────────────────────────────────────────────

    def travels(self, email: str) -> str:
        """The status with which a person who leaves ``email`` arrives at a new address."""
        word = self.state.get(email)
        if word == "moved":
            return self.travels(self.moved_to[email])
        if word in ("bounced", None):
            return SETTING
        if word in ("archived", "forgotten", "complained"):
            return "unsubscribed"
        return word

    def brought(self, customer: Customer) -> str:
        """What a customer brings along to an address where nobody is known yet."""
        if customer.opted_out:
            return "unsubscribed"
        former = [each for each in customer.way if each != customer.email]
        return self.travels(former[-1]) if former else SETTING

    def ceiling(self, email: str) -> int:
        """The most that a write of ours may make of ``email``."""
        words = [self.brought(each) for each in self._at(email)]
        if email in self.state:
            words.append(self.state[email])
        return min(map(level, words), default=0)

    def written(self, email: str, status: str) -> None:
        """We made ``email`` a member, or brought it back; meanwhile somebody may have opted out."""
        if email not in self.state or level(self.state[email]):
            allowed = level(status) <= self.ceiling(email)
            self.state[email] = status if allowed else "unsubscribed"

    def snapshot(self) -> "Consent":
        return copy.deepcopy(self)
