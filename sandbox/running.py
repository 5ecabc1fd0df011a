"""Start the sandbox from a test or a script, in this process or in one of its own."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from sandbox.connections import TrackedProtocol
from sandbox.control import ASGIApp
from sandbox.ports import free_port

START_SECONDS = 180.0
"""To make up a million customers takes more than 60 of them on a busy machine."""


class SandboxNotStartedError(RuntimeError):
    """The sandbox did not come up; the message says why."""


@dataclass(frozen=True)
class RunningSandbox:
    """Where a running sandbox listens. Base URLs have no slash at the end."""

    quickbooks_url: str
    mailchimp_url: str


class Server(uvicorn.Server):
    """uvicorn, leaving signals to a caller that runs several servers in one process."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then say so."""
        await super().startup(sockets)
        if self._on_ready is not None:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers: two servers would take the signal from each other."""
        yield


def make_server(app: ASGIApp, *, on_ready: Callable[[], None] | None = None) -> Server:
    """Build a quiet server whose connections a fault can drop."""
    return Server(
        uvicorn.Config(
            app,
            http=TrackedProtocol,
            lifespan="off",
            log_level="warning",
            access_log=False,
            date_header=False,  # the mock servers have clocks of their own
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
        ),
        on_ready,
    )


def bind(host: str, port: int) -> socket.socket:
    """Listen on a port (0 for any that is free).

    Raises:
        OSError: the port is taken.
    """
    # Without the protocol named, asyncio leaves Nagle's algorithm on and every response takes 40
    # ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def serving_in_thread(
    apps: Mapping[str, ASGIApp], host: str = "127.0.0.1"
) -> Iterator[dict[str, str]]:
    """Serve apps on free ports from a background thread; yields base URLs under the same keys."""
    listeners = {name: bind(host, 0) for name in apps}
    servers = {name: make_server(app) for name, app in apps.items()}

    async def serve_all() -> None:
        await asyncio.gather(*(servers[n].serve(sockets=[listeners[n]]) for n in servers))

    thread = threading.Thread(target=lambda: asyncio.run(serve_all()), name="sandbox", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not all(server.started for server in servers.values()):
            if not thread.is_alive() or time.monotonic() > deadline:
                raise SandboxNotStartedError("the sandbox's server did not start")
            time.sleep(0.005)
        yield {name: f"http://{host}:{listeners[name].getsockname()[1]}" for name in apps}
    finally:
        for server in servers.values():
            server.should_exit = True
        thread.join(timeout=10)


@contextlib.contextmanager
def running_as_process(
    *,
    company: str = "sample",
    quickbooks_port: int = 0,
    mailchimp_port: int = 0,
    state: Path | None = None,
) -> Iterator[RunningSandbox]:
    """Run ``python -m sandbox`` and yield where it listens; ports of 0 are chosen free.

    ``state`` names the file that keeps the sandbox's state.

    Raises:
        SandboxNotStartedError: the process ended, or was not ready in time.
    """
    quickbooks_port = quickbooks_port or free_port()
    mailchimp_port = mailchimp_port or free_port()
    command = [
        *(sys.executable, "-m", "sandbox", "--company", company),
        *("--quickbooks-port", str(quickbooks_port), "--mailchimp-port", str(mailchimp_port)),
        *(("--state", str(state)) if state else ()),
    ]
    urls = [f"http://127.0.0.1:{port}" for port in (quickbooks_port, mailchimp_port)]
    with subprocess.Popen(command) as process:  # noqa: S603 - our own module, no shell
        try:
            _wait_until_ready(process, urls)
            yield RunningSandbox(quickbooks_url=urls[0], mailchimp_url=urls[1])
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], urls: list[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    waiting = list(urls)
    while waiting:
        if process.poll() is not None:
            raise SandboxNotStartedError(f"the sandbox ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise SandboxNotStartedError(f"no response from {waiting[0]} in {START_SECONDS:.0f} s")
        try:
            with urllib.request.urlopen(f"{waiting[0]}/_sandbox/health", timeout=2):  # noqa: S310
                waiting.pop(0)
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
