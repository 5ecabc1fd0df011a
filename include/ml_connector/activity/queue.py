"""Queue the QuickBooks customers whose activity lines are out of date, and shard them."""

from collections.abc import Collection

from ml_connector.scope import Scope
from ml_connector.store import activity_queue

CUSTOMERS_A_SHARD = 2500
"""100 batches: two and a half minutes at QuickBooks' limit of 40 batches a minute."""

MAX_SHARDS = 4


def queue_activity(scope: Scope, *, customer_ids: Collection[str] | None = None) -> int:
    """Queue customers whose activity lines are out of date; return the number due.

    ``customer_ids`` limits the search. None means every customer of the sync.
    """
    if scope.sync.activity.write_to == "none":
        return 0
    if scope.sync.activity.show == "always":
        with scope.database.begin() as connection:
            activity_queue.show_all(connection, sync=scope.name, ids=customer_ids)
    with scope.database.begin() as connection:
        activity_queue.queue(connection, sync=scope.name, ids=customer_ids)
        return activity_queue.count_todo(connection, sync=scope.name)


def shards_for(due: int) -> int:
    """Return the number of shards for ``due`` customers."""
    return min(MAX_SHARDS, -(-due // CUSTOMERS_A_SHARD))
