"""An end to webhook events that are long over.

Dropped are ``done``, ``ignored`` and ``quarantined`` events. What waits, what is worked on and what
is dead stays however old it is: the first two are not over, the last is for a person to look at.

A dropped event that is delivered again counts as new. Its record is read from the API, as for every
event, and is found to be as it should be: a read too many, no write.
"""

import structlog
from sqlalchemy import text

from ml_connector.store.database import Database

BATCH = 5000
"""Events dropped in one transaction."""

log = structlog.get_logger(__name__)


def drop_old(database: Database, *, keep_days: int, batch: int = BATCH) -> int:
    """Drop events that ended more than ``keep_days`` ago (0: none, ever); return how many."""
    dropped, last = 0, batch if keep_days else 0
    while last == batch:
        with database.begin() as connection:
            # Skipped: what somebody requeues at this moment, and what another sync's run drops.
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
