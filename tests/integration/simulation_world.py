"""One simulation: workers interleaved as a sequence says, people who act, and faults, to a rest.

Everything of ``consent_world`` stays: the model of consent judges each call. What is added: several
workers at once, crashes of each, a vendor that redelivers, and what must hold when all is done.
"""

import copy
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qs

from sqlalchemy import text

from ml_connector.errors import (
    ConnectorError,
    NeedsReauth,
    SettingsError,
    StorageError,
)
from ml_connector.quickbooks.tokens import TokenPair
from ml_connector.replay import replay
from ml_connector.scope import Scope
from ml_connector.wire.transport import Request, Response, Transport
from tests.integration.audit_journal import (
    assert_audit_matches_journal,
    hashed,
    pairs_of_call,
)
from tests.integration.company import MemoryTokens
from tests.integration.consent_acts import (
    ACTS_OF_PEOPLE,
    ACTS_OF_THE_BOOKKEEPER,
    ADDRESSES,
    CUSTOMERS,
    EDITS,
)
from tests.integration.consent_boundaries import FAULTS, Killed
from tests.integration.consent_model import Customer
from tests.integration.consent_operations import Operations
from tests.integration.consent_rules import SPELLINGS
from tests.integration.consent_watch import Call, call_of
from tests.integration.consent_world import Sight
from tests.integration.simulation_scheduler import Scheduler, Worker
from tests.integration.simulation_sequence import JOBS, Event
from tests.integration.test_audit_sealed import seal, verify

KINDS = {"person": ACTS_OF_PEOPLE, "edit": EDITS, "books": ACTS_OF_THE_BOOKKEEPER}
FINAL = (NeedsReauth, SettingsError, StorageError)
"""Errors that no disturbance here excuses."""

TOKENS = {"rotate": "always", "grace_seconds": 86400, "reuse_revokes_family": True}
"""Each refresh replaces the refresh token; its predecessor lives for a day."""


@dataclass
class Context:
    """What belongs to one worker: its sight and its scope."""

    sight: Sight = field(default_factory=Sight)
    scope: Scope | None = None
    crashed: bool = False


class Log(list[str]):
    """Lines, each after the name of the worker that is at work."""

    name = ""

    def append(self, line: str) -> None:
        super().append(f"{self.name:10}{line}")


class Tokens(MemoryTokens):
    """The stored token pair; storing it is a boundary. ``dead``: refresh tokens replaced here."""

    def __init__(self, stored: Callable[[], None]) -> None:
        super().__init__()
        self._stored = stored
        self.dead: set[str] = set()

    def save(self, token: TokenPair) -> None:
        self._stored()
        if token.refresh_token != self.pair.refresh_token:
            self.dead.add(self.pair.refresh_token)
        super().save(token)
        self._stored()


@dataclass
class Redeeming:
    """A transport that shows the calls to the token endpoint to ``redeem``."""

    transport: Transport
    redeem: Callable[[Transport, Request], Response]

    def send(self, request: Request) -> Response:
        if call_of("token", request) is None:
            return self.redeem(self.transport, request)
        return self.transport.send(request)


