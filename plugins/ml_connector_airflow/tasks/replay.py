"""Replay as tasks and as a command: select rows, group them by sync, evaluate, seal."""

import getpass
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import structlog
from airflow.sdk import get_current_context

from ml_connector.audit import trail
from ml_connector.audit.trail import AuditRow, Selection
from ml_connector.display import counted
from ml_connector.errors import ConnectorError, NeedsReauth, values_withheld
from ml_connector.model import RunContext
from ml_connector.replay import replay as evaluate
from ml_connector.retention import maintain_audit
from ml_connector.scope import OpenSync
from ml_connector.settings import load_audit, load_sync, load_syncs
from ml_connector.store import plans
from ml_connector.store.database import Database
from ml_connector_airflow import metrics
from ml_connector_airflow.alerts.callbacks import run_succeeded
from ml_connector_airflow.tasks.tokens import alert_reauth
from ml_connector_airflow.tasks.webhooks import open_sync
from ml_connector_airflow.typed import parse_typed_time, require_rows
from ml_connector_airflow.wiring import database_url, open_scope, run_of

log = structlog.get_logger(__name__)


@values_withheld()
def choose(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows selected in the trigger form by sync.

    A dry run logs the counts and returns none.
    """
    chosen = chosen_by(
        ids=params["ids"],
        failed=params["failed"],
        since=params["since"],
        until=params["until"],
        sync=params["sync"],
        reason=params["reason"],
    )
    with closing(Database(database_url(), connections=2)) as database:
        rows = _rows(database, chosen)
    log.info("audit_chosen", rows=len(rows), of=_counted(rows), dry_run=params["dry_run"])
    if params["dry_run"]:
        return []
    return [{"sync": sync, "ids": [row.id for row in of]} for sync, of in _by_sync(rows).items()]


@values_withheld()
def replay(sync: str, ids: Sequence[int]) -> dict[str, Any]:
    """Evaluate one sync's selected rows, as a task; return counts."""
    return _replay(sync, ids, run_of(dict(get_current_context())))


@values_withheld()
def seal() -> dict[str, Any]:
    """Seal the audit; return the number of rows, the chain's length and its last hash."""
    scope = open_scope(next(iter(load_syncs())))
    with closing(scope.database) as database:
        sealed = maintain_audit(database, scope.vault, keep_months=load_audit().keep_months)
        run_succeeded(database, "replay_audit")
    return {"rows": sealed.rows, "length": sealed.position, "head": sealed.head}


def replay_now(chosen: Selection, *, dry_run: bool) -> Iterator[str]:
    """Replay as a command; yield the lines to print."""
    with closing(Database(database_url(), connections=2)) as database:
        rows = _rows(database, chosen)
    for what, number in _counted(rows).items():
        yield f"{counted(number, 'row')}: {what}"
    if not rows:
        yield "No row matches."
    if dry_run or not rows:
        return
    context = RunContext(
        dag_id="replay_audit",
        run_id=f"manual__{datetime.now(UTC).isoformat()}",
        task_id="replay",
        actor=getpass.getuser(),
    )
    for sync, of in _by_sync(rows).items():
        done = _replay(sync, [row.id for row in of], context)
        yield f"{sync}: rows {_told(done['rows'])}; {counted(done['customers'], 'customer')} read"
        yield f"{sync}: written to Mailchimp: {_told(done['written'])}"
        yield f"{sync}: written to QuickBooks: {_told(done['written_back'])}"
    yield f"Sealed {seal()['rows']} rows of the audit."


def chosen_by(
    *,
    ids: Sequence[int],
    failed: bool,
    since: str | None,
    until: str | None,
    sync: str | None,
    reason: str | None,
) -> Selection:
    """Return the selection. Raises ``SettingsError`` if it names no rows or is invalid."""
    require_rows(ids, failed=failed)
    if sync:
        load_sync(sync)
    return Selection(
        ids=tuple(ids),
        failed=failed,
        since=parse_typed_time(since),
        until=parse_typed_time(until),
        sync=sync or None,
        reason=reason or None,
    )


def _rows(database: Database, chosen: Selection) -> list[AuditRow]:
    with database.begin() as connection:
        return trail.select(connection, chosen)


def _by_sync(rows: Sequence[AuditRow]) -> dict[str, list[AuditRow]]:
    """Group rows by sync; a webhook that concerns several syncs goes with the first one."""
    first = next(iter(load_syncs()))
    groups: dict[str, list[AuditRow]] = defaultdict(list)
    for row in rows:
        groups[row.sync or first].append(row)
    return dict(groups)


def _replay(sync: str, ids: Sequence[int], run: RunContext) -> dict[str, Any]:
    with _opened(sync, run) as target:
        rows = _rows(target.scope.database, Selection(ids=tuple(ids)))
        replayed = evaluate(target, rows)
        metrics.writes(sync, "mailchimp", replayed.written)
        metrics.writes(sync, "quickbooks", replayed.written_back)
        return dict(replayed.as_json())


@contextmanager
def _opened(sync: str, run: RunContext) -> Iterator[OpenSync]:
    """Open the sync; store its call counts and any error, however the block ends."""
    with closing(Database(database_url())) as database:
        target = open_sync(sync, database, run)
        plan_id = target.scope.plan_id("replay")
        try:
            with values_withheld():
                yield target
        except ConnectorError as error:
            if isinstance(error, NeedsReauth):
                alert_reauth(database, target.scope.sync, error)
            with database.begin() as connection:
                plans.fail(connection, plan_id=plan_id, error=str(error))
            raise
        finally:
            metrics.calls(sync, target.scope.book_calls(plan_id))


def _counted(rows: Sequence[AuditRow]) -> dict[str, int]:
    said = (f"{row.sync or 'all syncs'} {row.action} {row.reason} {row.outcome}" for row in rows)
    return dict(sorted(Counter(said).items()))


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items()) or "nothing"
