"""Sync tasks: open what a step needs, run it, store its call counts, close.

Arguments and results are names, ids and counts, because they travel over XCom.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from airflow.sdk import get_current_context

from ml_connector import retention
from ml_connector.activity import engagement, queue, writer
from ml_connector.errors import (
    AudienceNotReady,
    ConnectorError,
    CreationRefused,
    NeedsReauth,
    RunIncomplete,
    StopRun,
    StorageError,
    UpdatesRefused,
    values_withheld,
)
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.privacy import erased_payloads
from ml_connector.scope import Scope
from ml_connector.settings import load_audit, load_webhooks
from ml_connector.store import changes, plans
from ml_connector.store.activity_queue import Slice
from ml_connector.sync import (
    archive,
    first_run,
    follow_up,
    guard,
    names,
    planner,
    preflight,
    push,
    report,
    targets,
)
from ml_connector.sync import fetch_customers as fetch
from ml_connector.sync import fetch_members as members
from ml_connector.sync.read_count import ReadCount
from ml_connector_airflow import metrics
from ml_connector_airflow.alerts.callbacks import report_skew, run_succeeded
from ml_connector_airflow.alerts.delivery import end_alert, raise_alert
from ml_connector_airflow.compat import AirflowSkipException
from ml_connector_airflow.tasks.tokens import alert_reauth, needs_reauth
from ml_connector_airflow.waiting import why_waiting
from ml_connector_airflow.wiring import (
    PAGES_AT_A_TIME,
    mailchimp_client,
    open_scope,
    quickbooks_client,
    run_of,
)

Params = Mapping[str, Any]
"""The run's parameters, as ``forms.SYNC_CUSTOMERS`` describes them."""


def is_preview(context: Mapping[str, Any]) -> bool:
    """Return whether the run may only read. Its configuration says so: no form has a field for it.

    Airflow may be set up not to take parameters from the configuration.
    """
    given = getattr(context.get("dag_run"), "conf", None) or {}
    return bool(given.get("preview") or context.get("params", {}).get("preview"))


@contextmanager
def _step(sync: str) -> Iterator[Scope]:
    """Open the sync for one task; store its call counts and any error, however it ends."""
    context: dict[str, Any] = dict(get_current_context())
    preview = is_preview(context)
    scope = open_scope(sync, run=run_of(context), read_only=preview)
    step = f"{scope.run.task_id}/{getattr(context['ti'], 'map_index', -1)}"
    try:
        plan_id = scope.plan_id("preview" if preview else None)
        try:
            with values_withheld():
                yield scope
            with scope.database.begin() as connection:
                plans.resume(connection, plan_id=plan_id, step=step)
        except ConnectorError as error:
            if isinstance(error, NeedsReauth):
                alert_reauth(scope.database, scope.sync, error)
            with scope.database.begin() as connection:
                stops = isinstance(error, StopRun) and not isinstance(
                    error, StorageError | CreationRefused | UpdatesRefused
                )
                plans.fail(
                    connection,
                    plan_id=plan_id,
                    error=str(error),
                    stopped=step if stops else None,
                )
            raise
        finally:
            metrics.calls(sync, scope.book_calls(plan_id))
    finally:
        scope.database.close()


def _slot_client(scope: Scope) -> MailchimpClient:
    """Return a client for a task that holds a slot of the Mailchimp pool."""
    return mailchimp_client(scope, pages_at_a_time=PAGES_AT_A_TIME)


def _wait_for_accounts(sync: str) -> None:
    """Skip the run of a new sync until both accounts are connected. It leaves no plan."""
    scope = open_scope(sync)
    try:
        why = why_waiting(scope.sync, scope.database)
    finally:
        scope.database.close()
    if why:
        raise AirflowSkipException(f"{sync} waits: {why}")


def _skip_if_waiting() -> None:
    """Skip a step that runs whatever happened before, if the run waits for its accounts."""
    instance = get_current_context()["ti"]
    states = instance.get_task_states(dag_id=instance.dag_id, run_ids=[instance.run_id])
    if states.get(instance.run_id, {}).get("fetch_customers") == "skipped":
        raise AirflowSkipException("the run waits until both accounts are connected")


