"""An end to plans that are as old as the months of the audit that are dropped.

What was decided and what came of it is in the audit; a plan and its changes tell a run's page in the
console. A plan with a pending change is not over, however old it is. The last run that succeeded
stays, and what came after it: alerts and the limits on archives count from there.
"""

from datetime import datetime

import structlog
from sqlalchemy import text

from ml_connector.audit.partitions import month_of
from ml_connector.store.database import Database

BATCH = 5000
"""Changes dropped in one transaction."""

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
_PLANS = text(f"""
    DELETE FROM ml_connector.plans p WHERE {_OLD}
       AND NOT EXISTS (SELECT 1 FROM ml_connector.changes c WHERE c.plan_id = p.id)""")  # noqa: S608 -- a constant


def drop_old(
    database: Database, *, sync: str, now: datetime, keep_months: int, batch: int = BATCH
) -> int:
    """Drop a sync's plans of before the last ``keep_months`` full months (0: none, ever).

    Returns how many changes went with them.
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
        plans = connection.execute(_PLANS, old).rowcount
    if plans:
        log.info("old_plans_dropped", sync=sync, plans=plans, changes=dropped)
    return dropped
