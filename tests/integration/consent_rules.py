"""The rules of a sequence: acts, runs, plans, webhooks, replays, erasures, and its end."""

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from sqlalchemy import text

from ml_connector.audit import trail
from ml_connector.audit.trail import Selection
from ml_connector.replay import replay
from ml_connector.scope import Scope
from ml_connector.sync import guard
from ml_connector.sync.planner import Planned
from sandbox.quickbooks.webhook_format import render
from tests.integration.company import REALM
from tests.integration.consent_acts import (
    ACTS_OF_PEOPLE,
    ACTS_OF_THE_BOOKKEEPER,
    ADDRESSES,
    CUSTOMERS,
    EDITS,
    Acts,
)
from tests.integration.consent_boundaries import (
    Disturbance,
    Where,
    disturbed,
    numbers,
    skews,
    wheres,
)
from tests.integration.consent_model import level
from tests.integration.consent_world import Book, Letter
from tests.integration.test_forget import erase
from tests.integration.traces import dumped, forms, found

ANSWERS = ("approved", "approved late", "rejected", "unanswered")
FATES = ("in order", "in order", "out of order", "twice", "late", "lost", "process later")
SPELLINGS = (
    *("one by one", "grouped", "grouped legacy"),
    *("legacy", "legacy deletedID", "legacy nameless"),
)


class Machine(Acts):
    """One company and one audience. ``open_company`` opens a fresh one."""

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
        name = "full run" if full else "daily run"
        with self._operation(name, planned, if_calm=self._agrees_with_the_model):
            self.company.sync(full_sync=full, before_write_back=self._stop_reading)

    def _agrees_with_the_model(self) -> None:
        self._nobody_is_mailed_more_than_allowed()
        self.model.settle(self.servers.statuses())

    def _settle(self) -> None:
        """Run once, unless nothing happened since the last calm run."""
        if not self.settled:
            self._daily_run([])

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
    @rule(number=numbers, where=wheres, act=numbers, told=st.booleans())
    def a_person_acts_at_the_address_that_a_customer_leaves(
        self, number: int, where: Where, act: int, told: bool
    ) -> None:
        self._settle()
        self._act(number, "between runs", ("move",))
        webhooks = [Disturbance(where, "inbox")] if told else []
        self._daily_run([Disturbance(where, "act", act), *webhooks])

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
                self.company.settings.pop("guard")
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

    def _process_inbox_inside(self) -> None:
        letters, self.mail = self.mail, []
        self._deliver(letters, "one by one")
        self._prepare_inbox()
        self.company.work_off()

    def _prepare_inbox(self) -> None:
        self.company.make_due()
        for each in self.inbox:
            if each.notice is not None and each.notice.deleted_id in self.books:
                self._is_read(each.notice.deleted_id)

    def _process_inbox(self, planned: Sequence[Disturbance]) -> None:
        self._prepare_inbox()
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
            if email == customer.email:
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
        self.fired["steps"] += 1
        assert not self.watching

    def _end(self) -> None:
        """After two quiet days nothing is written, both sides agree, the erased are nowhere."""
        if self.held is not None:
            self.the_plan_is_answered("unanswered", [])
        if self.erased:
            self._erase([])
        if self.traceless:  # only a full run sees that a customer is listed no longer
            self._daily_run([], full=True)
        self._settle()
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
            left = found(dumped(self.company), needles)
            assert left == [], f"what is left of erased people: {left}"
