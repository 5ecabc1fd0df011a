"""A primary with a standby that takes its place, without what was committed last.

Replication is asynchronous: a commit is acknowledged before the standby has it.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from local.owner import let_pass, unprivileged_owner
from local.postgres import EmbeddedPostgres, binaries
from ml_connector.quickbooks.tokens import TokenPair
from ml_connector.store.migrate import upgrade
from tests.started import READY_WITHIN


class Replicated:
    """Two Postgres servers. The one that serves always has the port of ``url``."""

    def __init__(self, folder: Path) -> None:
        """Keep both in ``folder``. Not pytest's own: other sessions close it to the servers' user."""
        self._primary = EmbeddedPostgres(folder / "primary", throwaway=True)
        self._standby = EmbeddedPostgres(folder / "standby", throwaway=True)
        self._primary.start()
        self._primary.create_database("main")
        self.url = self._primary.url("main")
        upgrade(self.url)
        self._replicate()

    def stop(self) -> None:
        """Stop both."""
        self._standby.stop()
        self._primary.stop()

    def lag(self) -> None:
        """Let the standby receive nothing more: what follows is on the primary alone."""
        kept = self._ask(self._primary, "SELECT pg_create_restore_point('kept')::text")
        deadline = time.monotonic() + READY_WITHIN
        while not self._ask(self._standby, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", kept):
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.01)
        self._standby.stop()

    def fail_over(self) -> None:
        """End the primary as a crash does, and promote the standby at its address."""
        assert self._primary.pid is not None
        os.kill(self._primary.pid, signal.SIGQUIT)  # without a checkpoint or a farewell
        self._primary.stop()
        shutil.copy(self._primary.home / "port", self._standby.home)
        (self._standby.data / "postgresql.auto.conf").write_text("")  # it follows no one
        self._standby.start()
        assert self._standby.url("main") == self.url
        assert self._ask(self._standby, "SELECT pg_promote()")

    def _replicate(self) -> None:
        owner, home = unprivileged_owner(), self._standby.home
        home.mkdir(parents=True)
        shutil.copy(self._primary.home / "password", home)
        if owner:
            let_pass(owner, home, binaries())
            shutil.chown(home, owner.pw_uid, owner.pw_gid)
        subprocess.run(
            [
                *(binaries() / "pg_basebackup", "--pgdata", self._standby.data, "--no-sync"),
                *("--checkpoint", "fast", "--write-recovery-conf"),
                *("--dbname", self._primary.url("postgres", driver="")),
            ],
            check=True,
            cwd="/",
            user=owner and owner.pw_uid,
            group=owner and owner.pw_gid,
            extra_groups=owner and [],
            umask=0o077,
        )
        self._standby.start()

    @staticmethod
    def _ask(server: EmbeddedPostgres, question: str, *values: object) -> Any:
        with psycopg.connect(server.url("postgres", driver=""), autocommit=True) as connection:
            row = connection.execute(question, values).fetchone()
            return row and row[0]


@contextmanager
def replicated() -> Iterator[Replicated]:
    """Two servers for the block."""
    folder = Path(tempfile.mkdtemp(prefix="ml-connector-postgres-"))
    try:
        servers = Replicated(folder)
        try:
            yield servers
        finally:
            servers.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class StoredTokens:
    """A token store in a table, as Airflow's database is one."""

    def __init__(self, url: str, first: TokenPair) -> None:
        self._url = url.replace("+psycopg", "")
        with psycopg.connect(self._url) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS public.variable (val text)")
            connection.execute("INSERT INTO public.variable VALUES (%s)", [first.to_json()])

    def load(self) -> TokenPair:
        with psycopg.connect(self._url) as connection:
            row = connection.execute("SELECT val FROM public.variable").fetchone()
        assert row is not None
        return TokenPair.from_json(row[0])

    def save(self, token: TokenPair) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute("UPDATE public.variable SET val = %s", [token.to_json()])
