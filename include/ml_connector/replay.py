"""Replay: evaluate chosen audit rows again, against current data.

A replay never sends a stored call again. It reads the record behind a row and decides by the rules
of every run. It writes only what is left to write. So it raises no consent, imports no suppressed
person, and is idempotent. Each chosen row gets an audit row of its own. Writes name the chosen row
as their origin (``replay:3``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import structlog
from sqlalchemy import Connection

from ml_connector.activity import queue, writer
from ml_connector.audit import trail
from ml_connector.audit.trail import AuditRow, Entry
from ml_connector.scope import OpenSync, Scope
from ml_connector.store import activity_queue, contacts, customers, deciding, plans
from ml_connector.store.activity_queue import Slice
from ml_connector.sync import (
    archive,
    fetch_customers,
    fetch_members,
    first_run,
    follow_up,
    planner,
    preflight,
    push,
)
from ml_connector.sync.recovery import record_unknown_outcomes, settle_archives
from ml_connector.webhooks import inbox

WITHOUT_RECORD = ("rate_limited", "replay")
"""These actions have no record behind them, so there is nothing to evaluate."""

Outcome = Literal["evaluated", "requeued", "left"]
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The result of a replay: rows by outcome, customers read, and writes by outcome.

    ``rows``: ``evaluated``; ``requeued`` (a webhook, for ``process_webhooks`` to process); ``left``
    (nothing to evaluate, or a webhook that is not dead-lettered).
    """

    rows: Mapping[str, int]
    customers: int
    written: Mapping[str, int]
    written_back: Mapping[str, int]

    def as_json(self) -> dict[str, object]:
        """Return the counts in the form that a task can return."""
        return {
            "rows": dict(self.rows),
            "customers": self.customers,
            "written": dict(self.written),
            "written_back": dict(self.written_back),
        }


def replay(target: OpenSync, rows: Sequence[AuditRow]) -> Replayed:
    """Evaluate the records behind ``rows``; return counts."""
    first_run.check_known(target.scope)
    told = [row for row in rows if row.action == "webhook"]
    records = [row for row in rows if row.action not in ("webhook", *WITHOUT_RECORD)]
    with target.scope.database.begin() as connection:
        origins = _customers(target.scope, connection, records)
    scope, ids = replace(target.scope, origins=origins), sorted(origins)
    if ids:
        fetch_customers.fetch_customers(scope, target.quickbooks, customer_ids=ids)
    if records:
        # An opt-out that no webhook has reported yet must count (A13b).
        fetch_members.fetch_members(scope, target.mailchimp)
    plan_id = scope.plan_id("replay")
    with scope.database.begin() as connection:
        settle_archives(scope, connection)
        record_unknown_outcomes(scope, connection)
        _requeue(scope, connection, records, ids)
        again = inbox.requeue_ids(connection, [_webhook(row) for row in told])
        outcomes = {row.id: _outcome(row, again) for row in rows}
        entries = [_entry(row, outcomes[row.id]) for row in rows]
        trail.append(connection, entries, run=scope.run, vault=scope.vault)
    replayed = Replayed(
        rows=Counter(outcomes.values()),
        customers=len(ids),
        written=_write(scope, target, plan_id, ids),
        written_back=_write_back(scope, target, ids),
    )
    with scope.database.begin() as connection:
        plans.finish(connection, plan_id=plan_id, state="finished", counts=replayed.as_json())
    log.info("audit_replayed", sync=scope.name, **replayed.as_json())
    return replayed


def _customers(scope: Scope, connection: Connection, records: Sequence[AuditRow]) -> dict[str, str]:
    """Return the customers behind rows, mapped to their newest row as ``replay:3``."""
    by_key = {bytes(row.email_key): f"replay:{row.id}" for row in records if row.email_key}
    found = customers.at(connection, sync=scope.name, keys=list(by_key))
    origins = {customer_id: by_key[key] for customer_id, key in found.items()}
    return origins | {row.customer_id: f"replay:{row.id}" for row in records if row.customer_id}


def _requeue(
    scope: Scope, connection: Connection, records: Sequence[AuditRow], ids: Sequence[str]
) -> None:
    """Mark everything for a new decision, despite refusals and waits."""
    keys = {bytes(row.email_key) for row in records if row.email_key}
    keys |= customers.address_keys(connection, sync=scope.name, ids=ids)
    contacts.requeue(connection, sync=scope.name, keys=keys, now=scope.clock())
    deciding.mark_dirty_ids(connection, sync=scope.name, ids=ids)
    shown = [row.customer_id for row in records if row.system == "quickbooks" and row.customer_id]
    if scope.sync.activity.write_to != "none":
        activity_queue.requeue(connection, sync=scope.name, ids=shown)


def _write(scope: Scope, target: OpenSync, plan_id: int, ids: Sequence[str]) -> dict[str, int]:
    written: Counter[str] = Counter()
    if ids and planner.decide_on(scope, plan_id=plan_id, customer_ids=ids):
        client = target.mailchimp
        preflight.check_audience_cached(scope, client)
        written.update(push.push_shard(scope, client, plan_id=plan_id, shard=0))
        written.update(archive.archive_contacts(scope, client, plan_id=plan_id))
        written.update(follow_up.follow_up(scope, client, plan_id=plan_id))
    elif ids:
        written.update(follow_up.take_opt_outs_along(scope, target.mailchimp, plan_id=plan_id))
    return dict(written)


def _write_back(scope: Scope, target: OpenSync, ids: Sequence[str]) -> dict[str, int]:
    if not ids or not queue.queue_activity(scope, customer_ids=ids):
        return {}
    return writer.write_activity(scope, target.quickbooks, part=Slice(ids=ids))


def _webhook(row: AuditRow) -> int:
    return int(row.cause.removeprefix("webhook:"))


def _outcome(row: AuditRow, again: set[int]) -> Outcome:
    if row.action == "webhook":
        return "requeued" if _webhook(row) in again else "left"
    return "left" if row.action in WITHOUT_RECORD else "evaluated"


def _entry(row: AuditRow, outcome: Outcome) -> Entry:
    return Entry(
        sync=row.sync,
        system=row.system,
        action="replay",
        reason=row.action,
        outcome=outcome,
        cause=f"replay:{row.id}",
        customer_id=row.customer_id,
        email_key=row.email_key,
        attempts=0,
        origin=f"replay:{row.id}",
    )
