"""The connector inside a sequence: every call and commit is a boundary, every write is judged."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from sqlalchemy import text

from ml_connector.audit import trail
from ml_connector.errors import ConnectorError
from ml_connector.scope import Scope
from ml_connector.sync.planner import Planned
from ml_connector.wire.transport import Response, Transport
from sandbox.mailchimp import payloads
from sandbox.mailchimp.changes import Change
from sandbox.mailchimp.members import subscriber_hash
from sandbox.quickbooks.company import Event
from sandbox.quickbooks.webhook_format import Notice
from tests.integration.company import Company
from tests.integration.consent_boundaries import FAULTS, Disturbance, Killed
from tests.integration.consent_model import Consent, level
from tests.integration.consent_watch import (
    Call,
    Held,
    Observations,
    Servers,
    Watched,
    written_emails,
)
from tests.integration.in_process import InProcess

INTERRUPTIBLE = ("daily run", "full run", "plan approved", "plan approved late")
"""Operations inside which webhooks are processed."""


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


@dataclass
class Sight:
    """What one worker has seen since it began.

    ``fresh``: word and move of each address as a single read showed them. ``since_look``: words that
    a person replaced after such a read. ``unseen``: opt-outs that no read has shown. ``met``: what
    the call under way meets. ``reading``: customers are read to decide on them.
    """

    fresh: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    since_look: dict[str, str] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)
    met: dict[str, Held | None] = field(default_factory=dict)
    reading: bool = True


class World:
    """One company and one audience. ``open_company`` opens a fresh one."""

    open_company: Callable[[], Any]
    servers: Servers
    contract: str
    fired: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.fired["sequences"] += 1
        self._context = self.open_company()
        self.company: Company = self._context.__enter__()
        self.company.threads = 1  # so that a repetition makes its calls in the same order
        self.wire = InProcess(
            {
                self.company.mailchimp: self.servers.mailchimp,
                self.company.quickbooks: self.servers.quickbooks,
            }
        )
        self.company.sender = lambda _system: self.wire
        self.company.control = self.wire.control
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
        self.arrived: set[str] = set()
        self.touched: set[str] = set()
        self.signed_up: set[str] = set()
        self.erased: set[str] = set()
        self.erasing: tuple[str, bool] | None = None
        self.lived: dict[str, set[str]] = {}
        self.held: tuple[Scope, Planned] | None = None
        self.settled = False
        self.traceless: set[str] = set()
        self.interruptible = False
        self.open_transactions = 0
        self.audited = 0
        self.seen: dict[str, int] = {}
        self.log: list[str] = []
        self.hidden: dict[str, str] = {}
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
            self.open_transactions += 1
            try:
                with self._begin(*args, **kwargs) as connection:
                    yield connection
            finally:
                self.open_transactions -= 1
            self._boundary(None, after=True)

        database.begin = begin  # type: ignore[method-assign]

    def close(self) -> None:
        """Take everything back that was hung into the servers."""
        del self.company.database.begin
        self.servers.mailchimp.account.changes.listeners.remove(self._mail_of_mailchimp)
        self.servers.quickbooks.state.company.listeners.remove(self._mail_of_quickbooks)
        for server in (self.servers.mailchimp, self.servers.quickbooks):
            server.clock.source = time.time
        self._context.__exit__(None, None, None)

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

    def _act(self, number: int, when: str, kinds: Sequence[str] = ()) -> None:
        raise NotImplementedError

    def _process_inbox_inside(self) -> None:
        raise NotImplementedError

    # ── boundaries inside a run ───────────────────────────────────────────────────────────────

    def _plan(self, planned: Sequence[Disturbance]) -> None:
        self.planned = list(planned)
        self.counts: Counter[Disturbance] = Counter()
        self.calm = True
        self.sight = Sight()
        self.sights = [self.sight]

    def _boundary(self, call: Call | None, *, after: bool) -> None:
        if not self.watching:
            return
        self.time += self.tick
        for each in list(self.planned):
            if each.what in FAULTS:
                continue
            self.counts[each] += each.where.fits(call, after=after)
            if self.counts[each] <= each.where.nth:
                continue
            if each.what == "inbox":
                self._webhooks_arrive_inside(each)
                continue
            if not each.where.fits(call, after=after):
                continue
            self.planned.remove(each)
            self.calm = False
            side = "commit" if call is None else f"{'after' if after else 'before'} a call"
            self.fired[f"{each.what}: {side}"] += 1
            self.log.append(f"  {each.what} at {side}")
            if each.what == "kill":
                raise Killed
            self._act(each.number, "inside")

    def _webhooks_arrive_inside(self, each: Disturbance) -> None:
        """Let a worker process all webhooks here, with what it alone has looked at."""
        if not self.interruptible or self.open_transactions or not (self.mail or self.inbox):
            return
        self.planned.remove(each)
        self.calm = False
        self.fired["inbox: inside a run"] += 1
        ours = self.sight, self.company.current
        self.sight = Sight(unseen=self.sight.unseen)
        others, self.planned = self.planned, []
        self.log.append("  webhooks are processed {")
        try:
            self._process_inbox_inside()
        except ConnectorError as error:
            self.fired[f"inbox inside ended by {type(error).__name__}"] += 1
        finally:
            self.log.append("  }")
            self.planned = others
            self.sight, self.company.current = ours

    def _before(self, call: Call) -> None:
        self._boundary(call, after=False)
        known = list(self.model.words)
        self.sight.met = {email: self.servers.held(email) for email in written_emails(call, known)}

    def _after(self, call: Call, response: Response | None) -> None:
        told = "no response" if response is None else response.status
        self.log.append(
            f"    {call.system} {call.method} {call.path[-60:]} {list(self.sight.met)} {told}"
        )
        if call.system == "mailchimp":
            self._judge(call, response)
        elif response is not None and response.status == 200:
            self._customers_were_read(call, response)
        self._boundary(call, after=True)

    # ── what the connector reads and writes ───────────────────────────────────────────────────

    def _customers_were_read(self, call: Call, response: Response) -> None:
        statement = f"{call.params.get('query', '')}{call.body or ''}"
        # By id the write-back reads customers again after a conflict, and stages them as well.
        if not self.sight.reading and "Id IN (" not in statement:
            return
        if call.path.endswith("/cdc"):
            ids = [each for each, book in self.books.items() if book.gone]
            ids = [each for each in ids if each not in self.traceless]
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
        self.sight.unseen.discard(email)
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
            self.sight.fresh[each] = (words.get(each), self.model.moved_to.get(each))
            self.sight.since_look.pop(each, None)

    def _ceiling(self, email: str) -> int:
        """The most that a write may make of ``email``: by what is so, or by what it could know.

        A contact that a person is brought from counts as it was at the last single read in this
        run, any other opt-out as it was at the last read of its address.
        """
        known = self.model.snapshot()
        for each, (word, moved_to) in self.sight.fresh.items():
            if word is None:
                known.words.pop(each, None)
            else:
                known.words[each] = word
            if moved_to is not None:
                known.moved_to[each] = moved_to
        if email in self.model.words:
            known.words[email] = self.model.words[email]
        for customer in known.customers.values():
            for source in self.sight.unseen:
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
        word = self.sight.since_look.pop(email, None)
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
        for email, before in self.sight.met.items():
            self.observations.meet(request_id, email, before)
            held = self.servers.held(email)
            if response is not None:
                self.observations.observe(email, held)
            if held is None or held.status == "archived":
                continue
            self.touched.add(email)
            if before is None or before.status == "archived":
                self.arrived.add(email)
            if call.method != "DELETE" and not call.path.endswith("/tags"):
                self.model.wrote(
                    email, held.status, heard=response is not None, unseen=self.sight.unseen
                )
                shown = self._shown_by(call)
                self.edited[email] = self.edited.get(email, set()) - shown.get(email, set())

    def _shown_by(self, call: Call) -> dict[str, set[str]]:
        """The merge fields that a write sends, by address."""
        body = call.body if isinstance(call.body, dict) else {}
        rows = body.get("members", [body])
        emails = (
            list(self.sight.met)
            if call.handle
            else [each["email_address"].lower() for each in rows]
        )
        return {
            email: set(row.get("merge_fields", {}))
            for email, row in zip(emails, rows, strict=False)
        }

    # ── one operation of the connector ────────────────────────────────────────────────────────

    @contextmanager
    def _operation(
        self,
        name: str,
        planned: Sequence[Disturbance],
        *,
        if_calm: Callable[[], None] = lambda: None,
    ) -> Iterator[None]:
        """Let the connector work; every planned disturbance fires, or its act follows at the end.

        ``if_calm`` checks a run that nothing disturbed, before those acts.
        """
        self.log.append(f"{name}:")
        self.fired[name] += 1
        self.settled = False
        self.arrived.clear()
        self._plan(planned)
        self.interruptible = name in INTERRUPTIBLE
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
        self.settled = self.calm and name in ("daily run", "full run")
        if self.calm:
            if_calm()
        for each in self.planned:
            if each.what == "act":
                self._act(each.number, "after a run")
        if self.calm:
            self.fired[f"{name}: calm"] += 1

    def broken(self, known: dict[str, list[Held | None]]) -> None:
        """What a worker saw and did not commit is lost: both states may be its last one.

        A contact that it made may count as somebody's who was there before (A45).
        """
        for email in self.arrived:
            self.edited.setdefault(email, set()).add("FNAME")
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


def _shows(action: Any, how: dict[str, Any]) -> bool:
    return bool(msgspec.to_builtins(action) | how == msgspec.to_builtins(action))