@values_withheld()
def fetch_customers(sync: str, params: Params) -> dict[str, Any]:
    """Stage what QuickBooks has; return counts. A sync that waits for its accounts is skipped."""
    _wait_for_accounts(sync)
    with _step(sync) as scope:
        mailchimp = mailchimp_client(scope)
        targets.learn_fields(scope, mailchimp)
        names.learn_audience(scope, mailchimp)
        fetched = fetch.fetch_customers(
            scope,
            quickbooks_client(scope),
            full_sync=params["full_sync"],
            customer_ids=params["customer_ids"],
            on_read=ReadCount(scope, "customers").reach,
        )
        report_skew(scope, "quickbooks")
        return asdict(fetched)


@values_withheld()
def make_plan(sync: str, params: Params) -> list[int]:
    """Read what changed in the audience, then decide what has to change; return the shards of it.

    Checks the audience before anything may be written to it.
    """
    with _step(sync) as scope:
        client = _slot_client(scope)
        on_page = ReadCount(scope, "members").add_page
        members.fetch_members(scope, client, full_sync=params["full_sync"], on_page=on_page)
        end_alert(scope.database, cause=needs_reauth(scope.sync.mailchimp_conn_id))
        report_skew(scope, "mailchimp")
        planned = planner.make_plan(
            scope, preview=scope.read_only, customer_ids=params["customer_ids"]
        )
        metrics.plan_size(sync, planned.changes)
        if planned.changes:
            _check_audience(scope, client, planned)
        return list(planned.shards)


def _check_audience(scope: Scope, client: MailchimpClient, planned: planner.Planned) -> None:
    """Stop a run whose audience is not ready; a preview only says so."""
    try:
        preflight.check_audience(scope, client)
    except AudienceNotReady as error:
        if not scope.read_only:
            raise
        with scope.database.begin() as connection:
            plans.note_rehearsed(connection, plan_id=planned.plan_id, not_ready=str(error))


@values_withheld()
def hold_large_plan(sync: str) -> guard.HeldPlan | None:
    """Return why the run's plan waits for approval; None if it may proceed."""
    with _step(sync) as scope:
        held = guard.hold_plan(scope, plan_id=scope.plan_id())
        cause = f"guard_waiting:{sync}"
        if held is None:
            end_alert(scope.database, cause=cause)
        else:
            message = f"{sync}: {held.why}; approve or reject its plan in Airflow"
            raise_alert(scope.database, cause=cause, message=message)
        return held


@values_withheld()
def is_shown(sync: str, *, fingerprint: str) -> bool:
    """Return whether the run's plan waits in the state that a page with this fingerprint shows."""
    with _step(sync) as scope:
        return guard.is_shown(scope, plan_id=scope.plan_id(), fingerprint=fingerprint)


@values_withheld()
def approve_plan(sync: str, *, person: str) -> None:
    """Approve the run's plan as it was shown."""
    with _step(sync) as scope:
        end_alert(scope.database, cause=f"guard_waiting:{sync}")
        guard.approve(scope, plan_id=scope.plan_id(), person=person)


@values_withheld()
def reject_plan(sync: str, *, person: str) -> int:
    """Drop the run's plan; return the number of changes."""
    with _step(sync) as scope:
        end_alert(scope.database, cause=f"guard_waiting:{sync}")
        return guard.reject(scope, plan_id=scope.plan_id(), person=person)


@values_withheld()
def shards_to_push(sync: str) -> list[int]:
    """Return the shards of the run's plan that have changes to push."""
    with _step(sync) as scope, scope.database.begin() as connection:
        plan_id = scope.plan_id()
        return changes.pending_shards(connection, plan_id=plan_id, kinds=planner.WRITES)


@values_withheld()
def push_shard(sync: str, shard: int) -> dict[str, int]:
    """Write one shard of the run's plan to Mailchimp; return the number of changes by state."""
    with _step(sync) as scope:
        client, plan_id = _slot_client(scope), scope.plan_id()
        # Nothing is added to an approved plan. Superseded changes wait for the next run.
        again = guard.plan_state(scope, plan_id=plan_id) != "approved"
        done = push.push_shard(scope, client, plan_id=plan_id, shard=shard, again=again)
        metrics.writes(sync, "mailchimp", done)
        return done


