"""Do webhooks arrive? Changes made in both mock servers, and looked for on the other side.

Everything happens to customers of its own, so the company's other customers stay unchanged.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.client import AirflowApi
from local.errors import LocalError
from local.processes import Processes
from local.progress import Progress
from local.sandbox import Sandbox
from local.settings import Settings
from local.summary import at_rest

DAG = "process_webhooks"
PATIENCE = 90.0  # seconds; the first event also waits for Airflow to take up the DAG
POLL = 0.2  # seconds
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """One change: how it is made, and how it shows that it has arrived."""

    name: str
    make: Callable[[], object]
    arrived: Callable[[], bool]


class WebhookDrill:
    """Fires every webhook of both systems, and checks that each change arrives."""

    def __init__(
        self,
        api: AirflowApi,
        sandbox: Sandbox,
        settings: Settings,
        processes: Processes,
        progress: Progress,
        *,
        database_url: str,
    ) -> None:
        self._database_url, self._since = database_url, datetime.now(UTC)
        self._api, self._sandbox, self._settings = api, sandbox, settings
        self._processes, self._progress = processes, progress
        self._tag = secrets.token_hex(3)
        self._ids: dict[str, str] = {}

    def begin(self) -> bool:
        """Let the DAG wait for events, if Airflow has parsed it; return whether it does."""
        if not self._api.has_dag(DAG):
            return False
        self._api.unpause(DAG)
        if not self._api.active_run_ids(DAG):
            self._api.trigger(DAG)
        return True

    def run(self) -> None:
        """Run every case, one after the other, and wait until the worker has settled.

        Raises:
            LocalError: A change did not arrive; says which.
        """
        self._api.unpause(DAG)
        for case in self._cases():
            if not self._api.active_run_ids(DAG):  # in a run that ends, nothing runs by schedule
                self._api.trigger(DAG)
            case.make()
            began = time.monotonic()
            self._wait(case.arrived, f"{case.name}: it did not arrive on the other side")
            self._progress.say(f"  {case.name}: arrived after {time.monotonic() - began:.1f} s")
        self._wait(self._settled, f"{DAG} did not come to rest")
        for run_id in self._api.active_run_ids(DAG):
            self._api.end_run(DAG, run_id)

    def _cases(self) -> list[Case]:
        moved = self._address("ann.moved")
        return [
            Case(
                "QuickBooks, customers created",
                lambda: self._create("ann", "ben", "cleo", "dan"),
                lambda: all(self._is_contact(name) for name in self._ids),
            ),
            Case(
                "QuickBooks, name changed",
                lambda: self._edit("ann", {"GivenName": "Annette"}),
                lambda: self._member("ann")["merge_fields"]["FNAME"] == "Annette",
            ),
            Case(
                "QuickBooks, e-mail changed",
                lambda: self._edit("ann", {"PrimaryEmailAddr": {"Address": moved}}),
                lambda: self._sandbox.status(moved) == "subscribed" and not self._is_contact("ann"),
            ),
            Case(
                "QuickBooks, customer merged into another",
                lambda: self._sandbox.merge_customers(self._ids["ann"], self._ids["ben"]),
                lambda: not self._is_contact("ben"),
            ),
            Case(
                "Mailchimp, details changed",
                lambda: self._act("cleo", "profile", {"merge_fields": {"FNAME": "Cleopatra"}}),
                lambda: "changed their details" in self._notes("cleo"),
            ),
            Case(
                "QuickBooks, name changed after the contact did",
                lambda: self._edit("cleo", {"GivenName": "Cleo P."}),
                lambda: self._member("cleo")["merge_fields"]["FNAME"] == "Cleo P.",
            ),
            Case(
                "Mailchimp, unsubscribed",
                lambda: self._act("cleo", "unsubscribe", {}),
                lambda: "Unsubscribed from the newsletter" in self._notes("cleo"),
            ),
            Case(
                "Mailchimp, cleaned",
                lambda: self._act("dan", "clean", {}),
                lambda: "bounced" in self._notes("dan"),
            ),
        ]

    def _wait(self, found: Callable[[], bool], failure: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not found():
            self._processes.check()
            if time.monotonic() > deadline:
                raise LocalError(
                    f"webhooks: {failure} within {PATIENCE:.0f} s", log=self._settings.logs
                )
            time.sleep(POLL)

    def _settled(self) -> bool:
        """Return whether nothing is left to do; the task itself stays a while for events that follow."""
        return at_rest(self._database_url, since=self._since)

    def _address(self, name: str) -> str:
        return f"{name}.{self._tag}@webhook-drill.com"

    def _create(self, *names: str) -> None:
        for name in names:
            self._ids[name] = self._sandbox.create_customer(
                {
                    "DisplayName": f"Webhook drill {self._tag}: {name}",
                    "GivenName": name.title(),
                    "PrimaryEmailAddr": {"Address": self._address(name)},
                }
            )

    def _edit(self, name: str, fields: Fields) -> None:
        self._sandbox.edit_customer(self._ids[name], fields)

    def _act(self, name: str, action: str, given: Fields) -> None:
        self._sandbox.act(self._address(name), action, given)

    def _is_contact(self, name: str) -> bool:
        return self._sandbox.status(self._address(name)) == "subscribed"

    def _member(self, name: str) -> Fields:
        return self._sandbox.member(self._address(name)) or {"merge_fields": {"FNAME": ""}}

    def _notes(self, name: str) -> str:
        return str(self._sandbox.customer(self._ids[name]).get("Notes") or "")
