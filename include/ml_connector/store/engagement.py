"""What campaign reports say of a contact: when it last read, clicked or bounced, and what that makes it."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from ml_connector.model import MemberEvent
from ml_connector.store.database import hold_rows, take_turn


class Reported(NamedTuple):
    """The latest of each kind that a report lists for one address."""

    email_key: bytes
    engaged_at: datetime | None
    soft_bounce_at: datetime | None
    hard_bounce_at: datetime | None


def merge(connection: Connection, rows: Iterable[Reported], *, sync: str) -> int:
    """Keep the latest of what is known and reported; return how many contacts moved.

    Taking the same report twice changes nothing. Addresses that are no contacts are left out.
    """
    take_turn(connection, sync=sync)
    types = ("bytea", *["timestamptz"] * 3)
    hold_rows(connection, "reported", dict(zip(Reported._fields, types, strict=True)), rows)
    return connection.execute(
        text("""
        WITH latest AS (
            SELECT email_key, max(engaged_at) AS engaged_at,
                   max(soft_bounce_at) AS soft_bounce_at, max(hard_bounce_at) AS hard_bounce_at
            FROM reported GROUP BY email_key)
        UPDATE ml_connector.contacts k
        SET last_engaged_at = greatest(k.last_engaged_at, r.engaged_at),
            last_soft_bounce_at = greatest(k.last_soft_bounce_at, r.soft_bounce_at),
            last_hard_bounce_at = greatest(k.last_hard_bounce_at, r.hard_bounce_at)
        FROM latest r WHERE k.sync = :sync AND k.email_key = r.email_key
          AND (greatest(k.last_engaged_at, r.engaged_at),
               greatest(k.last_soft_bounce_at, r.soft_bounce_at),
               greatest(k.last_hard_bounce_at, r.hard_bounce_at))
              IS DISTINCT FROM (k.last_engaged_at, k.last_soft_bounce_at, k.last_hard_bounce_at)"""),
        {"sync": sync},
    ).rowcount


def judge(
    connection: Connection, *, sync: str, now: datetime, window: timedelta
) -> list[MemberEvent]:
    """Store what each contact's engagement is by now; return the changes.

    ``engaged``: opened or clicked within ``window``; ``quiet``: it did before; ``bouncing``: soft
    bounces since; ``bounced``: a hard bounce since, or Mailchimp gave up on the address.
    """
    take_turn(connection, sync=sync)
    rows = connection.execute(
        text("""
        WITH judged AS (
            SELECT email_key, status, engagement AS was,
                   CASE WHEN status = 'cleaned'
                             OR last_hard_bounce_at >= coalesce(last_engaged_at, '-infinity')
                             THEN 'bounced'
                        WHEN last_soft_bounce_at > coalesce(last_engaged_at, '-infinity')
                             AND last_soft_bounce_at > :since THEN 'bouncing'
                        WHEN last_engaged_at > :since THEN 'engaged'
                        WHEN last_engaged_at IS NOT NULL OR engagement IS NOT NULL THEN 'quiet'
                   END AS becomes,
                   last_engaged_at, last_soft_bounce_at, last_hard_bounce_at
            FROM ml_connector.contacts
            WHERE sync = :sync AND (engagement IS NOT NULL OR last_engaged_at IS NOT NULL
                   OR last_soft_bounce_at IS NOT NULL OR last_hard_bounce_at IS NOT NULL)
        ), moved AS (
            UPDATE ml_connector.contacts k SET engagement = j.becomes FROM judged j
            WHERE k.sync = :sync AND k.email_key = j.email_key
              AND j.becomes IS DISTINCT FROM j.was
            RETURNING k.email_key
        )
        SELECT j.email_key, j.was, j.becomes,
               coalesce(CASE j.becomes
                   WHEN 'engaged' THEN j.last_engaged_at
                   WHEN 'bouncing' THEN j.last_soft_bounce_at
                   WHEN 'bounced' THEN j.last_hard_bounce_at
                   WHEN 'quiet' THEN j.last_engaged_at + :window END, :now) AS happened_at
        FROM moved JOIN judged j USING (email_key)
        WHERE j.status <> 'cleaned' AND j.becomes IS NOT NULL"""),
        {"sync": sync, "now": now, "since": now - window, "window": window},
    ).all()
    return [
        MemberEvent(
            email_key=bytes(row.email_key),
            kind=row.becomes,
            before=row.was,
            after=row.becomes,
            happened_at=row.happened_at,
        )
        for row in rows
    ]
