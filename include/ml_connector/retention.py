"""Retention: seal the audit, and delete months, plans and webhook events by age."""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from sqlalchemy import text

from ml_connector.audit import chain, partitions
from ml_connector.audit.chain import SealResult
from ml_connector.audit.partitions import month_of
from ml_connector.errors import RetryLater
from ml_connector.store.database import Database
from ml_connector.vault import Vault

BATCH = 5000
"""One transaction deletes at most this many rows."""

log = structlog.get_logger(__name__)

_OLD = """p.sync = :sync AND coalesce(p.finished_at, p.created_at) < :cutoff
          AND p.id < (SELECT max(id) FROM ml_connector.plans
                      WHERE sync = :sync AND kind = 'sync' AND state = 'finished')"""
_CHANGES = text(f"""
    WITH dropped AS (
        DELETE FROM ml_connector.changes WHERE id IN (
            SELECT c.id FROM ml_connector.plans p JOIN ml_connector.changes c ON c.plan_id = p.id
            WHERE {_OLD} AND c.state <> 'pending' AND c.decided_at < :cutoff
            LIMIT :batch FOR UPDATE OF c SKIP LOCKED)
        RETURNING id
    ), intents AS (
        DELETE FROM ml_connector.archive_intents WHERE change_id IN (SELECT id FROM dropped)
    )
    SELECT count(*) FROM dropped""")  # noqa: S608 -- a constant
_BATCHES = text(f"""
    WITH dropped AS (
        DELETE FROM ml_connector.change_batches WHERE id IN (
            SELECT b.id FROM ml_connector.plans p
            JOIN ml_connector.change_batches b ON b.plan_id = p.id
            WHERE {_OLD} AND b.state <> 'pending' AND b.decided_at < :cutoff
            FOR UPDATE OF b SKIP LOCKED)
        RETURNING size
    )
    SELECT coalesce(sum(size), 0) FROM dropped""")  # noqa: S608 -- a constant
_PLANS = text(f"""
    DELETE FROM ml_connector.plans p WHERE {_OLD}
       AND NOT EXISTS (SELECT 1 FROM ml_connector.change_counts c WHERE c.plan_id = p.id)""")  # noqa: S608 -- a constant


def maintain_audit(
    database: Database,
    vault: Vault,
    *,
    keep_months: int = 0,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SealResult:
    """Create future partitions, seal, and drop months older than ``keep_months`` (0: never).

    Logs the chain's last hash. Stored outside the database, it proves that the end of the trail was
    not cut off (``ml-connector audit verify --head``).
    """
    with database.begin() as connection:
        partitions.create_ahead(connection, now=clock())
    sealed = chain.seal(database, vault)
    dropped = _drop_old_months(database, vault, clock(), keep_months) if keep_months else 0
    log.info(
        "audit_sealed",
        rows=sealed.rows,
        length=sealed.position,
        head=sealed.head,
        months_dropped=dropped,
    )
    return sealed


def _drop_old_months(database: Database, vault: Vault, now: datetime, keep_months: int) -> int:
    """Drop old months. A reader's lock postpones that to the next run."""
    try:
        with database.begin() as connection:
            months = partitions.drop_old(connection, vault, now=now, keep_months=keep_months)
    except RetryLater:
        log.info("audit_months_kept", reason="the audit is being read; the next run drops them")
        return 0
    return len(months)


def drop_old_plans(
    database: Database, *, sync: str, now: datetime, keep_months: int, batch: int = BATCH
) -> int:
    """Delete a sync's plans older than ``keep_months`` full months; return their changes.

    0 deletes none. The outcomes are in the audit; a plan only provides a run's page in the console.
    Plans with a pending change stay. So do the last successful run and every later one: alerts and
    the limits on archives count from there.
    """
    if not keep_months:
        return 0
    old = {"sync": sync, "cutoff": month_of(now, later=-keep_months)}
    dropped, last = 0, batch
    while last >= batch:
        with database.begin() as connection:
            last = connection.execute(_CHANGES, {**old, "batch": batch}).scalar_one()
        dropped += last
    with database.begin() as connection:
        dropped += int(connection.execute(_BATCHES, old).scalar_one())
        plans = connection.execute(_PLANS, old).rowcount
    if plans:
        log.info("old_plans_dropped", sync=sync, plans=plans, changes=dropped)
    return dropped


def drop_old_events(database: Database, *, keep_days: int, batch: int = BATCH) -> int:
    """Delete webhook events that ended more than ``keep_days`` ago (0: never); return how many.

    Only ``done``, ``ignored`` and ``quarantined`` events are deleted. Dead-lettered events stay for
    inspection. A deleted event that is delivered again counts as new: one read, no write.
    """
    dropped, last = 0, batch if keep_days else 0
    while last == batch:
        with database.begin() as connection:
            # Locked rows are being requeued, or another sync's run is deleting them.
            last = connection.execute(
                text("""DELETE FROM ml_connector.webhook_inbox WHERE id IN (
                            SELECT id FROM ml_connector.webhook_inbox
                            WHERE state IN ('done', 'ignored', 'quarantined')
                              AND received_at < clock_timestamp() - make_interval(days => :days)
                              AND settled_at < clock_timestamp() - make_interval(days => :days)
                            LIMIT :batch FOR UPDATE SKIP LOCKED)"""),
                {"days": keep_days, "batch": batch},
            ).rowcount
        dropped += last
    if dropped:
        log.info("old_webhooks_dropped", events=dropped, keep_days=keep_days)
    return dropped
