"""What people, marketers and the bookkeeper do, between the runs of a sequence and inside them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from tests.integration.consent_boundaries import Act
from tests.integration.consent_model import OPT_OUTS, level
from tests.integration.consent_world import Book, World

ADDRESSES = [f"{name}@model-mail.net" for name in ("ada", "bo", "cy", "di", "eva", "flo")]
CUSTOMERS = 3
MOST_CUSTOMERS = 5
LIVE = ("subscribed", "pending", "transactional", "unsubscribed", "cleaned")

EDITS = ("edit a field", "edit tags")
ACTS_OF_THE_BOOKKEEPER = (
    "move",
    "rename",
    "leave or return",
    "merge",
    "new customer",
    "traceless merge",
)
ACTS_OF_PEOPLE = (
    *("unsubscribe", "bounce", "complain", "confirm", "archive", "delete"),
    *("change address", "sign up"),
)


class Acts(World):
    """Everything listed can be done now and has an effect."""

    def _acts(self, kinds: Sequence[str] = ()) -> dict[str, list[Callable[[], None]]]:
        """What can be done now, by kind: everything listed has an effect."""
        statuses = dict(sorted(self.servers.statuses().items()))
        acts: dict[str, list[Callable[[], None]]] = {}
        listed = (self._acts_of_members, self._acts_of_marketers)
        every = itertools.chain(
            *(each(statuses) for each in listed), self._acts_of_the_bookkeeper()
        )
        for kind, act in every:
            if not kinds or kind in kinds:
                acts.setdefault(kind, []).append(act)
        return acts

    def _acts_of_members(self, statuses: dict[str, str]) -> Iterator[Act]:
        free = [each for each in ADDRESSES if each not in statuses]
        for email, status in statuses.items():
            if level(status):
                yield "unsubscribe", partial(self._person, email, "unsubscribe", "unsubscribed")
            if status in ("subscribed", "transactional"):
                yield "bounce", partial(self._person, email, "clean", "bounced")
                yield "complain", partial(self._person, email, "clean", "complained", abuse=True)
            if status == "pending":
                yield "confirm", partial(self._person, email, "confirm", "subscribed")
            if status in LIVE:
                yield "edit a field", partial(self._edit_field, email)
                yield from (
                    ("change address", partial(self._change_address, email, n)) for n in free
                )
        for email in ADDRESSES:
            if statuses.get(email) != "subscribed":
                yield "sign up", partial(self._person, email, "subscribe", "subscribed")

    def _acts_of_marketers(self, statuses: dict[str, str]) -> Iterator[Act]:
        for email, status in statuses.items():
            if status in ("subscribed", "transactional", "unsubscribed"):
                yield "archive", partial(self._person, email, "archive", "archived")
            if status != "forgotten":
                yield "delete", partial(self._person, email, "forget", "forgotten")
            if status in LIVE:
                yield "edit tags", partial(self._edit_tags, email)

    def _acts_of_the_bookkeeper(self) -> Iterator[Act]:
        here = {each: book for each, book in self.books.items() if not book.gone}
        for each, book in here.items():
            moves = [new for new in (None, *ADDRESSES) if new != book.email]
            yield from (("move", partial(self._move, each, new)) for new in moves)
            yield "rename", partial(self._rename, each)
            yield "leave or return", partial(self._activate, each, not book.active)
            others = [other for other in here if other != each and len(here) > 2]
            for other in others:
                yield "merge", partial(self._merge, each, other)
                yield "traceless merge", partial(self._merge, each, other, tombstone=False)
        if len(here) < MOST_CUSTOMERS:
            yield from (("new customer", partial(self._new_customer, e)) for e in ADDRESSES)

    def _act(self, number: int, when: str, kinds: Sequence[str] = ()) -> None:
        acts = self._acts(kinds) or self._acts()
        kind = sorted(acts)[number % len(acts)]
        self.fired[f"{kind} ({when})"] += 1
        self.settled = False
        acts[kind][number // len(acts) % len(acts[kind])]()
        self._remember()

    def _remember(self) -> None:
        """Changes by people are no writes of ours."""
        for member in self.servers.members():
            self.seen[member.contact_id] = len(member.status_changes)

    def _person(self, email: str, action: str, word: str, **body: Any) -> None:
        self.log.append(f"{email}: {action} ({word})")
        if self.servers.statuses().get(email) in ("pending", "cleaned"):
            self.touched.discard(email)  # Mailchimp archives none: left, and not tried again (A16b)
        self.company.person(email, action, **body)
        self.hidden.pop(email, None)
        for sight in self.sights:
            if email in sight.fresh:
                sight.since_look.setdefault(email, self.model.words.get(email, ""))
            if word in OPT_OUTS:
                sight.unseen.add(email)
        self.model.person_sets(email, word)
        if level(word):
            self.signed_up.add(email)

    def _change_address(self, old: str, new: str) -> None:
        self.log.append(f"{old} becomes {new}")
        self.company.person(old, "upemail", email_address=new)
        self.model.member_moves(old, new)
        self.edited[new] = {"FNAME", "LNAME"}
        self.signed_up.add(new)

    def _edit_field(self, email: str) -> None:
        fields = {"FNAME": f"Edited {next(self.names)}"}
        self.log.append(f"{email}: {fields}")
        self.company.person(email, "profile", merge_fields=fields)
        self.edited.setdefault(email, set()).add("FNAME")

    def _edit_tags(self, email: str) -> None:
        held = self.servers.held(email)
        there = held is not None and "QuickBooks" in held.tags
        self.log.append(f"{email}: tag {'off' if there else 'on'}")
        self.company.person(email, "tags", **{"remove" if there else "add": ["QuickBooks"]})

    def _new_customer(self, email: str) -> None:
        name = f"Given{next(self.names)}q"
        customer_id = self.company.customer(name, email)
        self.books[customer_id] = Book(name, email)
        self.lived.setdefault(email, set()).add(customer_id)
        self.log.append(f"new customer {max(self.books, key=int)} {name} at {email}")

    def _move(self, customer_id: str, email: str | None) -> None:
        self.log.append(f"customer {customer_id} moves to {email}")
        self.company.move(customer_id, email)
        self.books[customer_id].email = email
        self.lived.setdefault(email or "", set()).add(customer_id)

    def _rename(self, customer_id: str) -> None:
        name = f"Given{next(self.names)}q"
        self.log.append(f"customer {customer_id} is called {name}")
        self.company.edit(customer_id, GivenName=name)
        self.books[customer_id].name = name

    def _activate(self, customer_id: str, active: bool) -> None:
        self.log.append(f"customer {customer_id} active: {active}")
        self.company.edit(customer_id, Active=active)
        self.books[customer_id].active = active

    def _merge(self, survivor: str, loser: str, *, tombstone: bool = True) -> None:
        body = {"survivor": survivor, "loser": loser, "tombstone": tombstone}
        self.log.append(f"customer {loser} is merged into {survivor}, tombstone: {tombstone}")
        self.company.quickbooks_control("POST", "customers/merge", body)
        self.books[loser].gone = True
        if not tombstone:
            self.traceless.add(loser)
