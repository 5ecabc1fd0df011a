"""The rules of a sequence: acts, runs, plans, webhooks, replays, erasures, and its end."""

import sys
from datetime import timedelta

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ml_connector.scope import Scope
from ml_connector.sync import guard
from ml_connector.sync.planner import Planned
from tests.integration.consent_acts import (
    ACTS_OF_PEOPLE,
    ACTS_OF_THE_BOOKKEEPER,
    ADDRESSES,
    CUSTOMERS,
    EDITS,
)
from tests.integration.consent_boundaries import (
    Disturbance,
    Where,
    disturbed,
    numbers,
    skews,
    wheres,
)
from tests.integration.consent_operations import Operations

ANSWERS = ("approved", "approved late", "rejected", "unanswered")
FATES = ("in order", "in order", "out of order", "twice", "late", "lost", "process later")
SPELLINGS = (
    *("one by one", "grouped", "grouped legacy"),
    *("legacy", "legacy deletedID", "legacy nameless"),
)


class Machine(Operations, RuleBasedStateMachine):
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

    # ── the end of a sequence ─────────────────────────────────────────────────────────────────

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None and self.books:
                self._end()
        finally:
            if isinstance(sys.exc_info()[1], AssertionError):
                self.fired.setdefault("failed", self.fired["sequences"])
            note("\n".join(self.log))
            self.close()

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
        self._quiet_days()