class Simulation(Operations):
    """Plays ``events`` on a company of its own."""

    contract = "current"
    trace = ""
    """Where it failed."""

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__()
        self.log: Log = Log()
        self.events = events
        self.step = 0
        self.faults: list[str] = []
        self.company.tokens = Tokens(partial(self._boundary, None, after=True))
        self.redeeming = False
        self.written: Counter[str] = Counter()
        self.entered: Context | None = None
        self.resting = False
        self.known: list[dict[str, Customer]] = []
        self.acknowledged: set[int] = set()
        self.scheduler = Scheduler(
            self.company.database_url.replace("+psycopg", ""),
            entered=self._entered,
            ended=self._ended,
        )

    def play(self) -> None:
        """Play the sequence to its end; raise ``AssertionError`` if something does not hold."""
        self._set_up(next((each.number for each in self.events if each.what == "setup"), 0))
        for each in self.events:
            if each.at == 0:
                self._happen(each)
        self._run()
        self._come_to_rest()

    def _set_up(self, number: int) -> None:
        setting = ("subscribed", "subscribed", "pending", "transactional")[number % 4]
        on_inactive = ("archive", "archive", "keep", "tag")[number // 4 % 4]
        self.company.settings |= {"new_contact_status": setting, "on_inactive": on_inactive}
        self.model.setting = setting
        self.tick = (0.0, 0.4, 1.0)[number // 16 % 3]
        self.time = float(int(self.time))
        contract = ("current", "status_required")[number // 48 % 2]
        self.servers.mailchimp.account.settings.change({"batch_contract": contract})
        self.company.quickbooks_control("PUT", "settings", TOKENS)
        for each in range(CUSTOMERS):
            self._new_customer(ADDRESSES[each])
        self._daily_run([])
        del self.log[CUSTOMERS:]

    # ── what happens ──────────────────────────────────────────────────────────────────────────

    def _boundary(self, call: Call | None, *, after: bool) -> None:
        worker = self.scheduler.current
        if not self.watching or worker is None:
            return
        context: Context = worker.context
        if context.crashed or self.scheduler.stopping:
            raise Killed
        self.step += 1
        self.time += self.tick
        for each in [each for each in self.events if each.at == self.step]:
            self._happen(each)
        if self.faults and call is not None and not after:
            self._break(call)

    def _happen(self, event: Event) -> None:
        worker = self.scheduler.current
        if event.what in KINDS:
            self._act(event.number, "inside" if worker else "before", KINDS[event.what])
        elif event.what in JOBS:
            self._start(event)
        elif event.what == "switch" and worker:
            self.scheduler.switch(event.number)
        elif event.what == "crash" and worker:
            self.log.append("crashes")
            self.fired["crash"] += 1
            worker.context.crashed = True
            raise Killed
        elif event.what == "expire":
            self.servers.quickbooks.state.tokens.expire_access()
        elif event.what == "time":
            self.time += (1, 25 * 60)[event.number % 2]
        elif event.what != "setup":
            self.faults += [event.what.replace("_", " ")] * (5 if event.number % 3 == 0 else 1)

    def _break(self, call: Call) -> None:
        """Let the call that is about to leave fail."""
        what = self.faults.pop()
        if what == "429" and call.system == "token":
            what = "503"
        self.fired[what] += 1
        self.log.append(f"  {what}")
        system = "mailchimp" if call.system == "mailchimp" else "quickbooks"
        server = self.servers.by_name[system]
        server.faults.clear()
        server.faults.add({"nth": [1], "action": FAULTS[what]})

    # ── workers ───────────────────────────────────────────────────────────────────────────────

    def _start(self, event: Event) -> None:
        """Start a worker. Airflow runs a sync once at a time."""
        if event.what == "run" and any(each.name == "run" for each in self.scheduler.workers):
            return
        self.fired[event.what] += 1
        work = getattr(self, f"_job_{event.what}")
        self.scheduler.start(event.what, partial(work, event.number), Context())
        if self.scheduler.current is not None:
            self.scheduler.switch()

    def _run(self) -> None:
        self.watching = True
        try:
            self.scheduler.run()
        finally:
            self.watching = False
            self.fired["a lock is waited for"] += self.scheduler.lock_waits
            self.scheduler.lock_waits = 0
            self.scheduler.current = self.entered = None
            self.log.name = ""
            self.company.current = None

    def _entered(self, worker: Worker) -> None:
        if self.entered is not None:
            self.entered.scope = self.company.current
        if worker.context.crashed:  # it starts again
            worker.context = Context()
        context = self.entered = worker.context
        self.sight = context.sight
        self.company.current = context.scope
        self.sights = [each.context.sight for each in self.scheduler.workers]
        self.log.name = worker.name

    def _ended(self, worker: Worker) -> None:
        error = worker.error
        if error is None:
            return
        self.log.append(f"ends: {type(error).__name__}")
        self.fired[f"ended by {type(error).__name__}"] += 1
        if (
            self.resting
            or not isinstance(error, Killed | ConnectorError)
            or isinstance(error, FINAL)
        ):
            raise error
        self.broken({})

    def _job_run(self, number: int) -> None:
        full = number % 5 == 0
        self.company.sync(full_sync=full, before_write_back=self._stop_reading)

    def _job_receive(self, number: int) -> None:
        """Vendors send what happened; what got no response is sent again."""
        letters, self.mail = self.mail, []
        how = SPELLINGS[number % len(SPELLINGS)]
        sent = letters[::-1] if number % 4 == 1 else letters
        try:
            self._deliver(sent, how, times=2 if number % 4 == 2 else 1)
        except (Killed, ConnectorError):
            self.mail = letters + self.mail
            raise
        with self._begin() as connection:
            ids = connection.execute(text("SELECT id FROM ml_connector.webhook_inbox")).scalars()
            self.acknowledged.update(ids)

    def _job_process(self, number: int) -> None:
        if number % 3 == 0:  # leases end, of workers that are still at work as well
            self._prepare_inbox()
        self.company.work_off()

    def _job_refresh(self, number: int) -> None:
        self.company.quickbooks_client(Counter())._tokens.refresh()

    def _job_replay(self, number: int) -> None:
        _, rows = self._chosen_rows(number, failed=number % 3 == 0)
        replay(self.company.open_sync(), rows)

    def _job_seal(self, number: int) -> None:
        seal(self.company)

    # ── what is judged at each call ───────────────────────────────────────────────────────────

    def _watched(self, system: str, transport: Transport) -> Transport:
        return Redeeming(super()._watched(system, transport), self._redeem)

    def _redeem(self, transport: Transport, request: Request) -> Response:
        token = parse_qs((request.body or b"").decode())["refresh_token"][0]
        assert not self.redeeming, "two redemptions at once"
        assert token not in self.company.tokens.dead, "a replaced refresh token is redeemed"
        call = Call("token", "POST", "/tokens/bearer", None)
        self.redeeming = True
        try:
            self._boundary(call, after=False)
            response = transport.send(request)
            self.log.append(f"    token endpoint {response.status}")
            self._boundary(call, after=True)
        finally:
            self.redeeming = False
        return response

    def _after(self, call: Call, response: Response | None) -> None:
        if call.writes and self.servers.by_name[call.system].journal.calls[-1].applied:
            self.written.update(self._accepted(call, response))
        super()._after(call, response)

    def _accepted(self, call: Call, response: Response | None) -> list[str]:
        """The records that a write changed, as ``audit_journal`` names them."""
        if call.system == "mailchimp":
            met = self.sight.met.items()
            return [hashed(email) for email, held in met if self.servers.held(email) != held]
        if response is None or response.status != 200:
            return []
        told = json.loads(response.body)["BatchItemResponse"]
        refused = {each["bId"] for each in told if "Fault" in each}
        items = [each for each in call.body["BatchItemRequest"] if each["bId"] not in refused]
        body = {"BatchItemRequest": items}
        made = {"system": call.system, "path": call.path, "body": body, "request_id": None}
        return [record for _, record in pairs_of_call(made)]

    def _remember_customers(self) -> None:
        if self.scheduler.current is not None:
            self.known.append(copy.deepcopy(self.model.customers))

    def _customers_were_read(self, call: Call, response: Response) -> None:
        self._remember_customers()
        super()._customers_were_read(call, response)

    def _note_write(self, call: Call, response: Response | None, *, applied: bool) -> None:
        self._remember_customers()
        super()._note_write(call, response, applied=applied)

    def _ceiling(self, email: str) -> int:
        """A worker may act on customers as they were read before: the last read may not be stored."""
        now = self.model.customers
        levels = []
        for each in [now, *self.known]:
            self.model.customers = each
            levels.append(super()._ceiling(email))
        self.model.customers = now
        return max(levels)

    def _check_audit(self) -> None:
        """What a row may say of before depends on who saw it first: the journals decide here."""

    # ── the end ───────────────────────────────────────────────────────────────────────────────

    def _come_to_rest(self) -> None:
        """All that is left is done without a disturbance, and everything holds."""
        self.events, self.resting = [], True
        self.faults.clear()
        for server in self.servers.by_name.values():
            server.faults.clear()
        for what in ("receive", "process", "refresh", "run", "seal"):
            self._start(Event(0, what, 15 if self.traceless else 3))
            self._run()
        self._every_webhook_was_processed_once()
        assert_audit_matches_journal(self.company, interrupted=True, written=self.written)
        verified = verify(self.company)
        assert verified.findings == [], verified.findings
        self._token_is_the_newest()
        self.traceless.clear()
        self.known.clear()
        self.settled = True
        self._quiet_days()
        with self._begin() as connection:
            pending = connection.execute(
                text("SELECT count(*) FROM ml_connector.all_changes WHERE state = 'pending'")
            ).scalar_one()
        assert pending == 0, f"{pending} changes are pending"

    def _every_webhook_was_processed_once(self) -> None:
        with self._begin() as connection:
            states = connection.execute(
                text("""SELECT i.id, i.state, count(a.id), i.reason FROM ml_connector.webhook_inbox i
                        LEFT JOIN ml_connector.audit a ON a.cause = 'webhook:' || i.id
                             AND a.action = 'webhook' AND a.outcome IN ('done', 'ignored')
                        GROUP BY i.id""")
            ).all()
        assert self.acknowledged <= {row[0] for row in states}, "an acknowledged webhook is lost"
        left = [
            tuple(row) for row in states if tuple(row[1:3]) not in (("done", 1), ("ignored", 1))
        ]
        assert left == [], f"webhooks (id, state, audit rows): {left}"

    def _token_is_the_newest(self) -> None:
        families = self.company.quickbooks_control("GET", "tokens")["families"]
        newest = {each["refresh_token"] for each in families if not each["revoked"]}
        assert self.company.tokens.pair.refresh_token in newest, "the refresh token is lost"
