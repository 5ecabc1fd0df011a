"""The sequence of a local run: database, sandbox, Airflow, first sync, check, summary."""

import contextlib
import importlib
import secrets as random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import structlog
import yaml
from rich.console import Console

from local import accounts, airflow, forks, summary, verify, warm
from local import secrets as keys
from local.client import AirflowApi
from local.drill import WebhookDrill
from local.errors import LocalError
from local.lock import only_run, remember_sessions, remembered_sessions
from local.postgres import HOST, USER, EmbeddedPostgres, port_is_free
from local.processes import GRACE, Processes, end_sessions, stale_sessions
from local.progress import Progress
from local.sandbox import Sandbox
from local.settings import REPOSITORY, SHIPPED_SYNCS, Settings, syncs_for_audience
from local.sync import FirstSync
from local.webhooks import Registration
from ml_connector_airflow.dag_ids import SERVICES

# DAG files are parsed while the fork server imports what the API server needs. The triggerer is not
# needed for the first tasks, so it does not take part in the rush for the two cores.
FIRST = ("dag-processor", "scheduler")
API_SERVER = ("api-server",)
LATER = ("triggerer",)
POLL = 0.5  # seconds
SAVING = 30.0  # seconds; the mock servers write thousands of customers and members as they end
START_TIMEOUT = 180.0  # seconds; 20 is usual on 2 cores
PARSE_TIMEOUT = 120.0  # seconds from then on; 1 is usual, 60 was too little on cores shared by many


