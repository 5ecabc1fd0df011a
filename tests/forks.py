"""Run ``ml-connector`` and ``airflow`` as forks of one process that has imported Airflow.

A command of its own costs 4 to 6 CPU seconds of imports. A fork costs half a second. It is a
process as well: it has its own arguments, environment, folder, input and output, and ends by
signals.

Airflow reads some of its environment when it is imported. So each ``AIRFLOW_HOME`` with its
``AIRFLOW__...`` variables has a parent of its own. A child verifies that it has the right one.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

ENTRIES = {
    "ml-connector": ("ml_connector.cli", "main"),
    "airflow": ("airflow.__main__", "main"),
    "console-runs": ("tests.integration.console_runs", "main"),
}
PRELOADED = (
    "airflow.__main__",
    "airflow.api_fastapi.core_api.app",
    "airflow.api_fastapi.execution_api.app",
    "airflow.cli.commands.dag_command",
    "airflow.cli.commands.pool_command",
    "airflow.cli.commands.variable_command",
    "airflow.dag_processing.dagbag",
    "airflow.migrations.utils",
    "airflow.plugins_manager",
    "airflow.providers_manager",
    "airflow.utils.db",
    "alembic.command",
    "alembic.context",
    "ml_connector.cli",
    "ml_connector_airflow.commands.check",
    "ml_connector_airflow.commands.cli",
    "ml_connector_airflow.commands.privacy",
    "ml_connector_airflow.preloaded",
    "sandbox.__main__",
    "uvicorn",
)
ROOT = Path(__file__).resolve().parents[1]
LARGEST_REQUEST = 1 << 17
ENDS_WITHIN = 240.0
"""Seconds that the end of a block waits for its command. One of a failed block is killed."""
WRONG_ENVIRONMENT = 86
"""The exit code of a child that would not see what its environment says."""


class Forks:
    """The process that forks. ``environment`` holds all that Airflow reads at its import."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.forks", str(theirs.fileno())],
                env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        if self._ours.recv(16) != b"ready":
            raise RuntimeError("the process that forks did not start; its errors are above")

    def close(self) -> None:
        """End the process that forks; children that still run are not waited for."""
        self._ours.close()
        self._process.wait(30)

    def start(
        self, words: list[str], environment: Mapping[str, str], folder: Path, given: Sequence[int]
    ) -> "Forked":
        """Start a command. ``given`` are descriptors: its input, output and errors."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"words": words, "environment": dict(environment), "folder": str(folder)}
        with theirs:
            socket.send_fds(self._ours, [json.dumps(request).encode()], [*given, theirs.fileno()])
        return Forked(ours, words)


_parents: dict[str, Forks] = {}


def _parent(environment: Mapping[str, str]) -> Forks:
    """Return the process that forks for this environment, started when first needed."""
    fixed = json.dumps(_read_at_import(environment), sort_keys=True)
    if fixed not in _parents:
        _parents[fixed] = Forks(environment)
        atexit.register(_parents[fixed].close)
    return _parents[fixed]


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    input: str = "",  # noqa: A002 - the name that subprocess.run has
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as ``subprocess.run`` with captured text does."""
    words = [str(word) for word in command]
    with (
        tempfile.TemporaryFile("w+") as stdin,
        tempfile.TemporaryFile("w+") as stdout,
        tempfile.TemporaryFile("w+") as stderr,
    ):
        stdin.write(input)
        stdin.seek(0)
        given = [stdin.fileno(), stdout.fileno(), stderr.fileno()]
        with _parent(env).start(words, env, cwd, given) as child:
            code = child.wait(timeout)
        said = []
        for file in (stdout, stderr):
            file.seek(0)
            said.append(file.read())
    return subprocess.CompletedProcess(words, code, *said)


def start(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    log: Path | None = None,
) -> "Forked":
    """Start a command; what it prints goes to ``log`` or can be read from ``stdout``."""
    words = [str(word) for word in command]
    reading = None
    if log:
        writing = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    else:
        reading, writing = os.pipe()
    with Path(os.devnull).open() as nothing:
        child = _parent(env).start(words, env, cwd, [nothing.fileno(), writing, writing])
    os.close(writing)
    if reading is not None:
        child.stdout = os.fdopen(reading)
    return child


class Forked:
    """A command that runs, as ``subprocess.Popen`` shows one. ``stdout`` is there if it was piped."""

    def __init__(self, told: socket.socket, words: list[str]) -> None:
        self._told, self.args = told, words
        self.stdout: TextIO | None = None
        self.returncode: int | None = None
        self.pid = int(told.recv(16))

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, None while it runs."""
        if self.returncode is None:
            self._told.setblocking(False)
            try:
                line = self._told.recv(16)
            except BlockingIOError:
                return None
            self.returncode = int(line)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; a child that takes longer is killed.

        Raises:
            subprocess.TimeoutExpired: It took longer.
        """
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self.returncode = int(self._told.recv(16))
            except TimeoutError:
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Read all that was printed, then wait for the end."""
        said = self.stdout.read() if self.stdout else ""
        self.wait(timeout)
        return said, None

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if self.stdout:
            self.stdout.close()
        if failure is not None:
            self.kill()
        self.wait(ENDS_WITHIN)
        self._told.close()


def _serve(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork for every request. Returns in each child, with what it has to run; None at the end."""
    connection.send(b"ready")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, LARGEST_REQUEST, 4)
        if not data:
            return None
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.close()
            with socket.socket(fileno=descriptors.pop()) as report:
                pid = os.fork()
                if pid:
                    for descriptor in (0, 1, 2, *descriptors):
                        os.close(descriptor)
                    report.send(str(pid).encode())
                    _, status = os.waitpid(pid, 0)
                    report.send(str(os.waitstatus_to_exitcode(status)).encode())
                    os._exit(0)
            return json.loads(data), descriptors
        for descriptor in descriptors:
            os.close(descriptor)


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take over arguments, environment, folder, input and output."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    fixed = _read_at_import(os.environ)
    os.environ.clear()
    os.environ.update(request["environment"])
    if _read_at_import(os.environ) != fixed:
        sys.stderr.write(f"Airflow was imported with another environment: {fixed}\n")
        sys.stderr.flush()
        os._exit(WRONG_ENVIRONMENT)
    os.chdir(request["folder"])
    sys.argv = list(request["words"])
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=at_once)  # type: ignore[union-attr]


def _read_at_import(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name == "AIRFLOW_HOME" or name.startswith("AIRFLOW__")
    }


def main() -> None:
    """Import all that commands import, then fork for each."""
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        for name in PRELOADED:
            importlib.import_module(name)
        if threading.active_count() > 1:
            raise RuntimeError(f"threads before a fork: {threading.enumerate()}")
        found = _serve(connection)
    if found is not None:
        _become(*found)
        module, function = ENTRIES[Path(sys.argv[0]).name]
        sys.exit(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    main()
