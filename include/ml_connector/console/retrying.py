"""Retry the customers of a list whose write failed or is parked: mark them due, by the filter.

The next run decides on them by the rules of every run. What Mailchimp refuses because of the person
stays refused, and a write that a person undid stays undone.
"""

from typing import NamedTuple

from sqlalchemy import Connection, text

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.console.queries.customer_list import (
    RETRYABLE,
    RETRYABLE_CONTACT,
    SOURCE,
    CustomerFilter,
    filter_conditions,
)
from ml_connector.console.queries.plans import approval_first
from ml_connector.display import counted
from ml_connector.errors import ConnectorError
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.store.database import lock_sync


class RetryRefused(ConnectorError):
    """Nothing was marked: what the user was shown is no longer so."""


class Retryable(NamedTuple):
    """How many customers of a list can be retried for a ``reason``."""

    reason: str
    customers: int


def count_retryable(
    connection: Connection, *, sync: Sync, wanted: CustomerFilter
) -> list[Retryable]:
    """Return the customers of a filter that can be retried, by reason, most first."""
    where, values = filter_conditions(wanted, sync=sync.name)
    rows = connection.execute(
        text(f"""SELECT CASE WHEN NOT {RETRYABLE_CONTACT} THEN 'not_written_in_quickbooks'
                             WHEN k.parked_until > now() THEN 'parked'
                             ELSE k.refused_reason END AS reason, count(*)
                 FROM {SOURCE} WHERE {" AND ".join([*where, _retryable(sync)])}
                 GROUP BY 1 ORDER BY 2 DESC, 1"""),  # noqa: S608 -- our own words
        values,
    )
    return [Retryable(*row) for row in rows]


def _retryable(sync: Sync) -> str:
    """Return the condition. Activity counts only if the sync writes it."""
    return RETRYABLE if _writes_activity(sync) else RETRYABLE_CONTACT


def _writes_activity(sync: Sync) -> bool:
    return sync.activity.write_to != "none"


def mark_due(scope: Scope, *, wanted: CustomerFilter, most: int, run_id: str = "") -> int:
    """Mark the customers of a filter that can be retried; return how many. The request is audited.

    ``most``: as many as the user was shown. ``run_id``: the run under way. Raises ``RetryRefused``
    and marks nothing if there are more, or if a plan has to be decided on or written first.

    One statement, whatever their number. Their ids leave the database by no other way. A parked
    contact is due but stays parked: its creation may have been made unseen, and it is ours (A42b).
    """
    where, values = filter_conditions(wanted, sync=scope.name)
    with scope.database.begin() as connection:
        lock_sync(connection, sync=scope.name)
        if waits := approval_first(connection, sync=scope.name, run_id=run_id):
            raise RetryRefused(waits)
        marked = connection.execute(
            text(f"""
                WITH chosen AS MATERIALIZED (
                    SELECT c.customer_id, CASE WHEN {RETRYABLE_CONTACT} THEN k.email_key END AS key
                    FROM {SOURCE} WHERE {" AND ".join([*where, _retryable(scope.sync)])}
                ), contacts AS (
                    UPDATE ml_connector.contacts k
                    SET refused_hash = NULL, refused_reason = NULL,
                        parked_until = CASE WHEN k.parked_until > now() THEN now()
                                            ELSE k.parked_until END
                    FROM chosen WHERE k.sync = :sync AND k.email_key = chosen.key
                ), blocks AS (
                    UPDATE ml_connector.activity_blocks b
                    SET state = 'due', attempts = 0, error = NULL
                    FROM chosen WHERE b.sync = :sync AND b.customer_id = chosen.customer_id
                                  AND b.state IN ('parked', 'refused') AND :writes_activity
                )
                UPDATE ml_connector.customers c SET dirty = true
                FROM chosen WHERE c.sync = :sync AND c.customer_id = chosen.customer_id"""),  # noqa: S608
            {**values, "writes_activity": _writes_activity(scope.sync)},
        ).rowcount
        if marked > most:
            now = counted(marked, "customer is", "customers are")
            raise RetryRefused(f"Now {now} to be retried. Look at the list again.")
        if marked:
            entry = Entry(
                sync=scope.name,
                system="connector",
                action="retry_customers",
                reason="failed_or_parked",
                outcome="requested",
                cause="console",
                attempts=0,
                after={"filter": dict(wanted.given), "customers": marked},
            )
            trail.append(connection, [entry], run=scope.run, vault=scope.vault)
    return int(marked)
