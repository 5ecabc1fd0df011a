"""Processes that share one QuickBooks connection: a stampede of them, and one that dies.

Real are the lock in Postgres, the calls over HTTP and the deaths (SIGKILL). In the place of the
Airflow Variable is a file that survives its writer's death at any point.
"""

import hashlib
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from ml_connector.errors import ConnectorError
from ml_connector.quickbooks.tokens import TokenEndpoint, TokenManager, TokenPair
from ml_connector.store.database import Database
from ml_connector.store.refresh_lock import refresh_lock
from ml_connector.wire.transport import RequestsTransport
from tests.integration.company import control

CONN_ID = "quickbooks_default"
FIRST = TokenPair(access_token="", refresh_token="sandbox-refresh-token")
STRICT = {"rotate": "always", "reuse_revokes_family": True, "grace_seconds": 0}
DAY = 86400
CRASHES = ("answer under way", "before the write", "before the rename")

# Warm processes: forked from one that has imported everything and holds no connections.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pytest", "tests.integration.token_worker"])


class FileVault:
    """``TokenVault`` in a file: what ``save`` returned from is there, whoever dies when.

    ``dies`` kills this process inside ``save``: "before the write" or "before the rename".
    """

    def __init__(self, path: Path, *, dies: str = "") -> None:
        self._path, self._dies = path, dies

    def load(self) -> TokenPair:
        return TokenPair.from_json(self._path.read_text("utf-8"), place="the token file")

    def save(self, token: TokenPair) -> None:
        if self._dies == "before the write":
            os.kill(os.getpid(), signal.SIGKILL)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(token.to_json())
            file.flush()
            os.fsync(file.fileno())
        if self._dies == "before the rename":
            os.kill(os.getpid(), signal.SIGKILL)
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where a connection's processes find the mock server, the lock and the tokens.

    ``ahead``: how far their clock is from the true time.
    """

    quickbooks: str
    database_url: str
    path: Path
    wait_seconds: float = 90.0
    timeout: float = 30.0
    ahead: timedelta = timedelta()
    client_id: str = "sandbox-client"

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def vault(self, *, dies: str = "") -> FileVault:
        return FileVault(self.path, dies=dies)

    def endpoint(self) -> TokenEndpoint:
        transport = RequestsTransport(
            requests.Session(), system="QuickBooks", timeout=(5, self.timeout)
        )
        url = f"{self.quickbooks}/oauth2/v1/tokens/bearer"
        return TokenEndpoint(transport, url, self.client_id, "sandbox-secret", clock=self.clock)

    def manager(self, database: Database, *, dies: str = "") -> TokenManager:
        return TokenManager(
            vault=self.vault(dies=dies),
            lock=partial(refresh_lock, database, CONN_ID, wait_seconds=self.wait_seconds),
            endpoint=self.endpoint(),
            clock=self.clock,
        )

    @contextmanager
    def connection(self) -> Iterator[TokenManager]:
        """A manager with nothing in memory, as the next run has it."""
        with closing(Database(self.database_url, connections=2)) as database:
            yield self.manager(database)

    def consent(self) -> TokenPair:
        """What a person brings who connects again."""
        callback = "http://localhost:9470/callback"
        asked = requests.get(
            f"{self.quickbooks}/connect/oauth2",
            params={
                "client_id": "sandbox-client",
                "response_type": "code",
                "scope": "com.intuit.quickbooks.accounting",
                "redirect_uri": callback,
            },
            allow_redirects=False,
            timeout=30,
        )
        code = parse_qs(urlsplit(asked.headers["Location"]).query)["code"][0]
        return self.endpoint().exchange(code, callback)

    def control(self, method: str, path: str, body: object = None) -> Any:
        return control(self.quickbooks, method, path, body)

    def token_calls(self) -> list[dict[str, Any]]:
        """Every call to the token endpoint since the journal was cleared."""
        calls: list[dict[str, Any]] = self.control("GET", "journal?kind=token")["calls"]
        return calls

    def fresh(self, **settings: Any) -> "Desk":
        """Reset the mock server and store its first refresh token."""
        self.control("POST", "reset")
        self.control("PUT", "settings", settings)
        self.vault().save(FIRST)
        return self


# ── the stampede ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Stampede:
    """What came of it. ``failed`` are the callers' errors, ``redeemed`` the calls of each round."""

    rounds: int
    callers: int
    redeemed: Counter[int]
    refused: int
    failed: tuple[str, ...]
    disagreed: int
    revoked: bool
    at_once: int
    slowest: float

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds of {self.callers} processes: "
            f"{sum(calls * rounds for calls, rounds in self.redeemed.items())} redemptions, "
            f"rounds by redemptions {dict(self.redeemed)}, at most {self.at_once} at once, "
            f"{self.refused} refused, {len(self.failed)} failed callers, "
            f"{self.disagreed} rounds with two access tokens, grant revoked: {self.revoked}, "
            f"slowest caller {self.slowest:.2f} s"
        )


