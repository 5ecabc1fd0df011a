"""Consent, checked step by step against the model of ``consent_model``.

Customers, members, marketers and clocks act in any order and at any boundary inside a run, calls
fail, and workers die. After every step nobody is mailed more than the model allows.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ml_connector.errors import ConnectorError
from ml_connector.mailchimp.protocol import subscriber_hash
from tests.integration.company import Company
from tests.integration.consent_model import Consent, Customer, level

ADDRESSES = [f"{name}@model-mail.net" for name in ("ada", "bo", "cy", "di", "eva")]
CUSTOMERS = 3

SEQUENCES = int(os.environ.get("CONSENT_SEQUENCES", "100"))
"""Of each batch contract; `make torture` takes 750."""
STEPS = 14

addresses = st.sampled_from(ADDRESSES)
customers = st.integers(0, CUSTOMERS - 1)
acts = st.sampled_from(["unsubscribe", "sign_up", "bounce", "complain", "archive", "forget"])
places = st.sampled_from(["now", "former", "alias"])
boundaries = st.integers(0, 12)


class Killed(BaseException):
    """The worker dies here: no handler of the product catches this."""


class Machine(RuleBasedStateMachine):
    """One company and one audience. ``open_company`` opens a fresh one."""

    open_company: Callable[[], Any]
    contract: str

    def __init__(self) -> None:
        super().__init__()
        self._context = self.open_company()
        self.company: Company = self._context.__enter__()
        self.company.threads = 1
        self.model = Consent()
        self.ids: list[str] = []
        self.names = 0
        self.calls = 0
        self.planned: list[tuple[int, Callable[[], None]]] = []
        self.look = self.model.snapshot()
        self.seen: dict[str, int] = {}
        self.quiet = False
        self.acted: tuple[str, Consent] | None = None
        self.company.mailchimp_pace = self._boundary

    def teardown(self) -> None:
        self._context.__exit__(None, None, None)

    @initialize()
    def begin(self) -> None:
        self.company.mailchimp_control("PUT", "settings", {"batch_contract": self.contract})
        for number in range(CUSTOMERS):
            email = ADDRESSES[number]
            self.ids.append(self.company.customer(f"P{number}", email))
            self.model.customers[self.ids[-1]] = Customer(email)
        self._run()

    # ── boundaries inside a run ───────────────────────────────────────────────────────────────

    def _boundary(self) -> None:
        """Called before each call to Mailchimp: check the last one, then act as planned."""
        self._check_writes()
        due = [act for at, act in self.planned if at == self.calls]
        self.calls += 1
        self.acted = None
        for act in due:
            act()
        self.before_call = self.model.snapshot()

    def _check_writes(self) -> None:
        """Hold each status that a write of ours set to what was observable before it."""
        calls = self.company.calls("mailchimp")
        if calls and calls[-1]["method"] == "GET":
            self.look = self.before_call
        if calls and calls[-1]["method"] == "DELETE" and self.acted is not None:
            # The inherent window: an act between the archive's read and its write leaves no trace.
            email, before = self.acted
            if calls[-1]["path"].endswith(subscriber_hash(email)):
                self.model = before
        self.acted = None
        for email, member in self.company.members().items():
            changes = member["status_changes"]
            new = changes[self.seen.get(member["contact_id"], 0) :]
            self.seen[member["contact_id"]] = len(changes)
            for change in new:
                if change["by"] != "api" or change["after"] == "archived":
                    continue
                rank = level(change["after"])
                allowed = max(self.look.ceiling(email), self.model.ceiling(email))
                assert rank <= allowed, f"{email}: {change} though the model allows {allowed}"
                if rank:
                    assert self.look.state.get(email) != "moved", f"{email} was created anew"
                self.model.written(email, change["after"])

    def _run(self, **how: Any) -> None:
        self.calls = 0
        self.company.clear_journals()
        self.before_call = self.look = self.model.snapshot()
        try:
            self.company.sync(**how)
        except (ConnectorError, Killed):
            self.quiet = False
        else:
            self.quiet = not self.planned
        finally:
            self.planned = []
            self._check_writes()
            for url in (self.company.quickbooks, self.company.mailchimp):
                self.company.clear_faults(url)

    # ── what people and marketers do ──────────────────────────────────────────────────────────

    def _act(self, email: str, act: str) -> None:
        status = self.company.statuses().get(email)
        before = self.model.snapshot()
        words = {
            "unsubscribe": "unsubscribed",
            "bounce": "bounced",
            "complain": "complained",
            "archive": "archived",
            "forget": "forgotten",
        }
        if act == "sign_up":
            self.company.person(email, "subscribe")
            self.model.set_by_person(email, "subscribed")
        elif status in (None, "forgotten", "archived") or (
            act == "archive" and status not in ("subscribed", "unsubscribed", "transactional")
        ):
            return
        else:
            call, body = {
                "complain": ("clean", {"abuse": True}),
                "bounce": ("clean", {}),
            }.get(act, (act, {}))
            self.company.person(email, call, **body)
            self.model.set_by_person(email, words[act])
        self._remember(email)
        self.quiet = False
        self.acted = (email, before)

    def _remember(self, email: str) -> None:
        """Changes by people are no writes of ours."""
        member = self.company.members().get(email)
        if member is not None:
            self.seen[member["contact_id"]] = len(member["status_changes"])

    @rule(who=customers, where=places, act=acts)
    def a_person_acts(self, who: int, where: str, act: str) -> None:
        self._act(self._email(who, where), act)

    def _email(self, who: int, where: str) -> str:
        """An address of a customer: the present one, the one it left last, or where it moved to."""
        customer = self.model.customers[self.ids[who]]
        email = customer.email or ADDRESSES[who]
        if where == "former" and customer.way:
            email = customer.way[-1]
        return self.model.moved_to.get(email, email) if where == "alias" else email

    @rule(who=customers, new=addresses)
    def a_member_changes_the_address(self, who: int, new: str) -> None:
        self._change_address(self._email(who, "now"), new)

    def _change_address(self, old: str, new: str) -> None:
        statuses = self.company.statuses()
        if statuses.get(old) in (None, "forgotten", "archived") or new in statuses:
            return
        self.company.person(old, "upemail", email_address=new)
        self.model.change_address(old, new)
        self.quiet = False

    # ── what the bookkeeper does ──────────────────────────────────────────────────────────────

    @rule(who=customers, email=st.one_of(st.none(), addresses))
    def a_customer_moves(self, who: int, email: str | None) -> None:
        self.company.move(self.ids[who], email)
        self.model.move(self.ids[who], email)
        self.quiet = False

    @rule(who=customers)
    def a_customer_is_renamed(self, who: int) -> None:
        self.names += 1
        self.company.edit(self.ids[who], GivenName=f"Name {self.names}")
        self.quiet = False

    @rule(who=customers, active=st.booleans())
    def a_customer_leaves_or_returns(self, who: int, active: bool) -> None:
        self.company.edit(self.ids[who], Active=active)
        self.model.customers[self.ids[who]].active = active
        self.quiet = False

    # ── runs ──────────────────────────────────────────────────────────────────────────────────

    @rule()
    def a_run(self) -> None:
        self._run()

    @rule()
    def a_full_run(self) -> None:
        self._run(full_sync=True)

    @rule(at=boundaries, who=customers, where=places, act=acts)
    def a_run_in_which_a_person_acts(self, at: int, who: int, where: str, act: str) -> None:
        self.planned = [(at, lambda: self._act(self._email(who, where), act))]
        self._run()

    @rule(at=boundaries, who=customers, new=addresses, act=acts)
    def a_person_acts_at_the_address_that_a_customer_leaves(
        self, at: int, who: int, new: str, act: str
    ) -> None:
        self._run()
        old = self._email(who, "now")
        self.a_customer_moves(who, new)
        self.planned = [(at, lambda: self._act(old, act))]
        self._run()

    @rule(at=boundaries, who=customers, new=addresses, rename=st.booleans())
    def a_run_in_which_a_member_changes_the_address(
        self, at: int, who: int, new: str, rename: bool
    ) -> None:
        if rename:
            self.a_customer_is_renamed(who)
        self.planned = [(at, lambda: self._change_address(self._email(who, "now"), new))]
        self._run()

    @rule(at=boundaries)
    def a_run_that_is_killed(self, at: int) -> None:
        def die() -> None:
            raise Killed

        self.planned = [(at, die)]
        self._run()

    @rule(
        nth=st.integers(1, 10),
        action=st.sampled_from(
            [
                {"kind": "drop", "when": "before"},
                {"kind": "drop", "when": "after"},
                {"kind": "status", "status": 429},
                {"kind": "status", "status": 500},
            ]
        ),
    )
    def a_run_with_a_fault(self, nth: int, action: dict[str, Any]) -> None:
        self.company.fault("mailchimp", nth=[nth], action=action)
        self.planned = [(-1, lambda: None)]
        self._run()

    @rule()
    def a_webhook_of_each_customer(self) -> None:
        self.company.told_by_quickbooks(*(("updated", id_) for id_ in self.ids))
        self.calls = 0
        self.company.clear_journals()
        self.before_call = self.look = self.model.snapshot()
        self.company.work_off()
        self._check_writes()
        self.quiet = False

    # ── invariants ────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.quiet)
    @invariant()
    def nobody_is_mailed_more_than_the_model_allows(self) -> None:
        for email, status in self.company.statuses().items():
            allowed = level(self.model.state.get(email))
            assert level(status) <= allowed, f"{email} is {status}, allowed is {allowed}"

    @precondition(lambda self: self.quiet)
    @invariant()
    def a_second_quiet_run_writes_nothing(self) -> None:
        self._run()
        self.company.clear_journals()
        self._run()
        writes = [(call["method"], call["path"]) for call in self.company.writes()]
        assert writes == []


def check(fresh_company: Any, contract: str, sequences: int) -> None:
    case = {"open_company": staticmethod(fresh_company), "contract": contract}
    run_state_machine_as_test(
        type("Case", (Machine,), case),
        settings=settings(
            max_examples=sequences,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="CONSENT_RANDOM" not in os.environ,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("contract", ["current", "status_required"])
def test_nobody_is_mailed_more_than_the_model_of_consent_allows(fresh_company, contract):
    check(fresh_company, contract, 5)


@pytest.mark.endurance
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("contract", ["current", "status_required"])
def test_nobody_is_mailed_more_than_the_model_allows_in_many_sequences(fresh_company, contract):
    check(fresh_company, contract, SEQUENCES)
