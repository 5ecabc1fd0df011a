"""Consent, checked step by step against the model of ``consent_model``.

Customers, members, marketers and clocks act in any order and at any boundary inside a run, calls
fail, and workers die. After every step nobody is mailed more than the model allows, every audit row
says what its call met, and in the end both sides agree and nothing is left to write.
"""

import itertools
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from ml_connector.audit import trail
from ml_connector.audit.trail import Selection
from ml_connector.errors import ConnectorError
from ml_connector.replay import replay
from ml_connector.scope import Scope
from ml_connector.sync import fetch_customers, fetch_members, guard, planner
from ml_connector.sync.planner import Planned
from ml_connector.wire.transport import Response, Transport
from sandbox.mailchimp import payloads
from sandbox.mailchimp.changes import Change
from sandbox.mailchimp.members import subscriber_hash
from sandbox.quickbooks.company import Event
from sandbox.quickbooks.webhook_format import Notice, render
from tests.integration.company import REALM, Company
from tests.integration.consent_model import OPT_OUTS, Consent, level
from tests.integration.consent_watch import (
    Call,
    Held,
    Observations,
    Servers,
    Watched,
    written_emails,
)
from tests.integration.test_forget import erase
from tests.integration.traces import dumped, forms, found

ADDRESSES = [f"{name}@model-mail.net" for name in ("ada", "bo", "cy", "di", "eva", "flo")]
CUSTOMERS = 3
MOST_CUSTOMERS = 5
LIVE = ("subscribed", "pending", "transactional", "unsubscribed", "cleaned")

SEQUENCES = int(os.environ.get("CONSENT_SEQUENCES", "40"))
"""Of each batch contract in CI; `make torture` takes more."""
ENOUGH = 200
"""From this many sequences on, whatever never fired fails the check."""

STEPS = 15

numbers = st.integers(0, 999)
skews = st.sampled_from([0, -120, 120, -2700, 2700])

EDITS = ("edit a field", "edit tags")
ACTS_OF_THE_BOOKKEEPER = ("move", "rename", "leave or return", "merge", "new customer")
ACTS_OF_PEOPLE = (
    *("unsubscribe", "bounce", "complain", "confirm", "archive", "delete"),
    *("change address", "sign up"),
)

FAULTS: dict[str, dict[str, Any]] = {
    "lost before": {"kind": "drop", "when": "before"},
    "lost after": {"kind": "drop", "when": "after"},
    "429": {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}},
    "500": {"kind": "status", "status": 500},
    "503": {"kind": "html", "status": 503},
}


ANSWERS = ("approved", "approved late", "rejected", "unanswered")
FATES = ("in order", "in order", "out of order", "twice", "late", "lost", "process later")
SPELLINGS = (
    *("one by one", "grouped", "grouped legacy"),
    *("legacy", "legacy deletedID", "legacy nameless"),
)

Act = tuple[str, Callable[[], None]]
"""A kind of act, and how to do it now."""


class Killed(BaseException):
    """The worker dies here: no handler of the product catches this."""


@dataclass(frozen=True)
class Where:
    """A boundary inside a run: the ``nth`` call of a system, or the ``nth`` commit.

    ``writing`` counts calls that write only. ``after``: once the call was applied, before its
    response is heard.
    """

    kind: str
    writing: bool
    after: bool
    nth: int

    def fits(self, call: Call | None, *, after: bool) -> bool:
        if call is None:
            return self.kind == "commit"
        same = self.kind in (call.system, "call") and self.after == after
        return same and (call.writes or not self.writing)


@dataclass(frozen=True)
class Disturbance:
    """What happens at a boundary: ``act`` (by number), ``kill`` or a fault, which may ``last``."""

    where: Where
    what: str
    number: int = 0
    lasts: bool = False


wheres = st.builds(
    Where,
    kind=st.sampled_from(["mailchimp", "mailchimp", "call", "quickbooks", "commit"]),
    writing=st.booleans(),
    after=st.booleans(),
    nth=st.sampled_from([0, 0, 1, 1, 2, 3, 5]),
)
disturbances = st.builds(
    Disturbance,
    where=wheres,
    what=st.sampled_from(["act", "act", "kill", *FAULTS]),
    number=numbers,
    lasts=st.booleans(),
)
disturbed = st.lists(disturbances, max_size=2)


