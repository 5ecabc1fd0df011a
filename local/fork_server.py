"""Import Airflow once and fork its components: ``python -m local.fork_server``.

Requests are JSON lines on standard input, replies JSON lines on standard output::

    {"preload": ["airflow.utils.db", "local.warm:api_server"]}        no reply
    {"start": 1, "entry": "airflow.__main__:main", "argv": [...],
     "log": "...", "folder": "...", "given": "..."}                   {"start": 1, "pid": 42}
                                                 once it has ended    {"pid": 42, "code": -15}

Each child leads a session of its own, writes to its own log and reads ``given`` from standard
input. ``local.forks`` is the client. Why, and what may not happen before a fork: decision 0021.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

REQUESTS, OUTPUT, ERRORS = 0, 1, 2
Child = Callable[[], object]


class Server:
    """Serve requests until the input ends, or SIGTERM comes, and no child is left."""

    def __init__(self, replies: int) -> None:
        self._replies = replies
        self._children: set[int] = set()
        self._buffer = b""
        self._open, self._stopping = True, False
        # A signal writes into this pipe, so that the loop below sleeps without a time limit.
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)

    def serve(self) -> Child | None:
        """Return None when the work is over; in each forked child return what it has to run."""
        poll = select.poll()
        poll.register(REQUESTS, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while (self._open and not self._stopping) or self._children:
            for descriptor, _ in poll.poll():
                if descriptor == self._woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                elif data := os.read(REQUESTS, 65536):
                    self._buffer += data
                else:
                    self._open = False
                    poll.unregister(REQUESTS)
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                if child := self._handle(json.loads(line)):
                    return child
            self._reap()
        return None

    def _handle(self, request: Mapping[str, Any]) -> Child | None:
        for name in request.get("preload", ()):
            if ":" in name:
                entry(name)()
            else:
                importlib.import_module(name)
        if "start" not in request:
            return None
        # What is imported stays out of the collector's sight, so no child copies its pages.
        gc.freeze()
        sys.stdout.flush()
        if threading.active_count() > 1:
            raise RuntimeError(f"threads before a fork: {threading.enumerate()}")
        pid = os.fork()
        if not pid:
            self._become(request)
            return entry(str(request["entry"]))
        self._children.add(pid)
        self._reply(start=request["start"], pid=pid)
        return None

    def _become(self, request: Mapping[str, Any]) -> None:
        """Make the fork a process as if it had been started by itself."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for descriptor in (self._woken, self._wake, self._replies):
            os.close(descriptor)
        os.setsid()
        os.chdir(request["folder"])
        with Path(request["log"]).open("ab") as log:
            os.dup2(log.fileno(), OUTPUT)
            os.dup2(log.fileno(), ERRORS)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, REQUESTS)
        os.close(nothing)
        sys.stdin = io.StringIO(request["given"])
        sys.argv = list(request["argv"])
        _name(" ".join(sys.argv))
        gc.enable()

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._children.discard(pid)
            self._reply(pid=pid, code=os.waitstatus_to_exitcode(status))

    def _reply(self, **values: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the run was killed; its children live on
            os.write(self._replies, json.dumps(values).encode() + b"\n")

    def _stop(self, *_: object) -> None:
        self._stopping = True


def entry(name: str) -> Child:
    """Return the function of ``module:function``."""
    module, _, function = name.partition(":")
    found: Child = getattr(importlib.import_module(module), function)
    return found


def _name(title: str) -> None:
    """Show the command in the list of processes, in place of the fork server's own."""
    with contextlib.suppress(ImportError):
        importlib.import_module("setproctitle").setproctitle(title)


def main() -> object:
    """Serve; a child also returns from here, with its own exit code."""
    replies = os.dup(OUTPUT)
    os.dup2(ERRORS, OUTPUT)  # what an import prints is no reply
    gc.disable()
    child = Server(replies).serve()
    return child() if child else None


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[arg-type]