def _caller(desk: Desk, rounds: int, gate: Any, results: Any) -> None:
    with closing(Database(desk.database_url, connections=2)) as database:
        manager = desk.manager(database)
        held = desk.vault().load().access_token
        for _ in range(rounds):
            gate.wait()  # the access token that all hold has ended
            begun = time.perf_counter()
            try:
                held = manager.renewed(held)
                said = ("token", hashlib.sha256(held.encode()).hexdigest())
            except ConnectorError as error:
                said = ("error", repr(error))
            results.put((*said, time.perf_counter() - begun))
            gate.wait()  # everybody has an answer


def stampede(desk: Desk, *, callers: int, rounds: int, patience: float = 60) -> Stampede:
    """Let ``callers`` processes renew the same ended access token at once, ``rounds`` times."""
    gate = processes.Barrier(callers + 1, timeout=patience)
    results = processes.SimpleQueue()
    workers = [
        processes.Process(target=_caller, args=(desk, rounds, gate, results), daemon=True)
        for _ in range(callers)
    ]
    for worker in workers:
        worker.start()
    redeemed, failed, disagreed, slowest = Counter[int](), [], 0, 0.0
    seen = len(desk.token_calls())
    try:
        for _ in range(rounds):
            desk.control("POST", "tokens/expire")
            gate.wait()
            answers = [results.get() for _ in workers]
            gate.wait()
            failed += [said for kind, said, _ in answers if kind == "error"]
            disagreed += len({said for kind, said, _ in answers if kind == "token"}) > 1
            slowest = max(slowest, *(seconds for *_, seconds in answers))
            redeemed[len(desk.token_calls()) - seen] += 1
            seen = len(desk.token_calls())
    finally:
        for worker in workers:
            worker.join(5)
            worker.kill()
    state = desk.control("GET", "tokens")
    return Stampede(
        rounds=rounds,
        callers=callers,
        redeemed=redeemed,
        refused=sum(call["status"] != 200 for call in desk.token_calls()),
        failed=tuple(failed),
        disagreed=disagreed,
        revoked=any(family["revoked"] for family in state["families"]),
        at_once=desk.control("GET", "journal/summary")["max_in_flight"],
        slowest=slowest,
    )


# ── the crash ─────────────────────────────────────────────────────────────────────────────────


def _renew(desk: Desk, dies: str) -> None:
    with closing(Database(desk.database_url, connections=2)) as database:
        desk.manager(database, dies=dies).refresh()


def crash(desk: Desk, how: str) -> None:
    """Renew in a process that is killed after the redemption and before the pair is stored."""
    before = desk.vault().load()
    if how == "answer under way":
        late = {"match": {"path": "/tokens/bearer$"}, "times": 1}
        desk.control("POST", "faults", {**late, "action": {"kind": "delay", "seconds": 3}})
    worker = processes.Process(target=_renew, args=(desk, how), daemon=True)
    known = len(desk.token_calls())
    worker.start()
    try:
        if how == "answer under way":
            _until(lambda: [call["status"] for call in desk.token_calls()[known:]] == [200])
            worker.kill()
    finally:
        worker.join(20)
        worker.kill()
        desk.control("DELETE", "faults")
    assert worker.exitcode == -signal.SIGKILL, "the process lived"
    assert [call["status"] for call in desk.token_calls()[known:]] == [200], "nothing was redeemed"
    assert desk.vault().load() == before, "the pair was stored after all"


def _until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


def attempt(desk: Desk) -> str:
    """Renew as the next run does, with nothing in memory; return "" or the error's name."""
    with desk.connection() as manager:
        try:
            manager.refresh()
        except ConnectorError as error:
            return type(error).__name__
    return ""
