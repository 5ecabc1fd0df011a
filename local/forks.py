"""The client of the fork server: components that start as forks of one warm process."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from local.errors import LocalError
from local.logs import reason_of

PATIENCE = 180.0
"""Seconds the fork server may take to start a child, its imports included; 10 are usual."""

AVAILABLE = sys.platform == "linux"
"""Whether components are forked. On macOS a fork after the import of system frameworks is unsafe."""


class Process(Protocol):
    """What ``subprocess.Popen`` and a fork have in common."""

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def returncode(self) -> int | None:
        """Return the exit code once it has ended, negative for a signal."""

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""

    def kill(self) -> None:
        """Send SIGKILL."""


class ForkServer:
    """The connection to a fork server, a process with pipes to its input and output."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log
        self._buffer = b""
        self._started: dict[int, int] = {}
        self._codes: dict[int, int] = {}
        self._number = 0

    def preload(self, *names: str) -> None:
        """Import modules there, or call a ``module:function``; returns at once."""
        self._send({"preload": names})

    def start(
        self, entry: str, argv: Sequence[str], *, log: Path, folder: Path, given: str = ""
    ) -> "Fork":
        """Fork a child that calls ``entry``, given as ``module:function``.

        Raises:
            LocalError: The fork server has stopped, or does not respond.
        """
        self._number += 1
        self._send(
            {
                "start": self._number,
                "entry": entry,
                "argv": list(argv),
                "log": str(log),
                "folder": str(folder),
                "given": given,
            }
        )
        deadline = time.monotonic() + PATIENCE
        while self._number not in self._started:
            if not self._read(max(deadline - time.monotonic(), 0)):
                if time.monotonic() < deadline:
                    raise self.stopped()
                raise LocalError(
                    f"the fork server did not start {argv[0]} within {PATIENCE:.0f} s", log=self.log
                )
        return Fork(self, self._started[self._number])

    def code_of(self, pid: int, timeout: float | None = 0.0) -> int | None:
        """Return a child's exit code; wait for it for up to ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while pid not in self._codes:
            left = None if deadline is None else deadline - time.monotonic()
            if not self._read(None if left is None else max(left, 0)):
                break
            if left is not None and left <= 0:
                break
        return self._codes.get(pid)

    def _send(self, request: Mapping[str, object]) -> None:
        if not self.process.stdin:
            raise LocalError("the fork server has no input", log=self.log)
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self.stopped() from None

    def stopped(self) -> LocalError:
        """Return the error of a fork server that is no longer there."""
        return LocalError(f"the fork server stopped: {reason_of(self.log)}", log=self.log)

    def _read(self, timeout: float | None) -> bool:
        """Take up the replies that come within ``timeout`` seconds; say whether any came."""
        replies = self.process.stdout
        if replies is None or not select.select([replies], [], [], timeout)[0]:
            return False
        data = os.read(replies.fileno(), 65536)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            reply = json.loads(line)
            if "start" in reply:
                self._started[reply["start"]] = reply["pid"]
                self._codes.pop(reply["pid"], None)  # of an earlier process with the same id
            else:
                self._codes[reply["pid"]] = reply["code"]
        return bool(data)


class Fork:
    """A forked child; its parent is the fork server, which reports its end."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server, self._pid = server, pid

    @property
    def pid(self) -> int:
        """The process id."""
        return self._pid

    @property
    def returncode(self) -> int | None:
        """Return the exit code once it has ended, negative for a signal."""
        return self._server.code_of(self._pid)

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._server.code_of(self._pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code.

        Raises:
            TimeoutError: It still runs after ``timeout`` seconds.
            LocalError: The fork server stopped first.
        """
        code = self._server.code_of(self._pid, timeout)
        if code is not None:
            return code
        if timeout is None:
            raise self._server.stopped()
        raise TimeoutError(f"process {self._pid} still runs")

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.poll() is None:
            os.kill(self._pid, 9)