@dataclass
class Book:
    """A customer as QuickBooks has it."""

    name: str
    email: str | None
    active: bool = True
    gone: bool = False


@dataclass
class Letter:
    """A webhook on its way: ``change`` of Mailchimp or ``notice`` of QuickBooks."""

    change: tuple[bytes, str, str, str] | None = None
    notice: Notice | None = None


class Machine(RuleBasedStateMachine):
    """One company and one audience. ``open_company`` opens a fresh one."""

    open_company: Callable[[], Any]
    servers: Servers
    contract: str
    fired: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._context = self.open_company()
        self.company: Company = self._context.__enter__()
        self.company.threads = 1
        self.company.around = self._watched
        self.company.clock = self._clock  # type: ignore[method-assign]
        self.model = Consent()
        self.books: dict[str, Book] = {}
        self.names = itertools.count(1)
        self.time = time.time()
        self.tick = 0.0
        for server in (self.servers.mailchimp, self.servers.quickbooks):
            server.clock.source = lambda: self.time
        self.servers.mailchimp.account.changes.listeners.append(self._mail_of_mailchimp)
        self.servers.quickbooks.state.company.listeners.append(self._mail_of_quickbooks)
        self.mail: list[Letter] = []
        self.inbox: list[Letter] = []
        self.observations = Observations()
        self.edited: dict[str, set[str]] = {}
        self.touched: set[str] = set()
        self.signed_up: set[str] = set()
        self.erased: set[str] = set()
        self.erasing: tuple[str, bool] | None = None
        self.lived: dict[str, set[str]] = {}
        self.held: tuple[Scope, Planned] | None = None
        self.audited = 0
        self.seen: dict[str, int] = {}
        self.log: list[str] = []
        self._plan([])
        self.watching = False
        self._watch_commits()

    # ── the world ─────────────────────────────────────────────────────────────────────────────

    def _clock(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC) + self.company.ahead

    def _watched(self, system: str, transport: Transport) -> Transport:
        return Watched(transport, system, self._before, self._after)

    def _watch_commits(self) -> None:
        """Make every commit of the connector a boundary."""
        database = self.company.database
        self._begin = database.begin
        database._engine.pool._pre_ping = False  # a quarter of all statements

        @contextmanager
        def begin(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with self._begin(*args, **kwargs) as connection:
                yield connection
            self._boundary(None, after=True)

        database.begin = begin  # type: ignore[method-assign]

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None and self.books:
                self._end()
        finally:
            note("\n".join(self.log))
            del self.company.database.begin
            changes = self.servers.mailchimp.account.changes.listeners
            changes.remove(self._mail_of_mailchimp)
            self.servers.quickbooks.state.company.listeners.remove(self._mail_of_quickbooks)
            for server in (self.servers.mailchimp, self.servers.quickbooks):
                server.clock.source = time.time
            self._context.__exit__(None, None, None)

    @initialize(
        setting=st.sampled_from(["subscribed", "subscribed", "pending", "transactional"]),
        on_inactive=st.sampled_from(["archive", "archive", "keep", "tag"]),
        tick=st.sampled_from([0.0, 0.4, 1.0]),
        skew=st.tuples(skews, skews),
        shared=st.booleans(),
    )
    def begin(
        self, setting: str, on_inactive: str, tick: float, skew: tuple[int, int], shared: bool
    ) -> None:
        self.company.settings |= {"new_contact_status": setting, "on_inactive": on_inactive}
        self.model.setting = setting
        self.tick = tick
        self.servers.mailchimp.account.settings.change({"batch_contract": self.contract})
        self.servers.mailchimp.clock.offset_seconds = skew[0]
        self.servers.quickbooks.clock.offset_seconds = skew[1]
        for number in range(CUSTOMERS):
            self._new_customer(ADDRESSES[number - (shared and number == CUSTOMERS - 1)])
        self._daily_run([])

    # ── boundaries inside a run ───────────────────────────────────────────────────────────────

    def _plan(self, planned: Sequence[Disturbance]) -> None:
        self.planned = list(planned)
        self.counts: Counter[Where] = Counter()
        self.calm = True
        self.reading = True
        self.fresh: dict[str, tuple[str | None, str | None]] = {}
        self.unseen: set[str] = set()
        self.since_look: dict[str, str] = {}
        self.hidden: dict[str, str] = getattr(self, "hidden", {})

    def _boundary(self, call: Call | None, *, after: bool) -> None:
        if not self.watching:
            return
        self.time += self.tick
        for each in list(self.planned):
            if each.what in FAULTS or not each.where.fits(call, after=after):
                continue
            self.counts[each.where] += 1
            if self.counts[each.where] <= each.where.nth:
                continue
            self.planned.remove(each)
            self.calm = False
            side = "commit" if call is None else f"{'after' if after else 'before'} a call"
            self.fired[f"{each.what}: {side}"] += 1
            self.log.append(f"  {each.what} at {side}")
            if each.what == "kill":
                raise Killed
            self._act(each.number, "inside")

    def _before(self, call: Call) -> None:
        self._boundary(call, after=False)
        known = list(self.model.words)
        self.met = {email: self.servers.held(email) for email in written_emails(call, known)}

    def _after(self, call: Call, response: Response | None) -> None:
        told = "no response" if response is None else response.status
        self.log.append(
            f"    {call.system} {call.method} {call.path[-60:]} {list(self.met)} {told}"
        )
        if call.system == "mailchimp":
            self._judge(call, response)
        elif response is not None and response.status == 200 and self.reading:
            self._customers_were_read(call, response)
        self._boundary(call, after=True)

    # ── what the connector reads and writes ───────────────────────────────────────────────────

    def _customers_were_read(self, call: Call, response: Response) -> None:
        statement = f"{call.params.get('query', '')}{call.body or ''}"
        if call.path.endswith("/cdc"):
            ids = [each for each, book in self.books.items() if book.gone]
        elif "FROM Customer " not in statement or "COUNT(*)" in statement:
            return
        elif "Id IN (" in statement:
            ids = [each for each in self.books if f"'{each}'" in statement]
        else:
            ids = [each for each, book in self.books.items() if not book.gone]
        for each in ids:
            self._is_read(each)

    def _is_read(self, customer_id: str) -> None:
        book = self.books[customer_id]
        self.model.reads(customer_id, book.email, active=book.active, gone=book.gone)

    def _judge(self, call: Call, response: Response | None) -> None:
        """Hold what a call did to what the model allows, and note what it showed."""
        last = self.servers.mailchimp.journal.calls[-1]
        self._check_statuses()
        if call.writes:
            self._note_write(call, response, applied=last.applied)
        elif response is not None and response.status == 200 and call.lists_members:
            archived = call.params.get("status") == "archived"
            for member in self.servers.audience.by_contact_id.values():
                if (member.status == "archived") == archived:
                    self._look(member.email_address)
        elif response is not None and response.status in (200, 404) and call.handle:
            self._look_at(call.handle)

    def _look(self, email: str) -> None:
        self.model.linked.add(email)
        self.unseen.discard(email)
        self.observations.observe(email, self.servers.held(email))

    def _look_at(self, handle: str) -> None:
        """A single read shows one member, and where it went from its former addresses."""
        email = self.servers.address_of(handle)
        words = self.model.words
        if email is None:
            found = [each for each in words if handle == subscriber_hash(each)]
        else:
            found = [each for each in words if self.model.end_of(each) == email]
            if self.servers.held(email) is not None:
                self._look(email)
        for each in found:
            self.fresh[each] = (words.get(each), self.model.moved_to.get(each))
            self.since_look.pop(each, None)

    def _ceiling(self, email: str) -> int:
        """The most that a write may make of ``email``: by what is so, or by what it could know.

        A contact that a person is brought from counts as it was at the last single read in this
        run, any other opt-out as it was at the last read of its address.
        """
        known = self.model.snapshot()
        for each, (word, moved_to) in self.fresh.items():
            if word is None:
                known.words.pop(each, None)
            else:
                known.words[each] = word
            if moved_to is not None:
                known.moved_to[each] = moved_to
        if email in self.model.words:
            known.words[email] = self.model.words[email]
        for customer in known.customers.values():
            for source in self.unseen:
                customer.opt_outs.pop(source, None)
        return max(known.ceiling(email), self.model.ceiling(email))

    def _check_statuses(self) -> None:
        """Check each status that a call of ours set."""
        for member in self.servers.members():
            new = member.status_changes[self.seen.get(member.contact_id, 0) :]
            if not new:
                continue
            self.seen[member.contact_id] = len(member.status_changes)
            email = member.email_address
            for change in new:
                if change.by != "api" or change.after == "forgotten":
                    continue
                if change.after == "archived":
                    self._was_archived(email, change.before)
                elif level(change.after) > level(change.before):
                    allowed = self._ceiling(email)
                    assert level(change.after) <= allowed, (
                        f"{email}: {change.before!r} became {change.after}, allowed is {allowed}"
                    )
                    assert self.model.words.get(email) != "moved", f"{email} was created anew"
                else:
                    self.model.lowered(email, change.after)

    def _was_archived(self, email: str, before: str) -> None:
        """An opt-out between the read and the archive shows in no status: only a webhook tells."""
        word = self.since_look.pop(email, None)
        if word is None or before != "unsubscribed" or not level(word):
            return
        self.fired["opt-out hidden by an archive"] += 1
        self.hidden[email] = self.model.words[email]
        self.model.words[email] = word
        for customer in self.model.customers.values():
            customer.opt_outs.pop(email, None)

    def _note_write(self, call: Call, response: Response | None, *, applied: bool) -> None:
        if not applied or (response is not None and response.status >= 400):
            return
        request_id = (response.headers.get("x-request-id") if response else None) or ""
        for email, before in self.met.items():
            self.observations.meet(request_id, email, before)
            held = self.servers.held(email)
            if response is not None:
                self.observations.observe(email, held)
            if held is None or held.status == "archived":
                continue
            self.touched.add(email)
            if call.method != "DELETE" and not call.path.endswith("/tags"):
                self.model.wrote(email, held.status, heard=response is not None)
                shown = self._shown_by(call)
                self.edited[email] = self.edited.get(email, set()) - shown.get(email, set())

    def _shown_by(self, call: Call) -> dict[str, set[str]]:
        """The merge fields that a write sends, by address."""
        body = call.body if isinstance(call.body, dict) else {}
        rows = body.get("members", [body])
        emails = list(self.met) if call.handle else [each["email_address"].lower() for each in rows]
        return {
            email: set(row.get("merge_fields", {}))
            for email, row in zip(emails, rows, strict=False)
        }

    # ── one operation of the connector ────────────────────────────────────────────────────────

    @contextmanager
    def _operation(self, name: str, planned: Sequence[Disturbance]) -> Iterator[None]:
        """Let the connector work; every planned disturbance fires, or its act follows at the end."""
        self.log.append(f"{name}:")
        self.fired[name] += 1
        self._plan(planned)
        self.servers.clear()
        known = {email: list(held) for email, held in self.observations.latest.items()}
        for each in planned:
            if each.what in FAULTS:
                self._install(each)
        self.watching = True
        try:
            yield
        except Killed:
            self.calm = False
            self.broken(known)
        except ConnectorError as error:
            self.calm = False
            self.fired[f"ended by {type(error).__name__}"] += 1
            self.broken(known)
        finally:
            self.watching = False
            self._count_faults(planned)
        self._check_statuses()
        self._check_audit()
        for each in self.planned:
            if each.what == "act":
                self._act(each.number, "after a run")
        if self.calm:
            self.fired[f"{name}: calm"] += 1

    def broken(self, known: dict[str, list[Held | None]]) -> None:
        """What a worker saw and did not commit is lost: both states may be its last one."""
        for email, states in known.items():
            for held in states:
                self.observations.observe(email, held, surely=False)

    def _install(self, each: Disturbance) -> None:
        system = "mailchimp" if each.where.kind in ("commit", "call") else each.where.kind
        server = self.servers.mailchimp if system == "mailchimp" else self.servers.quickbooks
        match: dict[str, str] = {"path": "^/(3.0|v3)/"}
        if each.where.writing:
            match = {"path": "/batch$"} if system == "quickbooks" else {"method": "(?!GET).*"}
        first = each.where.nth + 1
        nth = list(range(first, first + (5 if each.lasts else 1)))
        server.faults.add({"match": match, "nth": nth, "action": FAULTS[each.what]})

    def _count_faults(self, planned: Sequence[Disturbance]) -> None:
        for each in planned:
            if each.what in FAULTS:
                self.fired[f"{each.what}: planned"] += 1
        for name, server in self.servers.by_name.items():
            for fault in server.faults.rules:
                if fault.fired:
                    self.calm = False
                    what = next(w for w, how in FAULTS.items() if _shows(fault.spec.action, how))
                    self.fired[f"{what}: {name}{', lasting' if fault.fired > 1 else ''}"] += 1
            server.faults.clear()

    def _check_audit(self) -> None:
        with self._begin() as connection:
            new = connection.execute(
                text("SELECT count(*), max(id) FROM ml_connector.audit WHERE id > :last"),
                {"last": self.audited},
            ).one()
        if new[0]:
            rows = trail.iter_entries(self._begin, vault=self.company.vault, newest=new[0])
            for row in rows:
                if row["id"] > self.audited:
                    self.observations.check(row)
            self.audited = new[1]

    # ── what people, marketers and the bookkeeper do ──────────────────────────────────────────

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
            yield from (("merge", partial(self._merge, each, other)) for other in others)
        if len(here) < MOST_CUSTOMERS:
            yield from (("new customer", partial(self._new_customer, e)) for e in ADDRESSES)

    def _act(self, number: int, when: str, kinds: Sequence[str] = ()) -> None:
        acts = self._acts(kinds) or self._acts()
        kind = sorted(acts)[number % len(acts)]
        self.fired[f"{kind} ({when})"] += 1
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
        if email in self.fresh:
            self.since_look.setdefault(email, self.model.words.get(email, ""))
        if word in OPT_OUTS:
            self.unseen.add(email)
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

    def _merge(self, survivor: str, loser: str) -> None:
        body = {"survivor": survivor, "loser": loser}
        self.log.append(f"customer {loser} is merged into {survivor}")
        self.company.quickbooks_control("POST", "customers/merge", body)
        self.books[loser].gone = True

    @rule(number=numbers, editing=st.sampled_from([False, False, True]))
    def a_person_or_a_marketer_acts(self, number: int, editing: bool) -> None:
        kinds = EDITS if editing else ACTS_OF_PEOPLE
        self._act(number, "between runs", kinds)

    @rule(number=numbers)
    def the_bookkeeper_acts(self, number: int) -> None:
        self._act(number, "between runs", ACTS_OF_THE_BOOKKEEPER)

    @rule(number=numbers)
    def a_customer_moves(self, number: int) -> None:
        self._act(number, "between runs", ("move",))

    @rule(passing=st.sampled_from([None, 1, 25 * 60]), skew=skews)
    def a_clock_moves(self, passing: int | None, skew: int) -> None:
        if passing is None:
            self.fired["the worker's clock is set"] += 1
            self.company.ahead = timedelta(seconds=skew)
        else:
            self.fired[f"{passing} s pass"] += 1
            self.time += passing

    # ── runs ──────────────────────────────────────────────────────────────────────────────────

    def _daily_run(self, planned: Sequence[Disturbance], *, full: bool = False) -> None:
        with self._operation("full run" if full else "daily run", planned):
            self.company.sync(full_sync=full, before_write_back=self._stop_reading)
        if self.calm:
            self._nobody_is_mailed_more_than_allowed()
            self.model.settle(self.servers.statuses())

    def _stop_reading(self) -> None:
        """From here on customers are read for their Notes, and nothing else of them is kept."""
        self.reading = False

    def _nobody_is_mailed_more_than_allowed(self) -> None:
        for email, status in self.servers.statuses().items():
            allowed = self.model.allowed(email)
            assert level(status) <= allowed, f"{email} is {status}, allowed is {allowed}"

    @precondition(lambda self: self.held is None)
    @rule(planned=disturbed, full=st.sampled_from([False, False, False, True]))
    def a_run(self, planned: list[Disturbance], full: bool) -> None:
        self._daily_run(planned, full=full)

    @precondition(lambda self: self.held is None)
    @rule(number=numbers, where=wheres, act=numbers)
    def a_person_acts_at_the_address_that_a_customer_leaves(
        self, number: int, where: Where, act: int
    ) -> None:
        self._daily_run([])
        self._act(number, "between runs", ("move",))
        self._daily_run([Disturbance(where, "act", act)])

    def _preview(self, full: bool) -> None:
        before = {email: self.servers.held(email) for email in self.servers.statuses()}
        with self._operation("preview", []):
            self.company.sync(full_sync=full, preview=True)
        assert self.servers.writes() == []
        assert before == {email: self.servers.held(email) for email in self.servers.statuses()}

    # ── plans that wait for an approval ───────────────────────────────────────────────────────

    @precondition(lambda self: self.held is None)
    @rule(number=numbers)
    def a_plan_is_held(self, number: int) -> None:
        self._act(number, "between runs", ("move", "rename", "leave or return", "new customer"))
        limits = {"max_archives": 0, "max_archive_share": 0, "max_updates": 0}
        self.company.settings["guard"] = limits
        with self._operation("plan", []):
            scope = self.company.scope()
            planned = self.company.decide(scope)
            if guard.hold_plan(scope, plan_id=planned.plan_id):
                self.fired["plan held"] += 1
                self.held = scope, planned
            else:
                self._finish(scope, planned, again=True)

    def _finish(self, scope: Scope, planned: Planned, *, again: bool) -> None:
        self.company.push(scope, planned, again=again)
        self.company.archive(scope, planned)
        self._stop_reading()
        self.company.write_back(scope)
        self.company.report(scope, planned)

    @precondition(lambda self: self.held is not None)
    @rule(
        answer=st.sampled_from(ANSWERS),
        planned=disturbed,
    )
    def the_plan_is_answered(self, answer: str, planned: list[Disturbance]) -> None:
        assert self.held is not None
        (scope, plan), self.held = self.held, None
        if answer == "approved late":
            self.company.let_decisions_age()
        with self._operation(f"plan {answer}", planned):
            if answer.startswith("approved"):
                guard.approve(scope, plan_id=plan.plan_id, person="ann")
                self._finish(scope, plan, again=False)
            else:
                person = "ann" if answer == "rejected" else ""
                guard.reject(scope, plan_id=plan.plan_id, person=person)
                self.company.report(scope, plan)
                assert self.servers.writes() == []
        self.company.settings.pop("guard")

    # ── webhooks ──────────────────────────────────────────────────────────────────────────────

    def _mail_of_mailchimp(self, change: Change) -> None:
        if change.member is not None and change.by != "api":
            action = change.details.get("action", "")
            body = payloads.encode(change)
            self.mail.append(Letter((body, change.type, change.member.email_address, action)))

    def _mail_of_quickbooks(self, event: Event) -> None:
        operations = {"Create": "created", "Update": "updated", "Merge": "merged"}
        notice = Notice(
            id=f"n{next(self.names)}",
            operation="deleted" if event.inactivated else operations[event.operation],
            customer=str(event.id),
            at=event.at,
            deleted_id=None if event.deleted_id is None else str(event.deleted_id),
        )
        self.mail.append(Letter(notice=notice))

    def _deliver(self, letters: Sequence[Letter], how: str, times: int = 1) -> None:
        """Bring letters to the inbox; ``how`` spells the events of QuickBooks."""
        for _ in range(times):
            notices = [each.notice for each in letters if each.notice is not None]
            grouped = how.startswith("grouped")
            for some in [notices] if grouped else [[each] for each in notices]:
                if some:
                    kind = "legacy" if "legacy" in how else "cloudevents"
                    body = render(some, kind=kind, realm=REALM)
                    if how.endswith("deletedID"):
                        body = body.replace(b'"deletedId"', b'"deletedID"')
                    if how.endswith("nameless"):
                        body = body.replace(b'"deletedId"', b'"other"')
                    self.company.deliver_from_quickbooks(body)
            for each in letters:
                if each.change is not None:
                    self.company.deliver_from_mailchimp(each.change[0])
        self.inbox += letters

    @precondition(lambda self: self.mail)
    @rule(
        fate=st.sampled_from(FATES),
        how=st.sampled_from(SPELLINGS),
        planned=disturbed,
    )
    def webhooks_arrive(self, fate: str, how: str, planned: list[Disturbance]) -> None:
        self.fired[f"webhooks {fate}"] += len(self.mail)
        self.fired[f"webhooks {how}"] += len(self.mail)
        letters, self.mail = self.mail, []
        if fate == "lost":
            return
        if fate == "late":  # the newest first, the others with a later delivery
            letters, self.mail = letters[-1:], letters[:-1]
        if fate == "out of order":
            letters = letters[::-1]
        self._deliver(letters, how, times=2 if fate == "twice" else 1)
        if fate != "process later":
            self._process_inbox(planned)

    @precondition(lambda self: self.inbox)
    @rule(planned=disturbed)
    def the_inbox_is_processed(self, planned: list[Disturbance]) -> None:
        self._process_inbox(planned)

    def _process_inbox(self, planned: Sequence[Disturbance]) -> None:
        self.company.make_due()
        for each in self.inbox:
            if each.notice is not None and each.notice.deleted_id in self.books:
                self._is_read(each.notice.deleted_id)
        with self._operation("inbox", planned):
            self.company.work_off()
        if not self.calm:
            return
        for each in self.inbox:
            if each.change is None:
                continue
            _, kind, email, action = each.change
            if kind == "unsubscribe" and action == "unsub" and email in self.hidden:
                self.fired["hidden opt-out told by its webhook"] += 1
                self.model.person_sets(email, self.hidden.pop(email))
        self.inbox = []

    # ── replays and erasures ──────────────────────────────────────────────────────────────────

    @rule(
        what=st.sampled_from(["preview", "replay", "erasure"]),
        number=numbers,
        flag=st.booleans(),
        planned=disturbed,
    )
    def something_rare(
        self, what: str, number: int, flag: bool, planned: list[Disturbance]
    ) -> None:
        if what == "preview" and self.held is None:
            self._preview(flag)
        elif what == "erasure" and self.erasing is None and self._known_addresses():
            self._begin_erasure(number, flag, planned)
        else:
            self._replay(number, flag, planned)

    def _replay(self, number: int, failed: bool, planned: Sequence[Disturbance]) -> None:
        with self._begin() as connection:
            ids = connection.execute(
                text("SELECT id FROM ml_connector.audit ORDER BY id")
            ).scalars()
            every = list(ids)
            chosen = (
                Selection(failed=True) if failed else Selection(ids=[every[number % len(every)]])
            )
            rows = trail.select(connection, chosen)
        if not rows:
            failed, rows = False, []
            with self._begin() as connection:
                rows = trail.select(connection, Selection(ids=every[-3:]))
        with self._operation("replay of failed rows" if failed else "replay of rows", planned):
            replay(self.company.open_sync(), rows)

    def _known_addresses(self) -> list[str]:
        customers = self.model.customers.values()
        return [each.email for each in customers if each.email and not each.gone]

    def _begin_erasure(self, number: int, delete: bool, planned: Sequence[Disturbance]) -> None:
        known = self._known_addresses()
        email = known[number % len(known)]
        for each, customer in self.model.customers.items():
            if email == customer.email or email in customer.places:
                self.erased.add(each)
        self.model.forgets(email)
        self.erasing = (email, delete)
        self._erase(planned)

    def _erase(self, planned: Sequence[Disturbance]) -> None:
        assert self.erasing is not None
        email, delete = self.erasing
        with self._operation("erasure", planned):
            self.reading = False
            erase(self.company, email, delete=delete)

    # ── the end of a sequence ─────────────────────────────────────────────────────────────────

    @invariant()
    def nothing_is_left_open(self) -> None:
        assert not self.watching

    def _end(self) -> None:
        """After two quiet days nothing is written, both sides agree, the erased are nowhere."""
        if self.held is not None:
            self.the_plan_is_answered("unanswered", [])
        if self.erased:
            self._erase([])
        self._daily_run([])
        self._daily_run([])
        assert self.calm
        assert self.servers.writes() == [], "a second quiet day wrote"
        self._both_sides_agree()
        if self.erased:
            self._the_erased_are_nowhere()

    def _both_sides_agree(self) -> None:
        living: dict[str, list[Book]] = {}
        for each in sorted(self.books, key=int):
            book = self.books[each]
            if book.email and book.active and not book.gone and each not in self.erased:
                living.setdefault(book.email, []).append(book)
        for email, books in living.items():
            self._is_shown(email, books[0])
        for email, status in self.servers.statuses().items():
            if email not in living and status in ("subscribed", "transactional", "unsubscribed"):
                assert self._may_stay(email), f"{email} is {status} and belongs to no customer"

    def _is_shown(self, email: str, owner: Book) -> None:
        """The address of a customer is a contact that shows the customer, unless the model bars it."""
        held = self.servers.held(email)
        if self.model.may_be_absent(email):
            return
        assert held is not None, f"{email} is missing"
        assert held.status != "archived", f"{email} is archived"
        if "FNAME" not in self.edited.get(email, set()):
            shown = dict(held.fields).get("FNAME")
            assert shown == owner.name, f"{email} shows {shown}, not {owner.name}"

    def _may_stay(self, email: str) -> bool:
        """Whether a contact without a customer may stay in the audience."""
        keeping = self.company.settings["on_inactive"] != "archive"
        kept = keeping and any(b.email == email and not b.gone for b in self.books.values())
        waiting = any(
            email in each.places and each.email != email for each in self.model.customers.values()
        )
        not_ours = email not in self.touched or email in self.signed_up
        return kept or waiting or not_ours or email in self.model.suppressed

    def _the_erased_are_nowhere(self) -> None:
        """A contact that others live at as well may still show the name of a former owner."""
        shared = set().union(*(ids for ids in self.lived.values() if len(ids) > 1))
        names = {self.books[each].name for each in self.erased - shared}
        if names:
            self.fired["erased people looked for"] += 1
            needles = {form for name in names for form in forms(name)}
            assert found(dumped(self.company), needles) == []


def _shows(action: Any, how: dict[str, Any]) -> bool:
    return bool(msgspec.to_builtins(action) | how == msgspec.to_builtins(action))


def check(fresh_company: Any, mock_apps: Any, contract: str, sequences: int) -> Counter[str]:
    """Play ``sequences`` sequences; return how often everything fired."""
    case = {
        "open_company": staticmethod(fresh_company),
        "servers": Servers(mock_apps["mailchimp"], mock_apps["quickbooks"]),
        "contract": contract,
        "fired": Counter(),
    }
    machine = type("Case", (Machine,), case)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=sequences,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="CONSENT_RANDOM" not in os.environ,
            phases=[Phase.generate] if "CONSENT_QUICK" in os.environ else list(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )
    fired: Counter[str] = machine.fired  # type: ignore[attr-defined]
    return fired


def missing(fired: Counter[str]) -> list[str]:
    """Return the kinds of acts, faults, runs and deliveries that never fired."""
    wanted = [
        *(f"{kind} (" for kind in (*ACTS_OF_PEOPLE, *ACTS_OF_THE_BOOKKEEPER, *EDITS)),
        *("act: before a call", "act: after a call", "act: commit"),
        *("kill: before a call", "kill: after a call", "kill: commit"),
        *(f"{what}: {system}" for what in FAULTS for system in ("mailchimp", "quickbooks")),
        *("daily run: calm", "full run: calm", "preview: calm", "inbox: calm", "erasure: calm"),
        *("replay of rows: calm", "replay of failed rows", "erased people looked for"),
        *("plan held", *(f"plan {answer}: calm" for answer in ANSWERS)),
        *(f"webhooks {fate}" for fate in (*FATES, *SPELLINGS)),
        *("the worker's clock is set", "1 s pass", "1500 s pass"),
    ]
    return [name for name in wanted if not any(each.startswith(name) for each in fired)]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Calls are made one after the other, in an order that a repetition has again."""
    monkeypatch.setattr(fetch_customers, "prefetch", iter)
    monkeypatch.setattr(fetch_members, "prefetch", iter)
    monkeypatch.setattr(planner, "PARALLEL_CHUNKS", 1)
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(wrapper_class=before)


@pytest.mark.parametrize("contract", ["current", "status_required"])
def test_nobody_is_mailed_more_than_the_model_of_consent_allows(fresh_company, mock_apps, contract):
    check(fresh_company, mock_apps, contract, 5)


@pytest.mark.endurance
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("contract", ["current", "status_required"])
def test_nobody_is_mailed_more_than_the_model_allows_in_many_sequences(
    fresh_company, mock_apps, contract, capsys
):
    fired = check(fresh_company, mock_apps, contract, SEQUENCES)
    lines = [f"  {number:7,}  {name}" for name, number in sorted(fired.items())]
    with capsys.disabled():
        sys.stdout.write("\n".join([f"\n{contract}, {SEQUENCES} sequences", *lines, ""]))
    assert SEQUENCES < ENOUGH or missing(fired) == [], "what never fired proves nothing"
