"""The stand-ins of both systems as a process of the run, and what they tell about themselves."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from local.errors import LocalError
from local.processes import Component, Processes
from local.settings import REPOSITORY, Settings

START_TIMEOUT = 30.0  # seconds
PAGE = 1000


class Sandbox:
    """The running sandbox of a local run."""

    def __init__(self, settings: Settings) -> None:
        self.state = settings.home / "sandbox.state"
        self._settings = settings
        self._quickbooks = settings.credentials.quickbooks_url
        self._mailchimp = settings.credentials.mailchimp_url.removesuffix("/3.0")
        self._http = requests.Session()
        self._http.trust_env = False

    def start(self, processes: Processes, environment: Mapping[str, str]) -> Component:
        """Start the process; its state is that of the last run, kept in the state folder."""
        ports = self._settings.ports
        command: list[str | Path] = [sys.executable, "-m", "sandbox.serve"]
        command += ["--quickbooks-port", str(ports.quickbooks_port)]
        command += ["--mailchimp-port", str(ports.mailchimp_port)]
        command += ["--state", str(self.state)]
        return processes.start("sandbox", command, environment=environment, folder=REPOSITORY)

    def wait(self, processes: Processes) -> None:
        """Wait until both halves answer.

        Raises:
            LocalError: The process ended or did not answer in time.
        """
        deadline = time.monotonic() + START_TIMEOUT
        waiting = [self._quickbooks, self._mailchimp]
        while waiting:
            processes.check()
            if time.monotonic() > deadline:
                raise LocalError(
                    f"the sandbox did not answer at {waiting[0]} within {START_TIMEOUT:.0f} s",
                    log=self._settings.logs / "sandbox.log",
                )
            try:
                self._get(f"{waiting[0]}/_sandbox/health")
                waiting.pop(0)
            except requests.RequestException:
                time.sleep(0.05)

    def calls(self) -> dict[str, dict[str, int]]:
        """Reads, writes and token calls since the sandbox started, for each system."""
        counts = {}
        for name, url in (("QuickBooks", self._quickbooks), ("Mailchimp", self._mailchimp)):
            summary = self._get(f"{url}/_sandbox/journal/summary")
            counts[name] = {kind: int(summary[kind]) for kind in ("reads", "writes", "tokens")}
        return counts

    def customers(self) -> list[dict[str, Any]]:
        """Every customer of the company, inactive ones too."""
        found = self._get(f"{self._quickbooks}/_sandbox/customers")
        return list(found["customers"] if isinstance(found, dict) else found)

    def members(self, audience: str) -> list[dict[str, Any]]:
        """Every member of the audience, archived ones too, as the Mailchimp API gives them."""
        found: list[dict[str, Any]] = []
        for status in ("", "&status=archived"):
            offset = 0
            while True:
                url = f"{self._mailchimp}/3.0/lists/{audience}/members"
                page = self._get(
                    f"{url}?count={PAGE}&offset={offset}{status}",
                    key=self._settings.credentials.mailchimp_key,
                )
                found += page["members"]
                offset += PAGE
                if offset >= page["total_items"]:
                    break
        return found

    def report_customers_to(self, url: str) -> None:
        """Let the company's changes be told by webhook, signed as the connection expects."""
        verifier = self._settings.credentials.verifier_token
        answer = self._http.put(
            f"{self._quickbooks}/_sandbox/webhooks",
            json={"url": url, "verifier_token": verifier},
            timeout=10,
        )
        answer.raise_for_status()

    def _get(self, url: str, *, key: str = "") -> Any:
        answer = self._http.get(url, auth=("ml-connector", key) if key else None, timeout=10)
        answer.raise_for_status()
        return answer.json()
