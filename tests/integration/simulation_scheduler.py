"""Run workers as threads of which one proceeds at a time, so that a schedule can be played again.

A worker hands over where it is told to, waits in Postgres for a lock of another, or ends. Nothing
here depends on how long anything takes.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.integration.consent_boundaries import Killed

PATIENCE = 60
"""Seconds until workers that all wait count as stuck. Postgres ends a deadlock after one."""

TRIES = 3
"""A worker that crashes starts again, at most this often."""

BLOCKED = "SELECT pid FROM unnest(%s::int[]) pid WHERE cardinality(pg_blocking_pids(pid)) > 0"


@dataclass(eq=False)
class Worker:
    """One task. ``waits`` counts its statements; ``waiting``: one of them waits for a lock."""

    name: str
    work: Callable[[], None]
    context: Any
    tries: int = 1
    state: str = "ready"  # running, waiting, done
    error: BaseException | None = None
    waits: int = 0
    inside: int | None = None
    """The server process of the statement under way."""
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    thread: threading.Thread | None = None


class Scheduler:
    """``entered`` is called before a worker goes on, ``ended`` after its end."""

    def __init__(
        self,
        database_url: str,
        *,
        entered: Callable[[Worker], None],
        ended: Callable[[Worker], None],
    ) -> None:
        self._url, self._entered, self._ended = database_url, entered, ended
        self.workers: list[Worker] = []
        self.current: Worker | None = None
        self.stopping = False
        self.lock_waits = 0
        self._wanted: int | None = None
        self._mine = threading.local()
        self._told = threading.Condition()

    def start(self, name: str, work: Callable[[], None], context: Any, tries: int = 1) -> None:
        """Add a worker; it begins when its turn comes."""
        worker = Worker(name, work, context, tries)
        worker.thread = threading.Thread(target=self._live, args=(worker,), daemon=True)
        worker.thread.start()
        self.workers.append(worker)

    def switch(self, number: int | None = None) -> None:
        """Let another worker go on: the ``number``-th that can, or the youngest."""
        worker = self._here()
        assert worker is not None
        self._wanted = -1 if number is None else number
        self._hand_over(worker)
        if self.stopping:
            raise Killed

    def run(self) -> None:
        """Run every worker to its end; raise what is no end that a worker may have."""
        self._mine.worker = None
        with psycopg.connect(self._url, autocommit=True) as self._look, self._gated():
            try:
                while self.workers:
                    self._go_on(self._next())
            finally:
                self.stopping = bool(self.workers)
                self._stop()

    # ── in a worker's threads ─────────────────────────────────────────────────────────────────

    def _live(self, worker: Worker) -> None:
        self._mine.worker = worker
        worker.turn.acquire()
        try:
            if not self.stopping:
                worker.work()
        except BaseException as error:  # noqa: BLE001 -- handed to the scheduler's thread
            worker.error = error
        self._change(worker, "done")

    def _here(self) -> Worker | None:
        """The worker of this thread; a thread that it began belongs to it."""
        if not hasattr(self._mine, "worker"):
            self._mine.worker = self.current
        worker: Worker | None = self._mine.worker
        return worker

    def _hand_over(self, worker: Worker) -> None:
        self._change(worker, "ready")
        worker.turn.acquire()

    def _change(self, worker: Worker, state: str) -> None:
        with self._told:
            worker.state = state
            self._told.notify_all()

    @contextmanager
    def _gated(self) -> Iterator[None]:
        """Let a worker whose statement waited for a lock wait for its turn as well."""
        unguarded = psycopg.Connection.wait

        def wait(connection: Any, *args: Any, **kwargs: Any) -> Any:
            worker = self._here()
            if worker is None:
                return unguarded(connection, *args, **kwargs)
            worker.inside = connection.pgconn.backend_pid
            try:
                return unguarded(connection, *args, **kwargs)
            finally:
                with self._told:
                    worker.waits += 1
                    worker.inside = None
                    waited = worker.state == "waiting"
                if waited:
                    self._hand_over(worker)

        psycopg.Connection.wait = wait  # type: ignore[method-assign]
        try:
            yield
        finally:
            psycopg.Connection.wait = unguarded  # type: ignore[method-assign]

    # ── in the scheduler's thread ─────────────────────────────────────────────────────────────

    def _next(self) -> Worker:
        ready = [each for each in self.workers if each.state == "ready"]
        if not ready:
            names = [each.name for each in self.workers]
            raise AssertionError(f"each waits for another: {', '.join(names)}")
        others = [each for each in ready if each is not self.current]
        wanted, self._wanted = self._wanted, None
        if wanted is not None and others:
            return others[-1 if wanted < 0 else wanted % len(others)]
        return self.current if self.current in ready else ready[0]

    def _go_on(self, worker: Worker) -> None:
        self.current = worker
        self._entered(worker)
        worker.state = "running"
        worker.turn.release()
        self._until_still()
        for each in [each for each in self.workers if each.state == "done"]:
            self.workers.remove(each)
            self._ended(each)
            if isinstance(each.error, Killed) and each.tries < TRIES:
                self.start(each.name, each.work, each.context, each.tries + 1)

    def _until_still(self) -> None:
        """Wait until every worker is done, can go on, or waits for the lock of another."""
        pause, passed = 0.004, 0.0
        while passed < PATIENCE:
            with self._told:
                if not any(each.state in ("running", "waiting") for each in self.workers):
                    return
                if any(each.state == "running" for each in self.workers):
                    self._told.wait(pause)
            asked = {each: each.waits for each in self.workers if each.inside is not None}
            pids = {each.inside for each in asked}
            blocked = pids and {row[0] for row in self._look.execute(BLOCKED, [list(pids)])}
            with self._told:
                for each, waits in asked.items():
                    if each.waits == waits and each.inside in blocked and each.state == "running":
                        each.state = "waiting"
                        self.lock_waits += 1
                moving = [
                    each
                    for each in self.workers
                    if each.state == "running"
                    or (each.state == "waiting" and each.inside not in blocked)
                ]
                if not moving and any(each.state == "ready" for each in self.workers):
                    return
                self._told.wait(pause)
            passed, pause = passed + pause, min(pause * 2, 0.06)

    def _stop(self) -> None:
        """End what is left after a failure: its transactions roll back."""
        for _ in range(len(self.workers)):
            for each in self.workers:
                if each.state == "ready":
                    self.current = each
                    each.turn.release()
                    assert each.thread is not None
                    each.thread.join(0.1 if each.state == "waiting" else 5)
        self.workers = []