class Run:
    """One local run. Use as ``Run(settings, console).main(once=True)``."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self.settings = settings
        self._forks: forks.ForkServer | None = None
        self._drill: WebhookDrill | None = None
        self.progress = Progress(console)
        self.processes = Processes(settings.logs)
        self.sandbox = Sandbox(settings) if settings.sandbox else None
        self.variables: dict[str, str] = {}
        self.database_url = ""
        self._airflow_url = ""
        self.synced = False
        self.waiting = False

    def main(self, *, once: bool) -> None:
        """Do it all; with ``once`` return after the first sync, else stay until interrupted.

        Raises:
            LocalError: Something stops the run; says what and where its log is.
        """
        with ExitStack() as stack:
            stack.enter_context(only_run(self.settings.home))
            self._clear_after_killed_run()
            self._check_ports()
            secrets = keys.keep(self.settings.home)
            postgres = self._start_postgres(stack)
            stack.callback(self._stop)
            self._prepare(postgres, secrets, once=once)
            if self.settings.lived:
                self._live()
            api = self._start_airflow(secrets)
            if not self.sandbox:
                self._wait_for_accounts(secrets, once=once)
            registration = self._register_webhooks(stack)
            if once and self.sandbox and not (self.settings.rehearse or self.settings.lived):
                self._drill = WebhookDrill(
                    api,
                    self.sandbox,
                    self.settings,
                    self.processes,
                    self.progress,
                    database_url=self.database_url,
                )
            self._first_sync(api, secrets, once=once)
            self.synced = True
            if registration:
                registration.finish()
                self.progress.say("webhooks registered with both mock servers")
            if not once:
                self._stay(api)
            if self._drill:  # never with real accounts: it changes customers
                self._drill.run()
                self.progress.say("checked: every webhook of both systems arrived")

    def init(self) -> int:
        """Let ``ml-connector init`` ask for the settings; return its exit code.

        Starts the databases and puts the connections in place, and none of Airflow's processes.

        Raises:
            LocalError: Something stops it; says what and where its log is.
        """
        with ExitStack() as stack:
            stack.enter_context(only_run(self.settings.home))
            self._clear_after_killed_run()
            secrets = keys.keep(self.settings.home)
            postgres = self._start_postgres(stack)
            stack.callback(self._stop)
            self._prepare(postgres, secrets, once=True)
            command = [str(Path(sys.executable).with_name("ml-connector")), "init"]
            if self.settings.sync_named:
                command += ["--sync", self.settings.sync]
            environment = airflow.for_processes(self.variables)
            return subprocess.call(command, env=environment, cwd=REPOSITORY)  # noqa: S603 - ours

    def _clear_after_killed_run(self) -> None:
        stale = stale_sessions(remembered_sessions(self.settings.home))
        if stale:
            self.progress.say("ending what a killed run left behind")
            if end_sessions(stale):
                raise LocalError("processes of an earlier run could not be ended")
        remember_sessions(self.settings.home, {})

    def _check_ports(self) -> None:
        needed = vars(self.settings.ports).items()
        for name, port in needed:
            if not self.sandbox and name in {"quickbooks_port", "mailchimp_port"}:
                continue
            if not port_is_free(port):
                variable = name.upper()
                raise LocalError(
                    f"port {port} is taken; choose another: make run {variable}={port + 10_000}"
                    if port < 50_000
                    else f"port {port} is taken; choose another with {variable}=..."
                )

    def _start_postgres(self, stack: ExitStack) -> EmbeddedPostgres:
        postgres = EmbeddedPostgres(
            self.settings.home / "postgres", log=self.settings.logs / "postgres.log"
        )
        stack.enter_context(postgres)
        for database in (airflow.AIRFLOW_DATABASE, airflow.CONNECTOR_DATABASE):
            postgres.create_database(database)
        self.database_url = postgres.url(airflow.CONNECTOR_DATABASE, driver="")
        self._airflow_url = postgres.url(airflow.AIRFLOW_DATABASE, driver="")
        self._remember(postgres)
        self.progress.say("database started")
        return postgres

    def _prepare(self, postgres: EmbeddedPostgres, secrets: keys.Secrets, *, once: bool) -> None:
        """Fill both databases; both migrations and the sandbox's start run in parallel."""
        self.variables = airflow.environment(
            self.settings,
            secrets,
            airflow_database=postgres.url(airflow.AIRFLOW_DATABASE, driver="psycopg2"),
            syncs_file=self._syncs_file(),
            schedule=not once,
        )
        airflow.write_shell_environment(
            self.settings.home / "env",
            self.variables | {"ML_CONNECTOR_DATABASE_URL": self.database_url},
        )
        wanted = airflow.wanted(
            self.settings,
            connector_database={
                "host": HOST,
                "port": postgres.port,
                "login": USER,
                "password": postgres.password,
                "schema": airflow.CONNECTOR_DATABASE,
            },
        )
        wanted["token"]["generation"] = self._generation()
        if self.sandbox:
            environment = airflow.for_processes(self.variables)
            self.sandbox.start(self.processes, environment)
        if self.settings.forking and forks.AVAILABLE:
            self._forks = airflow.start_fork_server(self.processes, self.variables)
            self._migrate()  # in parallel with the fork server's first imports
        self._remember(postgres)
        preparing = airflow.prepare(self.settings, self.variables, wanted, forks=self._forks)
        with _ended(preparing):
            if self._forks:
                self._forks.preload(*warm.TASKS)
            else:
                self._migrate()
            if self.sandbox:
                self.sandbox.wait(self.processes)
                self.progress.say("sandbox started")
            airflow.finish_preparing(self.settings, preparing)
        self.progress.say("databases migrated; connections, pools and token in place")

    def _live(self) -> None:
        """Let a company live for a month, in a state folder that no earlier one lived in."""
        note = self.settings.home / "lived"
        if note.exists():
            kept = self.sandbox and self.sandbox.state.exists()
            if not kept or note.read_text("utf-8") != "done":
                raise LocalError(
                    f"the company was interrupted: remove {self.settings.home}, then start again"
                )
            self.progress.say("the company goes on where it was stopped")
            return
        note.write_text("begun", "utf-8")
        log = (self.settings.logs / "lived.log").open("a", encoding="utf-8")
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(log))
        lived: Any = importlib.import_module("local.lived.month")
        vault: Any = importlib.import_module("ml_connector.vault")
        lived.live(
            self.settings.credentials,
            database_url=self.database_url,
            vault=vault.vault_from(self.variables, self.settings.home),
            sync=self.settings.sync,
            settings=self._syncs_file(),
            say=self.progress.say,
        )
        note.write_text("done", "utf-8")

    def _start_airflow(self, secrets: keys.Secrets) -> AirflowApi:
        airflow.start(self.processes, FIRST, self.settings, self.variables)
        self._remember()
        if self._forks:
            self._forks.preload(*warm.API_SERVER)
        airflow.start(self.processes, API_SERVER, self.settings, self.variables)
        self._remember()
        api = AirflowApi(self.settings.ui, password=secrets.admin_password)
        self._wait_for(api.is_up, "Airflow's API server did not respond", "api-server")
        self.progress.say("Airflow's API server is up")
        airflow.start(self.processes, LATER, self.settings, self.variables)
        self._remember()

        def parsed() -> bool:
            self._refuse_broken_dags(api)
            return api.has_dag(self.settings.dag_id)

        self._wait_for(
            parsed,
            f"no DAG {self.settings.dag_id} was found in {self.settings.dags_folder}",
            "dag-processor",
            seconds=PARSE_TIMEOUT,
        )
        return api

    def _refuse_broken_dags(self, api: AirflowApi) -> None:
        for file, reason in api.import_errors():
            raise LocalError(
                f"the DAG file {file} cannot be read: {reason}",
                log=self.settings.logs / "dag-processor.log",
            )

    def _wait_for_accounts(self, secrets: keys.Secrets, *, once: bool) -> None:
        """Wait until both accounts are connected and nothing is left to choose. No sync runs before.

        Raises:
            LocalError: A single run, which does not wait, cannot begin.
        """
        said = ""
        self.waiting = not once
        while True:
            missing = accounts.missing(
                self._airflow_url, syncs_file=self._syncs_file(), sync=self.settings.sync
            )
            if once and missing:
                raise LocalError(
                    f"{' and '.join(missing)} not connected yet: start `make run`, press the Connect"
                    " buttons on the page that it names, then run this again"
                )
            if once and self.settings.open_question:
                raise LocalError(self.settings.open_question)
            if not missing and not self.settings.open_question:
                self.waiting = False
                return
            if (line := self._what_is_left(missing, secrets)) != said:
                self.progress.say(line)
                said = line
            self._revive()
            time.sleep(POLL)

    def _what_is_left(self, missing: list[str], secrets: keys.Secrets) -> str:
        if not missing:
            return (
                f"both accounts are connected. Stop with Ctrl-C, then {self.settings.open_question}"
            )
        page = f"{self.settings.ui}/ml-connector/console/{self.settings.sync}/setup"
        return (
            f"no sync runs before you connect {' and '.join(missing)}: {page}"
            f" (user {keys.ADMIN}, password {secrets.admin_password})"
        )

    def _register_webhooks(self, stack: ExitStack) -> Registration | None:
        """Begin to register; only the receiver has to be up for it."""
        if not self.sandbox:
            return None
        registration = Registration(self.settings, self.sandbox, self.variables, forks=self._forks)
        stack.callback(registration.abandon)
        return registration

    def _first_sync(self, api: AirflowApi, secrets: keys.Secrets, *, once: bool) -> None:
        since = datetime.now(UTC)
        before = self.sandbox.calls() if self.sandbox else {}
        usage = summary.api_usage(self.database_url)
        began = time.monotonic()
        if self.settings.approve and self.sandbox and not self.settings.rehearse:
            self.progress.say("the first plan is approved automatically: these are mock servers")
        FirstSync(
            api,
            self.settings,
            self.processes,
            self.progress,
            conf=self._conf(once=once),
            beside=self._drill.begin if self._drill else None,
        ).run()
        if held := summary.held_plan(
            self.database_url, sync=self.settings.sync, since=since, variables=self.variables
        ):
            summary.show_held(
                self.progress.console,
                self.settings,
                held,
                password=secrets.admin_password,
                staying=not once,
            )
            return
        seconds = time.monotonic() - began
        facts = summary.read(self.database_url, sync=self.settings.sync, since=since)
        summary.show(
            self.progress.console,
            self.settings,
            facts,
            calls=self._calls(before, usage),
            seconds=seconds,
            total=self.progress.elapsed,
            password=secrets.admin_password,
        )
        self._check_audience(facts)
        self._refuse_broken_dags(api)  # those that were read after the sync's own

    def _conf(self, *, once: bool) -> dict[str, bool]:
        if self.settings.rehearse:
            return {"preview": True}
        # No approval can come once the run is over, and a person's accounts are theirs to write to.
        return {"approved": True} if self.settings.approve else {"attended": not once}

    def _check_audience(self, facts: summary.Facts) -> None:
        if facts.unfinished:
            raise LocalError(
                f"{facts.unfinished} changes were decided but not written; "
                "`ml-connector audit` shows their errors",
                log=self.settings.logs / "tasks",
            )
        if not self.sandbox or self.settings.lived:  # whose people edit on both sides
            return
        sync = yaml.safe_load(self._syncs_file().read_text("utf-8"))["syncs"][self.settings.sync]
        wrong = verify.differences(
            self.sandbox.customers(),
            self.sandbox.members(sync["audience_id"]),
            decisions=facts.decisions,
            sync=sync,
        )
        if wrong:
            more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
            raise LocalError(
                f"the audience is not right: {'; '.join(wrong[:3])}{more}",
                log=self.settings.logs / "tasks",
            )
        self.progress.say("checked: the audience is exactly right")

    def _calls(
        self, before: dict[str, dict[str, int]], usage: dict[str, int]
    ) -> dict[str, dict[str, int]]:
        if self.sandbox:
            after = self.sandbox.calls()
            return {
                system: {kind: count - before[system][kind] for kind, count in counts.items()}
                for system, counts in after.items()
            }
        return summary.by_system(usage, summary.api_usage(self.database_url))

    def _stay(self, api: AirflowApi) -> None:
        for dag_id in SERVICES:
            if api.has_dag(dag_id):
                api.unpause(dag_id)
        self.progress.say(f"everything is up at {self.settings.ui}; Ctrl-C stops it")
        while True:
            self._revive()
            time.sleep(POLL)

    def _revive(self) -> None:
        for sentence in self.processes.revive():
            self._remember()
            self.progress.say(sentence)

    def _migrate(self) -> None:
        migrate: Any = importlib.import_module("ml_connector.store.migrate")
        migrate.upgrade(self.database_url)

    def _syncs_file(self) -> Path:
        if not self.settings.audience:
            return self.settings.syncs_file
        text = syncs_for_audience(
            SHIPPED_SYNCS.read_text("utf-8"),
            self.settings.sync,
            self.settings.audience,
            self.settings.new_contact_status or "",
        )
        path = self.settings.home / "syncs.yaml"
        keys.write_private(path, text)
        return path

    def _generation(self) -> str:
        """Name the sandbox's memory: a new sandbox knows only the first token."""
        if not self.sandbox:
            return "real"
        note = self.settings.home / "sandbox.generation"
        if not self.sandbox.state.exists():
            note.unlink(missing_ok=True)
        return keys.kept(note, lambda: random.token_hex(8))

    def _wait_for(
        self,
        ready: Callable[[], bool],
        failure: str,
        log: str,
        *,
        seconds: float = START_TIMEOUT,
    ) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            self.processes.check()
            if time.monotonic() > deadline:
                raise LocalError(
                    f"{failure} within {seconds:.0f} s", log=self.settings.logs / f"{log}.log"
                )
            time.sleep(0.2)

    def _remember(self, postgres: EmbeddedPostgres | None = None) -> None:
        started = remembered_sessions(self.settings.home) | self.processes.sessions
        if postgres and postgres.pid:
            started[postgres.pid] = postgres.created
        remember_sessions(self.settings.home, started)

    def _stop(self) -> None:
        self.progress.say("stopping")
        # A second Ctrl-C must not end the clean-up half way: it takes seconds, and has a limit.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.processes.stop(grace=SAVING if self.settings.lived else GRACE)

    def note_traceback(self) -> None:
        """Keep the traceback of an unexpected error in a file."""
        self.settings.logs.mkdir(parents=True, exist_ok=True)
        with (self.settings.logs / "run.log").open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)


@contextlib.contextmanager
def _ended(process: forks.Process) -> Iterator[None]:
    """Let a process not outlive the block, whatever happens in it."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def explain(error: Exception) -> str:
    """Return a plain sentence for an error that none of the steps expected."""
    if isinstance(error, OSError) and error.errno == 28:
        return "the disk is full: free some space and start again"
    if isinstance(error, psycopg.errors.DiskFull):
        return "the database's disk is full: free some space and start again"
    if isinstance(error, PermissionError):
        return f"no permission for {error.filename}"
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"
