"""Run the daily DAG once, with a progress bar.

A live scheduler that works on the DAG runs it. Otherwise it runs in this process (``dag.test()``).
"""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ml_connector.display import counted, grouped
from ml_connector.errors import SettingsError
from ml_connector.model import ChangeState
from ml_connector.scope import Scope
from ml_connector.settings import load_sync
from ml_connector.store import changes, customers, plans, problems, unreadable
from ml_connector.store.plans import PlanProgress
from ml_connector.sync import permissions
from ml_connector.sync.forecast import forecast
from ml_connector.sync.rehearsal import report_of
from ml_connector_airflow.commands.migrate import airflows_database
from ml_connector_airflow.commands.scheduled import is_scheduled, run_by_scheduler
from ml_connector_airflow.compat import dags_in
from ml_connector_airflow.dag_files import dags_folder
from ml_connector_airflow.waiting import why_waiting
from ml_connector_airflow.wiring import open_scope

POLL_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended. ``plan_id`` is None if no task reached the connector's database."""

    succeeded: bool
    rejected: bool
    plan_id: int | None
    error: str | None
    seconds: float


def is_run_by_airflow(sync_name: str) -> bool:
    """Return whether a live scheduler runs the sync: with its own settings."""
    return is_scheduled(f"sync_customers__{sync_name}")


def run_dag(sync_name: str, conf: dict[str, Any]) -> RunOutcome:
    """Run ``sync_customers__<sync>`` and wait for its end. Airflow resolves the connections.

    Raises ``SettingsError`` for an unknown sync or a DAG file that does not load, ``StorageError``
    if a database cannot be used, ``ConnectorError`` if the scheduler ends meanwhile.
    """
    load_sync(sync_name)
    scope = open_scope(sync_name)
    _progress_of(scope, run_id="")  # a database that cannot be used is reported before the run
    if why := why_waiting(scope.sync, scope.database):
        raise SettingsError(f"{sync_name} waits: {why}")
    dag_id, started = f"sync_customers__{sync_name}", datetime.now(UTC)
    run_id = f"manual__{started.isoformat()}"
    if is_scheduled(dag_id):
        run = partial(run_by_scheduler, dag_id, run_id, conf)
        Console(stderr=True, soft_wrap=True).print(
            f"Airflow runs it: {run_id} of {dag_id}. Ctrl-C stops the waiting, not the run."
        )
    else:
        run = partial(_run_here, _dag(dag_id), started, conf)
    with _progress(scope, run_id):
        state = run()
    progress = _progress_of(scope, run_id)
    scope.database.close()
    return RunOutcome(
        succeeded=state == "success",
        rejected=progress is not None and progress.state == "rejected",
        plan_id=progress.plan_id if progress else None,
        error=progress.error
        if progress and progress.error
        else "a task failed before it reached the database; its log in Airflow says why",
        seconds=(datetime.now(UTC) - started).total_seconds(),
    )


def show_outcome(outcome: RunOutcome, sync_name: str, *, preview: bool) -> None:
    """Print what the run did, or would do."""
    console = Console()
    if outcome.plan_id is not None:
        _show_plan(console, outcome, sync_name, preview=preview)
    if outcome.rejected:
        console.print(
            "The plan waits for approval: it is the sync's first, or larger than the guard in "
            "syncs.yaml allows. Nothing was written. Look at it with `ml-connector preview`, then "
            "run `ml-connector sync --approve`, or trigger the DAG in Airflow and approve it there.",
            style="bold yellow",
        )
    elif outcome.succeeded:
        nothing = " Nothing was written: a preview can only read." if preview else ""
        console.print(f"Done in {outcome.seconds:.1f} s.{nothing}")
    else:
        console.print(f"The run failed: {outcome.error}", style="bold red")


