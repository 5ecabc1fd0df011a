"""Prism in front of a mock server: requests and answers are held against the published contract.

    with prism(stand_in_url) as proxy:
        run_something_against(proxy.url + "/3.0")
        assert proxy.violations() == []

Prism is installed by npm into `node_modules` beside this file when it is missing. It is a gate for
schemas only: it is stateless, and answers 422 where Mailchimp answers 400.
"""

import contextlib
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.ports import free_port
from tests.contract.npm import installed

HERE = Path(__file__).parent
SPEC = HERE / "mailchimp-openapi-2026.json"
START_SECONDS = 60
_REFUSED = "Request terminated with error"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class PrismFailedError(RuntimeError):
    """Prism did not start; the message says why."""


@dataclass(frozen=True)
class Proxy:
    """A running Prism. `url` has no slash at the end."""

    url: str
    log: Path

    def violations(self) -> list[str]:
        """What broke the contract so far, on either side, one line each.

        Prism writes its log late, so a request of our own marks the end of what was before.
        """
        mark = f"/end-of-log/{time.monotonic_ns()}"
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(self.url + mark, timeout=10)
        deadline = time.monotonic() + 10
        refused = self._refused()
        while not any(mark in line for line in refused):
            if time.monotonic() > deadline:
                raise PrismFailedError("Prism stopped writing its log")
            time.sleep(0.01)
            refused = self._refused()
        return [line for line in refused if "/end-of-log/" not in line]

    def _refused(self) -> list[str]:
        lines = _COLOUR.sub("", self.log.read_text(errors="replace")).splitlines()
        return [line.strip() for line in lines if _REFUSED in line]


@contextlib.contextmanager
def prism(target_url: str, log: Path) -> Iterator[Proxy]:
    """Run Prism as a proxy in front of `target_url`; takes 4 to 7 s to start.

    Requests that break the contract are answered 422, broken answers 500.

    Raises:
        NodeMissingError: there is no Node on this machine.
        NpmFailedError: npm cannot install it.
        PrismFailedError: it does not start.
    """
    binary = installed(".bin/prism")
    port = free_port()
    command = [
        *(str(binary), "proxy", "-h", "127.0.0.1", "-p", str(port), "--errors"),
        *(str(SPEC), target_url),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    proxy = Proxy(f"http://127.0.0.1:{port}", log)
    try:
        _wait_until_ready(process, proxy)
        yield proxy
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(process: "subprocess.Popen[bytes]", proxy: Proxy) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "is listening" not in proxy.log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise PrismFailedError(f"Prism did not start: {proxy.log.read_text()[-500:]}")
        time.sleep(0.05)
