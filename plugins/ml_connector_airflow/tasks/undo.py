"""Undo of a run, as tasks and as a command: plan, write, report."""

import getpass
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context

from ml_connector.display import counted
from ml_connector.errors import ConnectorError, NeedsReauth, SettingsError, values_withheld
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import RunContext
from ml_connector.retention import maintain_audit
from ml_connector.scope import Scope
from ml_connector.settings import load_audit, load_sync
from ml_connector.store import changes, plans
from ml_connector.store.database import Database
from ml_connector.store.undos import UndoneRun
from ml_connector.sync import guard, undo, undo_push
from ml_connector_airflow import metrics
from ml_connector_airflow.alerts.callbacks import run_succeeded
from ml_connector_airflow.tasks.tokens import alert_reauth
from ml_connector_airflow.wiring import database_url, mailchimp_client, open_scope, run_of

DAG_ID = "undo_run"
APPROVE_HINT = (
    "The undo waits for approval, so nothing was written. Look at it"
    " with `ml-connector undo --dry-run`, then give the command again with `--approve`."
)


@values_withheld()
def plan(params: Mapping[str, Any]) -> str:
    """Plan the undo that the trigger form asks for; return the sync's name."""
    undone = chosen(str(params["run"] or ""), sync=params["sync"])
    with _opened(undone.sync, run_of(dict(get_current_context()))) as scope:
        undo.plan_undo(scope, _reader(scope), undone=undone, preview=params["dry_run"])
    return undone.sync


@values_withheld()
def write(sync: str) -> dict[str, int]:
    """Write the run's plan; return the number of changes by state."""
    with _opened(sync, run_of(dict(get_current_context()))) as scope:
        return _write(scope)


@values_withheld()
def report(sync: str) -> dict[str, Any]:
    """Close the plan, seal the audit, return the counts."""
    with _opened(sync, run_of(dict(get_current_context()))) as scope:
        told = undo.report(scope, plan_id=scope.plan_id())
        maintain_audit(scope.database, scope.vault, keep_months=load_audit().keep_months)
        run_succeeded(scope.database, DAG_ID)
        return told


def chosen(run: str, *, sync: str | None) -> UndoneRun:
    """Return the run to undo. Raises ``SettingsError`` if nothing or an unknown run is named."""
    if not run.strip():
        raise SettingsError("name the run to undo: its plan's number, or its run id")
    if sync:
        load_sync(sync)
    with (
        closing(Database(database_url(), connections=2)) as database,
        database.begin() as connection,
    ):
        return undo.find_run(connection, run, sync=sync or None)


def undo_now(run: str, *, sync: str, dry_run: bool, approve: bool) -> Iterator[str]:
    """Undo as a command; yield the lines to print.

    Raises ``WaitsForApproval`` if the guard holds the plan and ``approve`` is not given.
    """
    undone = chosen(run, sync=sync or None)
    context = RunContext(
        dag_id=DAG_ID,
        run_id=f"manual__{datetime.now(UTC).isoformat()}",
        task_id="undo",
        actor=getpass.getuser(),
    )
    with _opened(undone.sync, context) as scope:
        plan_id = undo.plan_undo(scope, _reader(scope), undone=undone, preview=dry_run)
        held = None if dry_run else guard.hold_plan(scope, plan_id=plan_id)
        if held is not None and approve:
            guard.approve(scope, plan_id=plan_id, person=context.actor)
        elif held is not None:
            yield from _lines(scope, plan_id, undone)
            guard.reject(scope, plan_id=plan_id, person="")
        if not dry_run and (held is None or approve):
            _write(scope)
        if held is None or approve:
            undo.report(scope, plan_id=plan_id)
            yield from _lines(scope, plan_id, undone)
        if not dry_run:
            months = load_audit().keep_months
            sealed = maintain_audit(scope.database, scope.vault, keep_months=months)
            yield f"Sealed {counted(sealed.rows, 'row')} of the audit."
    if held is not None and not approve:
        raise WaitsForApproval(f"{held.why}. {APPROVE_HINT}")


class WaitsForApproval(ConnectorError):
    """The guard holds the plan, and it was not approved."""


def _reader(scope: Scope) -> MailchimpClient:
    """Return a client that refuses every call that could write: a plan only reads."""
    return mailchimp_client(replace(scope, read_only=True))


def _write(scope: Scope) -> dict[str, int]:
    done = undo_push.write_undo(scope, mailchimp_client(scope), plan_id=scope.plan_id())
    metrics.writes(scope.name, "mailchimp", done)
    return done


def _lines(scope: Scope, plan_id: int, undone: UndoneRun) -> Iterator[str]:
    with scope.database.begin() as connection:
        counted = changes.counts(connection, plan_id=plan_id)
    yield f"Undo of plan {undone.plan_id}, run {undone.run_id}, sync {undone.sync}:"
    for kind, reason, state, number in counted:
        yield f"{number} {kind} {reason}: {state}"
    if not counted:
        yield "The run wrote nothing to this audience."
    yield f"To see each contact and its reason, open plan {plan_id} on the console's Plans page."


@contextmanager
def _opened(sync: str, run: RunContext) -> Iterator[Scope]:
    """Open the sync; store its call counts and any error, however the block ends."""
    with closing(Database(database_url())) as database:
        scope = open_scope(sync, run=run, database=database)
        plan_id = scope.plan_id("undo") if _is_new(scope) else scope.plan_id()
        try:
            with values_withheld():
                yield scope
        except ConnectorError as error:
            if isinstance(error, NeedsReauth):
                alert_reauth(database, scope.sync, error)
            with database.begin() as connection:
                plans.fail(connection, plan_id=plan_id, error=str(error))
            raise
        finally:
            metrics.calls(sync, scope.book_calls(plan_id))


def _is_new(scope: Scope) -> bool:
    with scope.database.begin() as connection:
        found = plans.progress_of(connection, sync=scope.name, run_id=scope.run.run_id)
    return found is None