def show_rehearsal(outcome: RunOutcome, sync_name: str) -> None:
    """Print what a sync would do, with samples of what it would overwrite."""
    console = Console(highlight=False, soft_wrap=True)
    if not outcome.succeeded or outcome.plan_id is None:
        console.print(f"The rehearsal failed: {outcome.error}", style="bold red", markup=False)
        return
    scope = open_scope(sync_name)
    with closing(scope.database):
        lines = report_of(scope, plan_id=outcome.plan_id)
    console.print("Neither account was written to: a rehearsal can only read. A run would do this:")
    for line in lines:
        console.print(f"  {line}", markup=False)
    console.print(
        f"To see each contact, start Airflow (in a checkout: `make run`) and open plan"
        f" {outcome.plan_id} on the console's Plans page."
    )


def _show_plan(console: Console, outcome: RunOutcome, sync_name: str, *, preview: bool) -> None:
    scope, plan_id = open_scope(sync_name), outcome.plan_id or 0
    with scope.database.begin() as connection:
        rows = changes.counts(connection, plan_id=plan_id)
        calls = plans.calls_of(connection, plan_id=plan_id)
        unfit = problems.unfit_counts(connection, sync=scope.name)
        known = customers.count_known(connection, sync=scope.name)
        expected = list(forecast(scope, connection, plan_id=plan_id).sentences())
        skipped = unreadable.counts(connection, sync=scope.name)
        warning = permissions.warning(scope.sync, connection)
    scope.database.close()
    table = Table(
        "change", "reason", "state", "contacts", title="Would change" if preview else None
    )
    for kind, reason, state, number in rows:
        table.add_row(kind, reason, state, str(number))
    if rows:
        console.print(table)
    elif outcome.succeeded:
        console.print("No contact to change.")
    if failed := sum(number for *_, state, number in rows if state == ChangeState.FAILED):
        console.print(
            f"Mailchimp refused {counted(failed, 'contact')}. `ml-connector audit --sync {sync_name}"
            " --outcome failed` says why. Fix the customer in QuickBooks, and the next run tries"
            f" again; or run `ml-connector replay --failed --sync {sync_name}`.",
            style="bold yellow",
            soft_wrap=True,
        )
    notes = expected if preview else [each.sentence(known) for each in unfit]
    for sentence in (*notes, *(count.sentence for count in skipped)):
        console.print(sentence)
    if warning:
        console.print(f"Warning: {warning}.", style="bold yellow")
    console.print("Calls: " + ", ".join(f"{name} {n}" for name, n in calls.items()))


def _dag(dag_id: str) -> Any:
    folder = dags_folder()
    bag = dags_in(folder)
    if bag.import_errors:
        message = next(iter(bag.import_errors.values())).strip().splitlines()[-1]
        raise SettingsError(f"the DAG files do not load: {message}")
    if dag_id not in bag.dags:
        raise SettingsError(f"{folder} has no DAG {dag_id}: run the command of this installation")
    return bag.dags[dag_id]


def _run_here(dag: Any, started: datetime, conf: dict[str, Any]) -> str:
    with airflows_database():
        run = dag.test(run_after=started, logical_date=started, run_conf=conf)
    return str(run.state)


def _progress_of(scope: Scope, run_id: str) -> PlanProgress | None:
    with scope.database.begin() as connection:
        return plans.progress_of(connection, sync=scope.name, run_id=run_id)


@contextmanager
def _progress(scope: Scope, run_id: str) -> Iterator[None]:
    """Show how far the run is, read from the database, until the block ends."""
    over = threading.Event()

    def follow(progress: Progress) -> None:
        bar = progress.add_task("starting", total=None)
        while not over.wait(POLL_SECONDS):
            found = _progress_of(scope, run_id)
            if found is not None:
                total = found.changes or None
                said = f"{counted(found.calls, 'call')}, {grouped(found.settled)} of {counted(found.changes, 'change')}"
                progress.update(bar, description=said, total=total, completed=found.settled)

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        thread = threading.Thread(target=follow, args=(progress,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
