"""The mock servers of both systems as a process of the run, and their own reports."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from local.errors import LocalError
from local.processes import Component, Processes
from local.settings import REPOSITORY, Settings

START_TIMEOUT = 30.0  # seconds
PAGE = 1000
NOT_FOUND = 404


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
        command: list[str | Path] = [sys.executable, "-m", "sandbox"]
        command += ["--quickbooks-port", str(ports.quickbooks_port)]
        command += ["--mailchimp-port", str(ports.mailchimp_port)]
        command += ["--state", str(self.state)]
        return processes.start("sandbox", command, environment=environment, folder=REPOSITORY)

    def wait(self, processes: Processes) -> None:
        """Wait until both halves respond.

        Raises:
            LocalError: The process ended or did not respond in time.
        """
        deadline = time.monotonic() + START_TIMEOUT
        waiting = [self._quickbooks, self._mailchimp]
        while waiting:
            processes.check()
            if time.monotonic() > deadline:
                raise LocalError(
                    f"the sandbox did not respond at {waiting[0]} within {START_TIMEOUT:.0f} s",
                    log=self._settings.logs / "sandbox.log",
                )
            try:
                self._get(f"{waiting[0]}/_sandbox/health")
                waiting.pop(0)
            except requests.RequestException:
                time.sleep(0.05)

    def calls(self) -> dict[str, dict[str, int]]:
        """Return reads, writes and token calls of each system since the sandbox started."""
        counts = {}
        for name, url in (("QuickBooks", self._quickbooks), ("Mailchimp", self._mailchimp)):
            summary = self._get(f"{url}/_sandbox/journal/summary")
            counts[name] = {kind: int(summary[kind]) for kind in ("reads", "writes", "tokens")}
        return counts

    def customers(self) -> list[dict[str, Any]]:
        """Return every customer of the company, inactive ones too."""
        found = self._get(f"{self._quickbooks}/_sandbox/customers")
        return list(found["customers"] if isinstance(found, dict) else found)

    def members(self, audience: str) -> list[dict[str, Any]]:
        """Return every member of the audience, archived ones too, as the Mailchimp API gives them."""
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
        """Let webhooks report the company's changes, signed as the connection expects."""
        verifier = self._settings.credentials.verifier_token
        body = {"url": url, "verifier_token": verifier}
        self._tell("PUT", f"{self._quickbooks}/_sandbox/webhooks", body)

    def create_customer(self, fields: Mapping[str, Any]) -> str:
        """Create a customer as a bookkeeper would; return its id."""
        return str(self._tell("POST", f"{self._quickbooks}/_sandbox/customers", fields)["Id"])

    def customer(self, customer_id: str) -> dict[str, Any]:
        """Return a customer as the QuickBooks API gives it."""
        found: dict[str, Any] = self._get(f"{self._quickbooks}/_sandbox/customers/{customer_id}")
        return found

    def edit_customer(self, customer_id: str, fields: Mapping[str, Any]) -> None:
        """Change a customer's fields as a bookkeeper would."""
        self._tell("PATCH", f"{self._quickbooks}/_sandbox/customers/{customer_id}", fields)

    def merge_customers(self, survivor: str, loser: str) -> None:
        """Merge a customer into another as a bookkeeper would."""
        order = {"survivor": survivor, "loser": loser}
        self._tell("POST", f"{self._quickbooks}/_sandbox/customers/merge", order)

    def member(self, email: str) -> dict[str, Any] | None:
        """Return a member by address, archived or not; None if there is none."""
        answer = self._http.get(f"{self._mailchimp}/_sandbox/members/{quote(email)}", timeout=10)
        if answer.status_code == NOT_FOUND:
            return None
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def status(self, email: str) -> str:
        """Return a member's status; empty if there is none."""
        return str((self.member(email) or {}).get("status", ""))

    def act(self, email: str, action: str, given: Mapping[str, Any]) -> None:
        """Do what the person behind an address can do: ``unsubscribe``, ``profile`` ..."""
        self._tell("POST", f"{self._mailchimp}/_sandbox/members/{quote(email)}/{action}", given)

    def _tell(self, method: str, url: str, body: Mapping[str, Any]) -> Any:
        answer = self._http.request(method, url, json=body, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def _get(self, url: str, *, key: str = "") -> Any:
        answer = self._http.get(url, auth=("ml-connector", key) if key else None, timeout=10)
        answer.raise_for_status()
        return answer.json()