@values_withheld()
def approved() -> list[int] | None:
    """Return the shards of the run's plan, None if it was never passed or approved.

    Not an argument of the tasks after the push: a run in flight keeps its order of tasks.
    """
    found: list[int] | None = get_current_context()["ti"].xcom_pull(task_ids="approval")
    return None if found is None else list(found)


def _go_on(scope: Scope, shards: Sequence[int] | None) -> None:
    """Skip a step after the push if no plan was approved, or a person must act first.

    After a defect or an outage in the push the step goes on: each archive is decided by itself, and
    waits for a contact that was not created.
    """
    with scope.database.begin() as connection:
        stopped = plans.stopped_by(connection, plan_id=scope.plan_id())
    if shards is None or stopped is not None:
        raise AirflowSkipException("an earlier step stopped the run; see its error")


@values_withheld()
def archive_contacts(sync: str, shards: Sequence[int] | None = ()) -> dict[str, int]:
    """Archive orphaned contacts; return the number of changes by final state.

    ``shards``: those of the plan, None if it was never approved.
    """
    if shards is None:
        _skip_if_waiting()
    with _step(sync) as scope:
        _go_on(scope, shards)
        client = _slot_client(scope)
        done = archive.archive_contacts(scope, client, plan_id=scope.plan_id())
        metrics.writes(sync, "mailchimp", done)
        return done


@values_withheld()
def fetch_activity(
    sync: str, params: Params, shards: Sequence[int] | None = ()
) -> list[dict[str, int]]:
    """Read what campaigns report; return the shards of customers whose activity is to be written.

    All other member events were recorded when the audience was read, before the plan.
    """
    if shards is None:
        _skip_if_waiting()
    with _step(sync) as scope:
        _go_on(scope, shards)
        rejected = guard.plan_state(scope, plan_id=scope.plan_id()) == "rejected"
        if scope.read_only or rejected or not first_run.may_write(scope):
            return []
        full_sync, client = params["full_sync"], _slot_client(scope)
        done = follow_up.follow_up(scope, client, plan_id=scope.plan_id())
        metrics.writes(sync, "mailchimp", done)
        engagement.fetch_engagement(scope, client, full_sync=full_sync)
        number = queue.shards_for(queue.queue_activity(scope))
        return [{"shard": shard, "shards": number} for shard in range(number)]


@values_withheld()
def write_activity(sync: str, shard: int, shards: int) -> dict[str, int]:
    """Write one shard of the queued activity to QuickBooks; return customers by outcome."""
    with _step(sync) as scope:
        part = Slice(shard=shard, shards=shards)
        done = writer.write_activity(scope, quickbooks_client(scope), part=part)
        metrics.writes(sync, "quickbooks", done)
        return done


@values_withheld()
def make_report(sync: str) -> dict[str, Any]:
    """Close the run's plan, seal the audit, apply retention, return the report (counts only).

    Raises ``RunIncomplete`` in the end if another step failed: the run is no success.
    """
    _skip_if_waiting()
    with _step(sync) as scope:
        failed, plan_id = _failed_steps(scope), scope.plan_id()
        with scope.database.begin() as connection:
            why = plans.last_error(connection, plan_id=plan_id)
        told = report.make_report(scope, plan_id=plan_id, complete=not failed).as_json()
        months = load_audit().keep_months
        retention.maintain_audit(scope.database, scope.vault, keep_months=months)
        retention.drop_old_plans(scope.database, sync=sync, now=scope.clock(), keep_months=months)
        erased_payloads.erase_suppressed(scope.database, scope.vault)
        retention.drop_old_events(scope.database, keep_days=load_webhooks().keep_days)
        if failed:
            raise RunIncomplete(f"{failed} failed: {why or 'its log in Airflow says why'}")
        if not scope.read_only:  # a preview is no sync: the watch for one goes on
            run_succeeded(scope.database, scope.run.dag_id)
            end_alert(scope.database, cause=f"no_success:{sync}")
        return told


def _failed_steps(scope: Scope) -> str:
    """Return the failed steps of the run by name; ``""`` if none failed."""
    instance, run = get_current_context()["ti"], scope.run
    states = instance.get_task_states(dag_id=run.dag_id, run_ids=[run.run_id])
    failed = {
        task.rpartition("_")[0] if task.rpartition("_")[2].isdecimal() else task
        for task, state in states.get(run.run_id, {}).items()
        if state == "failed"
    }
    return ", ".join(sorted(failed))
