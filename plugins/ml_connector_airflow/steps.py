"""The steps of a sync as tasks call them: open what is needed, run, book the calls, close.

Arguments and results are names, ids and counts; they travel over XCom.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from airflow.sdk import get_current_context

from ml_connector import (
    activity,
    archive,
    audience,
    engagement,
    fetch,
    members,
    planning,
    push,
    report,
)
from ml_connector.errors import ConnectorError, NeedsReauth
from ml_connector.scope import Scope
from ml_connector.store import plans
from ml_connector.store.activity_blocks import Part
from ml_connector_airflow.notifications import raise_alert
from ml_connector_airflow.token_steps import needs_reauth
from ml_connector_airflow.wiring import mailchimp_client, open_scope, quickbooks_client, run_of


@contextmanager
def _step(sync: str) -> Iterator[Scope]:
    """Open the sync for one task; its calls, and why it failed, are kept however it ends."""
    scope = open_scope(sync, run=run_of(dict(get_current_context())))
    try:
        plan_id = scope.plan_id()
        try:
            yield scope
        except ConnectorError as error:
            if isinstance(error, NeedsReauth):
                conn_id = scope.sync.quickbooks_conn_id
                cause = needs_reauth(conn_id)
                raise_alert(scope.database, cause=cause, message=f"{conn_id}: {error}")
            with scope.database.begin() as connection:
                plans.fail(connection, plan_id=plan_id, error=str(error))
            raise
        finally:
            scope.book_calls(plan_id)
    finally:
        scope.database.close()


def fetch_customers(
    sync: str, *, full_sync: bool, customer_ids: Sequence[str] = ()
) -> dict[str, Any]:
    """Stage what QuickBooks has; return counts."""
    with _step(sync) as scope:
        fetched = fetch.fetch_customers(
            scope, quickbooks_client(scope), full_sync=full_sync, customer_ids=customer_ids
        )
        return asdict(fetched)


def fetch_members(sync: str, *, full_sync: bool) -> int:
    """Read what changed in the audience; return how many members were read."""
    with _step(sync) as scope:
        return members.fetch_members(scope, mailchimp_client(scope), full_sync=full_sync)


def make_plan(sync: str, *, preview: bool, customer_ids: Sequence[str] = ()) -> list[int]:
    """Decide what has to change; return the shards to push.

    The audience is checked before anything may be written to it.
    """
    with _step(sync) as scope:
        planned = planning.make_plan(scope, preview=preview, customer_ids=customer_ids)
        if planned.changes:
            audience.check_audience(scope.sync, mailchimp_client(scope))
        return list(planned.shards)


def push_shard(sync: str, shard: int) -> dict[str, int]:
    """Write one shard of the run's plan to Mailchimp; return how many changes ended how."""
    with _step(sync) as scope:
        client = mailchimp_client(scope)
        return push.push_shard(scope, client, plan_id=scope.plan_id(), shard=shard)


def archive_contacts(sync: str) -> dict[str, int]:
    """Archive the contacts that nobody owns any more; return how many changes ended how."""
    with _step(sync) as scope:
        client = mailchimp_client(scope)
        return archive.archive_contacts(scope, client, plan_id=scope.plan_id())


def fetch_activity(sync: str, *, preview: bool, full_sync: bool) -> list[dict[str, int]]:
    """Read what campaigns report; return the shards of customers whose activity is to be written.

    What members did otherwise was recorded when the audience was read, before the plan.
    """
    with _step(sync) as scope:
        if preview:
            return []
        engagement.fetch_engagement(scope, mailchimp_client(scope), full_sync=full_sync)
        shards = activity.shards_for(activity.queue_activity(scope))
        return [{"shard": shard, "shards": shards} for shard in range(shards)]


def write_activity(sync: str, shard: int, shards: int) -> dict[str, int]:
    """Write one shard of the queued activity to QuickBooks; return how many customers ended how."""
    with _step(sync) as scope:
        part = Part(shard=shard, shards=shards)
        return activity.write_activity(scope, quickbooks_client(scope), part=part)


def make_report(sync: str) -> dict[str, Any]:
    """Close the run's plan and return its summary: counts only."""
    with _step(sync) as scope:
        return report.make_report(scope, plan_id=scope.plan_id()).as_json()
