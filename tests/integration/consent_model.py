"""A reference model of consent, written from docs/explanation/consent.md: what each address may be mailed.

It knows what people, marketers and the bookkeeper did, and which calls the connector made. It knows
nothing of the connector's store. Levels count how much mail a status allows: 3 subscribed,
2 pending, 1 transactional, 0 none.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

LEVEL = {"subscribed": 3, "pending": 2, "transactional": 1}
OPT_OUTS = ("unsubscribed", "complained")
REMOVED = ("archived", "forgotten")
"""Words of an address that a marketer took out of the audience."""


def level(word: str | None) -> int:
    """Return how much mail a word of the model, or a status of Mailchimp, allows."""
    return LEVEL.get(word or "", 0)


@dataclass
class Customer:
    """A customer as the connector read it last.

    ``places``: the addresses of which one represents it; more than one where a call's response was
    lost. ``left``: addresses that represented it before. ``opt_outs``: when an opt-out at such an
    address reached it, by address. ``perhaps_erased``: it was represented at an erased address, if the
    connector had not let it go there yet.
    """

    email: str | None
    active: bool = True
    gone: bool = False
    erased: bool = False
    perhaps_erased: bool = False
    places: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    opt_outs: dict[str, int] = field(default_factory=dict)


@dataclass
class Consent:
    """``words`` has one word an address: a status, ``complained``, ``bounced``, ``moved`` ...

    A word is there from the moment that a person, a marketer or a write of ours made the address a
    member. A write of ours never makes it better. ``setting``: the status of new contacts.
    """

    setting: str = "subscribed"
    words: dict[str, str] = field(default_factory=dict)
    moved_to: dict[str, str] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)
    suppressed: set[str] = field(default_factory=set)
    barred: set[str] = field(default_factory=set)
    """Addresses that an erased person may have had, which are suppressed as well."""
    linked: set[str] = field(default_factory=set)
    """Addresses that were read since they became a contact: an address change from there is seen."""
    signed_up: dict[str, int] = field(default_factory=dict)
    time: int = 0

    # ── what people and marketers do ──────────────────────────────────────────────────────────

    def person_sets(self, email: str, word: str) -> None:
        """A person or a marketer decided at ``email``; the last word counts."""
        self.time += 1
        self.moved_to.pop(email, None)
        self.words[email] = word
        if word in OPT_OUTS:
            self.travel(email)
        if level(word):
            self.signed_up[email] = self.time

    def member_moves(self, old: str, new: str) -> None:
        """A member took another address in Mailchimp: the consent goes there, the old one is gone."""
        self.time += 1
        self.words[new] = self.words[old]
        self.moved_to.pop(new, None)
        self.words[old] = "moved"
        self.moved_to[old] = new if old in self.linked else old
        self.linked.discard(old)
        self.linked.add(new)

    def travel(self, email: str) -> None:
        """Let an opt-out at ``email`` reach those who left it, unless someone else lives there."""
        if self.at(email):
            return
        for each in self.customers.values():
            if each.email != email and any(self.end_of(left) == email for left in each.left):
                each.opt_outs[email] = self.time

    # ── what the connector reads and writes ───────────────────────────────────────────────────

    def reads(self, customer_id: str, email: str | None, *, active: bool, gone: bool) -> None:
        """The connector reads a customer; of an erased one it keeps nothing."""
        each = self.customers.setdefault(customer_id, Customer(None))
        if each.erased:
            return
        if each.email not in (None, email):
            if each.email in self.words and each.email not in self.suppressed:
                each.places.add(each.email)  # the connector may have decided on it there
            each.opt_outs = self.standing_opt_outs(each)
        each.email, each.active, each.gone = email, active, gone

    def wrote(self, email: str, status: str, *, heard: bool, unseen: Collection[str] = ()) -> None:
        """A write of ours made or found ``email`` a member of this status, and showed it.

        Who lives there is represented there from now on. ``heard``: the response arrived.
        ``unseen``: opt-outs made in this run that nothing has read yet. One that was known before
        does not lower a contact that is there on its own account (A13).
        """
        if email in self.words and self.words[email] == "moved":
            return
        if email not in self.words or (level(self.words[email]) and level(status)):
            self.words[email] = status
        for each in self.at(email):
            former = each.places - {email}
            for place in former:
                on_its_way = place in unseen or email in each.places
                opted_out = self.words.get(self.end_of(place)) in OPT_OUTS
                if on_its_way and opted_out and not self.at(place):
                    each.opt_outs[place] = self.time  # it opted out while the call was on its way
            each.left |= former
            each.places = {email} if heard else {email, *former}

    def lowered(self, email: str, status: str) -> None:
        """A write of ours took consent away."""
        if level(status) < level(self.words.get(email)):
            self.words[email] = status

    def settle(self, statuses: Mapping[str, str]) -> None:
        """A run without a disturbance has dealt with everything that was known before it."""
        for each in self.customers.values():
            email = each.email
            here = statuses.get(email or "") not in (None, "archived", "forgotten")
            if email is None or each not in self.at(email):
                continue
            refused = self.words.get(email) in (*REMOVED, "moved")
            if (here or refused) and email not in self.suppressed:
                each.left |= each.places - {email}
                each.places = {email}
            each.opt_outs = self.standing_opt_outs(each)
        for email, status in statuses.items():
            if status in (*LEVEL, "unsubscribed"):
                self.lowered(email, status)

    def forgets(self, email: str) -> None:
        """The firm erases the person at ``email``: those who share it are one person."""
        self.suppressed.add(email)
        for each in self.customers.values():
            if email == each.email or email in each.places:
                each.erased = each.erased or email == each.email
                each.perhaps_erased = True
                had = each.places | each.left | {each.email or email}
                self.barred |= had | {self.end_of(place) for place in had}

    # ── what may be ───────────────────────────────────────────────────────────────────────────

    def at(self, email: str | None) -> list[Customer]:
        """The customers who live at an address."""
        return [
            each
            for each in self.customers.values()
            if each.active and not each.gone and not each.erased
            if email is not None and each.email == email
        ]

    def end_of(self, email: str) -> str:
        """Follow a member to the address it took in Mailchimp."""
        passed = {email}
        while self.words.get(email) == "moved" and self.moved_to[email] not in passed:
            email = self.moved_to[email]
            passed.add(email)
        return email

    def travels(self, place: str) -> str:
        """The status with which a person who leaves ``place`` arrives at a new address."""
        word = self.words.get(self.end_of(place))
        if place in self.suppressed or word in (*REMOVED, *OPT_OUTS):
            return "unsubscribed"
        return word if word in ("pending", "transactional") else self.setting

    def standing_opt_outs(self, each: Customer) -> dict[str, int]:
        """The opt-outs that no later sign-up at the present address overruled."""
        since = self.signed_up.get(each.email or "", 0)
        return {email: at for email, at in each.opt_outs.items() if at > since}

    def brought(self, each: Customer) -> int:
        """The level that a customer brings along to an address where nobody is known yet.

        One who returns to the contact that it left alone finds what it had there.
        """
        if self.standing_opt_outs(each):
            return 0
        levels = [level(self.travels(place)) for place in each.places if place != each.email]
        returns = each.email is not None and each.places == {each.email}
        had = level(self.words.get(each.email or "")) if returns else level(self.setting)
        return max(levels, default=had)

    def ceiling(self, email: str) -> int:
        """The most that a write of ours may make of ``email``."""
        if email in self.suppressed:
            return 0
        levels = [self.brought(each) for each in self.at(email)]
        if email in self.words:
            levels.append(level(self.words[email]))
        return min(levels, default=0)

    def allowed(self, email: str) -> int:
        """The most that ``email`` may be once a run without a disturbance is over."""
        there = self.at(email)
        if there and all(self.standing_opt_outs(each) for each in there):
            return 0
        return level(self.words.get(email))

    def may_be_absent(self, email: str) -> bool:
        """Whether ``email`` may be no contact although an active customer has it."""
        return (
            email in self.barred
            or any(each.perhaps_erased for each in self.at(email))
            or self.words.get(email) in (*REMOVED, "moved")
            or any(
                self.words.get(self.end_of(place)) in (*REMOVED, "moved") or place in self.barred
                for each in self.at(email)
                for place in each.places
            )
        )

    def snapshot(self) -> "Consent":
        """Return a copy."""
        return copy.deepcopy(self)
