"""Monthly audit partitions: create them ahead of time, drop them by age once they are sealed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from ml_connector.audit.chain import write_checkpoint
from ml_connector.vault import Vault

MONTHS_AHEAD = 3
"""Partitions exist this many months ahead."""
_NAME = re.compile(r"^audit_(\d{4})_(\d{2})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A partition: its table's name, and the start and end of its month (UTC)."""

    table: str
    starts: datetime
    ends: datetime


def month_of(moment: datetime, *, later: int = 0) -> datetime:
    """Return the start of a moment's month (UTC), or of the month ``later`` months after it."""
    utc = moment.astimezone(UTC)
    months = utc.year * 12 + utc.month - 1 + later
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def create_ahead(connection: Connection, *, now: datetime) -> int:
    """Create the partitions of this month and the next ones; return how many were missing."""
    months = [month_of(now, later=later) for later in range(MONTHS_AHEAD + 1)]
    made = connection.execute(
        text(
            "SELECT ml_connector.make_audit_partition(m) FROM unnest(CAST(:m AS timestamptz[])) m"
        ),
        {"m": months},
    ).scalars()
    return sum(made)


def months(connection: Connection) -> list[Month]:
    """Return the existing partitions, oldest first. The first may reach further back."""
    names = connection.execute(
        text("""SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'ml_connector.audit'::regclass ORDER BY c.relname""")
    ).scalars()
    found = []
    for name in names:
        if match := _NAME.match(name):
            starts = datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC)
            found.append(Month(table=name, starts=starts, ends=month_of(starts, later=1)))
    return found


def drop_old(
    connection: Connection, vault: Vault, *, now: datetime, keep_months: int
) -> Sequence[Month]:
    """Drop the months before the last ``keep_months`` full ones; return them.

    A month with an unsealed row stays, and so do the months after it. The chain of seals restarts
    behind the dropped rows. Requires the privileges of the tables' owner.

    Raises ``RetryLater`` if a long read, such as a backup, locks the audit. Waiting for it would
    block every writer to the audit, webhooks included.
    """
    cutoff = month_of(now, later=-keep_months)
    old = []
    for month in months(connection):
        if month.ends > cutoff or _unsealed(connection, month):
            break
        old.append(month)
    if not old:
        return []
    connection.execute(text("SET LOCAL lock_timeout = '2s'"))
    for month in old:
        connection.execute(text(f"DROP TABLE ml_connector.{month.table}"))
    kept_from = connection.execute(text("SELECT min(id) FROM ml_connector.audit")).scalar_one()
    write_checkpoint(connection, vault, dropped_before=old[-1].ends, kept_from=kept_from)
    return old


def _unsealed(connection: Connection, month: Month) -> bool:
    found: bool = connection.execute(
        text(f"""SELECT EXISTS (SELECT 1 FROM ml_connector.{month.table} a
                                LEFT JOIN LATERAL (
                                    SELECT audit_id - coalesce(rows, 1) AS before
                                    FROM ml_connector.audit_seals WHERE audit_id >= a.id
                                    ORDER BY audit_id LIMIT 1) s ON s.before < a.id
                                WHERE s.before IS NULL)""")  # noqa: S608 -- names are matched above
    ).scalar_one()
    return found
