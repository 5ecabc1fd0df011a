"""Webhook task of ``process_webhooks``: open the syncs, process the inbox, store call counts."""

import getpass
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from time import monotonic

import structlog
from airflow.sdk import get_current_context

from ml_connector.errors import (
    ConnectorError,
    NeedsReauth,
    StopRun,
    StorageError,
    values_withheld,
)
from ml_connector.model import RunContext
from ml_connector.scope import OpenSync
from ml_connector.settings import home, load_syncs, load_webhooks
from ml_connector.store import plans
from ml_connector.store.database import Database
from ml_connector.vault import vault_from
from ml_connector.webhooks import listen, worker
from ml_connector.wire.retries import Retries
from ml_connector_airflow import metrics
from ml_connector_airflow.alerts.callbacks import run_succeeded
from ml_connector_airflow.hooks.mailchimp import MailchimpHook
from ml_connector_airflow.hooks.quickbooks import QuickBooksHook
from ml_connector_airflow.tasks.tokens import alert_reauth
from ml_connector_airflow.tasks.watches import watch_dead_letters
from ml_connector_airflow.typed import realm_in
from ml_connector_airflow.wiring import (
    connection_named,
    database_url,
    mailchimp_client,
    open_scope,
    quickbooks_client,
    run_of,
)

LONGEST = 180.0
"""Seconds until a task ends even while events arrive. The next run takes over and reads changed
connections, settings and code."""

log = structlog.get_logger(__name__)


@values_withheld()
def process_webhooks() -> dict[str, int]:
    """Process due events and those that follow soon, as a task; return events by outcome."""
    return process_due(run_of(dict(get_current_context())), stays=True)


def process_now() -> Iterator[str]:
    """Process due events, as a command; yield the lines to print."""
    began = datetime.now(UTC)
    run = RunContext(
        run_id=f"manual__{began.isoformat()}", task_id="process", actor=getpass.getuser()
    )
    counts = process_due(run)
    for name, number in sorted(counts.items()):
        yield f"{name} {number}"
    if not counts:
        yield "Nothing was due."


def process_due(run: RunContext, *, stays: bool = False) -> dict[str, int]:
    """Process due events in every sync; return the number of events by outcome.

    With ``stays``, gather bursts and continue until no event has arrived for
    ``webhooks.stay_seconds``. Edits often follow one another: a task at work takes them up in a
    tenth of a second.

    Raises the first ``StopRun``. Its events are due again later, not at once, so failing runs do
    not follow each other without a pause. The error of a sync that cannot be opened is raised the
    same way, after the other syncs' events.
    """
    url, counts, until = database_url(), Counter[str](), monotonic() + LONGEST
    began = datetime.now(UTC)
    with closing(Database(url, connections=5)) as database:
        try:
            names, stay = list(load_syncs()), load_webhooks().stay_seconds if stays else 0
            vault = vault_from(os.environ, home())
        except StopRun as error:
            worker.postpone_due(database, error)
            raise
        targets, closed = open_syncs(names, database, run)
        while True:
            with _booked(database, targets):
                done = worker.process_inbox(
                    database, targets, vault=vault, closed=closed, gather=stays
                )
                counts.update(done)
            if not stay or monotonic() > until or not listen.due_within(url, stay):
                break
        metrics.inbox(database, counts, since=began)
        watch_dead_letters(database)
        for unopened in closed.values():
            raise unopened
        if run.dag_id:
            run_succeeded(database, run.dag_id)
    log.info("webhooks_processed", **counts)
    return dict(counts)


def open_syncs(
    names: Sequence[str], database: Database, run: RunContext
) -> tuple[list[OpenSync], dict[str, StopRun]]:
    """Open every sync; return the open ones, and by name the errors of the others."""
    targets, closed = list[OpenSync](), dict[str, StopRun]()
    for name in names:
        try:
            targets.append(open_sync(name, database, run))
        except StorageError:
            raise
        except StopRun as error:
            closed[name] = error
            log.warning("sync_not_opened", sync=name, reason=str(error))
    return targets, closed


def open_sync(sync_name: str, database: Database, run: RunContext) -> OpenSync:
    """Return an open sync; its clients are created on first use."""
    scope = open_scope(sync_name, run=run, database=database)
    connection = connection_named(
        scope.sync.quickbooks_conn_id, "add one of type QuickBooks Online"
    )
    return OpenSync(
        scope=scope,
        realm=realm_in(connection.extra_dejson),
        open_quickbooks=partial(quickbooks_client, scope),
        open_mailchimp=partial(mailchimp_client, scope),
    )


@contextmanager
def _booked(database: Database, targets: Sequence[OpenSync]) -> Iterator[None]:
    """Store each sync's call counts and any error, however the block ends."""
    failed: ConnectorError | None = None
    try:
        with values_withheld():
            yield
    except ConnectorError as error:
        failed = error
        if isinstance(error, NeedsReauth):
            tell = _alert_mailchimp if error.system == "mailchimp" else _alert
            tell(database, targets)
        raise
    finally:
        for target in targets:
            _close(target, failed)


def _close(target: OpenSync, failed: ConnectorError | None) -> None:
    """Close the run's plan; a sync without calls and changes has none."""
    scope = target.scope
    for system, outcomes in scope.written.items():
        metrics.writes(scope.name, system, outcomes)
    scope.written.clear()
    with scope.database.begin() as connection:
        planned = plans.progress_of(connection, sync=scope.name, run_id=scope.run.run_id)
    if planned is None and not scope.calls:
        return
    plan_id = scope.plan_id("webhooks")
    metrics.calls(scope.name, scope.book_calls(plan_id))
    with scope.database.begin() as connection:
        if failed is not None:
            plans.fail(connection, plan_id=plan_id, error=str(failed))
        else:
            calls = plans.calls_of(connection, plan_id=plan_id)
            plans.finish(connection, plan_id=plan_id, state="finished", counts={"calls": calls})


def _alert(database: Database, targets: Sequence[OpenSync]) -> None:
    """Raise an alert for each QuickBooks connection that needs a new consent."""
    syncs = [target.scope.sync for target in targets]
    for sync in {each.quickbooks_conn_id: each for each in syncs}.values():
        try:
            # Costs no call: a refused token is not redeemed again.
            QuickBooksHook(sync.quickbooks_conn_id).token_manager(database).current()
        except NeedsReauth as error:
            alert_reauth(database, sync, error)


def _alert_mailchimp(database: Database, targets: Sequence[OpenSync]) -> None:
    """Raise an alert for each Mailchimp connection that needs a new consent, or another key."""
    syncs = [target.scope.sync for target in targets]
    for sync in {each.mailchimp_conn_id: each for each in syncs}.values():
        try:
            MailchimpHook(sync.mailchimp_conn_id).get_client(retries=Retries(tries=1)).account()
        except NeedsReauth as error:
            alert_reauth(database, sync, error)
        except ConnectorError as error:
            log.warning("mailchimp_not_asked", conn_id=sync.mailchimp_conn_id, reason=str(error))
