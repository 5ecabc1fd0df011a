"""Webhooks of the local run: registered with both mock servers, so that edits show within seconds.

With real accounts nothing is registered by itself: they cannot reach this machine.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from local.airflow import for_processes
from local.errors import LocalError
from local.forks import ForkServer, Process
from local.logs import reason_of
from local.sandbox import Sandbox
from local.settings import REPOSITORY, Settings

ENDPOINTS = "/ml-connector/webhooks"


class Registration:
    """Both registrations; Mailchimp's by our own command, in parallel with the first sync."""

    def __init__(
        self,
        settings: Settings,
        sandbox: Sandbox,
        variables: Mapping[str, str],
        *,
        forks: ForkServer | None = None,
    ) -> None:
        self._forks = forks
        sandbox.report_customers_to(f"{settings.ui}{ENDPOINTS}/quickbooks")
        self._log = settings.logs / "register-webhooks.log"
        self._url, self._environment = settings.ui, for_processes(variables)
        self._process = self._begin()

    def finish(self) -> None:
        """Wait for it; try again if it failed, since it began while all the rest was starting.

        Raises:
            LocalError: It failed twice; carries the reason from its log.
        """
        if not self._process.wait():
            return
        self._process = self._begin()
        if self._process.wait():
            raise LocalError(
                f"webhooks could not be registered: {reason_of(self._log)}", log=self._log
            )

    def _begin(self) -> Process:
        arguments = ["register-webhooks", "--url", self._url]
        if self._forks:
            argv = ["ml-connector", *arguments]
            entry = "ml_connector.cli:main"
            return self._forks.start(entry, argv, log=self._log, folder=REPOSITORY)
        program = Path(sys.executable).with_name("ml-connector")
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own program and options
                [sys.executable, program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=REPOSITORY,
                start_new_session=True,
            )

    def abandon(self) -> None:
        """End it if it is still at work."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
