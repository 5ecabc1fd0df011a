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
from ml_connector.scope import Scope
from ml_connector.store.database import lock_sync


class Retryable(NamedTuple):
    """How many customers of a list can be retried for a ``reason``."""

    reason: str
    customers: int


def count_retryable(
    connection: Connection, *, sync: str, wanted: CustomerFilter
) -> list[Retryable]:
    """Return the customers of a filter that can be retried, by reason, most first."""
    where, values = filter_conditions(wanted, sync=sync)
    rows = connection.execute(
        text(f"""SELECT CASE WHEN NOT {RETRYABLE_CONTACT} THEN 'not_written_in_quickbooks'
                             WHEN k.parked_until > now() THEN 'parked'
                             ELSE k.refused_reason END AS reason, count(*)
                 FROM {SOURCE} WHERE {" AND ".join([*where, RETRYABLE])}
                 GROUP BY 1 ORDER BY 2 DESC, 1"""),  # noqa: S608 -- our own words
        values,
    )
    return [Retryable(*row) for row in rows]


def mark_due(scope: Scope, *, wanted: CustomerFilter) -> int:
    """Mark the customers of a filter that can be retried; return how many. The request is audited.

    One statement, whatever their number. Their ids leave the database by no other way. A parked
    contact is due but stays parked: its creation may have been made unseen, and it is ours (A42b).
    """
    where, values = filter_conditions(wanted, sync=scope.name)
    with scope.database.begin() as connection:
        lock_sync(connection, sync=scope.name)
        marked = connection.execute(
            text(f"""
                WITH chosen AS MATERIALIZED (
                    SELECT c.customer_id, CASE WHEN {RETRYABLE_CONTACT} THEN k.email_key END AS key
                    FROM {SOURCE} WHERE {" AND ".join([*where, RETRYABLE])}
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
            {**values, "writes_activity": scope.sync.activity.write_to != "none"},
        ).rowcount
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
