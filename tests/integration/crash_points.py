"""Workers that die at a boundary: before or after the n-th commit or call they make.

A death is an error that no handler of the product catches. What still runs while it passes, as a
``finally``, is as dead: it makes no call and no commit. The connections of the worker are dropped,
by which Postgres rolls back and releases locks, as after a SIGKILL.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from sqlalchemy.engine.default import DefaultDialect

from ml_connector.quickbooks.tokens import TokenPair
from ml_connector.wire.transport import Request, Response, Transport
from tests.integration.company import Company, MemoryTokens
from tests.integration.consent_boundaries import Killed
from tests.integration.consent_watch import call_of

Task = Callable[[], Any]
Tasks = Generator[Task, Any, None]
"""Tasks in their order; each one's result is sent in, as XCom hands it on."""


@dataclass(frozen=True)
class Boundary:
    """A commit, a call or a token stored. ``lasts``: whether it leaves something behind."""

    what: str
    lasts: bool


@dataclass
class Worker:
    """Counts the boundaries it passes, and dies at the ``nth`` (from 1), before or ``after`` it."""

    nth: int = 0
    after: bool = False
    passed: list[Boundary] = field(default_factory=list)
    dead: bool = False

    @contextmanager
    def passing(self, what: str, *, lasts: bool) -> Iterator[None]:
        """Pass a boundary around the block."""
        if self.dead:
            raise Killed
        self.passed.append(Boundary(what, lasts))
        here = len(self.passed) == self.nth
        self._die(here and not self.after)
        yield
        self._die(here)

    def _die(self, now: bool) -> None:
        if now:
            self.dead = True
            raise Killed

    @contextmanager
    def at_work(self, company: Company) -> Iterator[None]:
        """Let everything that the company's connector does in the block be this worker's."""
        commit = DefaultDialect.do_commit

        def committed(dialect: DefaultDialect, connection: Any) -> None:
            with self.passing("commit", lasts=_has_written(connection)):
                commit(dialect, connection)

        around, tokens = company.around, company.tokens
        company.around = lambda system, transport: _Calls(self, system, around(system, transport))
        company.tokens = _Tokens(self, tokens)  # type: ignore[assignment]
        try:
            with mock.patch.object(DefaultDialect, "do_commit", committed):
                yield
        finally:
            company.around, company.tokens = around, tokens
            if self.dead:
                company.database.close()


def _has_written(connection: Any) -> bool:
    """Tell whether a transaction wrote or locked something: then it has an id."""
    cursor = connection.cursor()
    found = cursor.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()
    cursor.close()
    return found[0] is not None


@dataclass
class _Calls:
    """A transport whose calls are boundaries."""

    worker: Worker
    system: str
    transport: Transport

    def send(self, request: Request) -> Response:
        call = call_of(self.system, request)
        lasts = call is None or call.writes
        with self.worker.passing(f"{request.method} {self.system}", lasts=lasts):
            return self.transport.send(request)


@dataclass
class _Tokens:
    """A token vault whose writes are boundaries."""

    worker: Worker
    vault: MemoryTokens

    def load(self) -> TokenPair:
        return self.vault.load()

    def save(self, token: TokenPair) -> None:
        with self.worker.passing("token stored", lasts=True):
            self.vault.save(token)


def perform(company: Company, tasks: Tasks, worker: Worker, *, again: Callable[[], bool]) -> None:
    """Do the tasks. If the worker dies, ``again`` says whether a healthy one repeats its task."""
    task, alive = next(tasks), worker
    while True:
        try:
            with alive.at_work(company):
                result = task()
        except Killed:
            if not again():
                return
            alive = Worker()
            continue
        try:
            task = tasks.send(result)
        except StopIteration:
            return


def distinct(passed: Sequence[Boundary]) -> Iterator[tuple[int, bool]]:
    """Yield one point of death, as (nth, after), for each state that a death can leave behind.

    Nothing outlives a worker but its commits, its writes to a system and its stored token. So a
    death after one boundary leaves what a death before the next one leaves.
    """
    yield 1, False
    for nth, boundary in enumerate(passed, 1):
        if boundary.lasts:
            yield nth, True


def every_side(passed: Sequence[Boundary]) -> Iterator[tuple[int, bool]]:
    """Yield both sides of every boundary."""
    for nth in range(1, len(passed) + 1):
        yield nth, False
        yield nth, True
