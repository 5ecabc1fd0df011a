"""A machine of its own for a test: a state folder, free ports, and `make run` on them."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from local.settings import Ports
from local.watchdog import Watchdog
from sandbox.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 240  # seconds; 40 is usual on 2 cores
CREDENTIALS = ("QUICKBOOKS_", "MAILCHIMP_", "AIRFLOW", "ML_CONNECTOR", "MAKE", "MFLAGS")


class Machine:
    """A state folder and ports of its own, by default for this checkout."""

    def __init__(self, home: Path, checkout: Path = REPOSITORY) -> None:
        self.home = home
        self.checkout = checkout
        self.ports = {name.upper(): free_port() for name in vars(Ports())}

    def command(self, *arguments: str, target: str = "run") -> list[str]:
        return [
            *("make", "--no-print-directory", target),
            *(f"VENV={sys.prefix}", f"ML_CONNECTOR_HOME={self.home}"),
            *(f"{name}={port}" for name, port in self.ports.items()),
            *arguments,  # of two values make takes the last
        ]

    @contextmanager
    def start(
        self, *arguments: str, target: str = "run", stdin: int | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """Run `make run`, or another target; it is interrupted if this process is killed."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(CREDENTIALS)
        }
        watchdog = Watchdog(self.home.parent / "users")
        with subprocess.Popen(
            self.command(*arguments, target=target),
            cwd=self.checkout,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            watchdog.start(-process.pid, signal="INT")
            try:
                yield process
            finally:
                if process.poll() is None:  # a test failed while it stays up
                    os.killpg(process.pid, signal.SIGINT)
                    process.communicate(timeout=60)
                watchdog.cancel()

    def run(self, *arguments: str) -> tuple[int, str]:
        return self.type("make run ONCE=1", *arguments)

    def type(self, command: str, *arguments: str, stdin: str | None = None) -> tuple[int, str]:
        """Type a command of a page, `make run ONCE=1`, and what it asks; return how it ended."""
        _, target, *given = shlex.split(command)
        pipe = None if stdin is None else subprocess.PIPE
        with self.start(*given, *arguments, target=target, stdin=pipe) as process:
            try:
                output, _ = process.communicate(stdin, timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGTERM)
                output, _ = process.communicate(timeout=60)
                pytest.fail(f"{command} did not end:\n{output}")
        return process.returncode, output

    def sessions(self) -> set[int]:
        """The sessions that the last run had started, each by its first process."""
        return {int(one) for one in json.loads((self.home / "sessions.json").read_text())}

    def left_running(self) -> list[str]:
        """Processes of the sessions that the last run had started."""
        sessions = self.sessions()
        left = []
        for process in psutil.process_iter(["name", "status"]):
            try:
                session = os.getsid(process.pid)
            except ProcessLookupError:
                continue
            if session in sessions and process.info["status"] != psutil.STATUS_ZOMBIE:
                left.append(process.info["name"])
        return left
