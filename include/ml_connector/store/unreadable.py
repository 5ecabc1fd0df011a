"""Records that cannot be read: which, why, since when. Each is skipped alone until it reads well."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from ml_connector.display import counted
from ml_connector.model import Unreadable
from ml_connector.store.database import bytea_array, json_array

QUICKBOOKS, MAILCHIMP = "quickbooks", "mailchimp"


class UnreadableCount(NamedTuple):
    """How many records of a system cannot be read, for one reason."""

    system: str
    reason: str
    records: int

    @property
    def sentence(self) -> str:
        """The count in words."""
        kind = {QUICKBOOKS: "QuickBooks customer", MAILCHIMP: "Mailchimp member"}[self.system]
        some = counted(self.records, f"{kind} was", f"{kind}s were")
        return f"{some} skipped: {self.reason}"


def note_unreadable(
    connection: Connection,
    *,
    sync: str,
    system: str,
    records: Sequence[Unreadable],
    keys: Mapping[str, Collection[bytes]] | None = None,
    seen_in: int = 0,
) -> None:
    """Note records that cannot be read. ``keys``: the addresses of a member, by its record.

    ``seen_in`` is the number of the full load that listed them.
    """
    if not records:
        return
    noted = {each.record: each for each in records}
    at = keys or {}
    if known_by_now := [each.digest for each in records if each.has_id]:
        connection.execute(
            text("""DELETE FROM ml_connector.unreadable_records
                    WHERE sync = :sync AND system = :system AND record = ANY(:records)"""),
            {"sync": sync, "system": system, "records": known_by_now},
        )
    connection.execute(
        text("""INSERT INTO ml_connector.unreadable_records AS known
                       (sync, system, record, reason, email_keys, seen_in)
                VALUES (:sync, :system, :record, :reason, CAST(:keys AS bytea[]), :seen_in)
                ON CONFLICT (sync, system, record) DO UPDATE SET
                    reason = excluded.reason, last_seen_at = clock_timestamp(),
                    seen_in = greatest(known.seen_in, excluded.seen_in),
                    email_keys = CASE WHEN excluded.email_keys = '{}' THEN known.email_keys
                                      ELSE excluded.email_keys END"""),
        [
            {
                "sync": sync,
                "system": system,
                "record": name,
                "reason": each.reason,
                "keys": [bytes(key) for key in at.get(name, ())],
                "seen_in": seen_in,
            }
            for name, each in sorted(noted.items())
        ],
    )


def any_unreadable(connection: Connection, *, sync: str, system: str) -> bool:
    """Return whether any record of a system cannot be read."""
    found = text("""SELECT EXISTS (SELECT 1 FROM ml_connector.unreadable_records
                                   WHERE sync = :sync AND system = :system)""")
    return bool(connection.execute(found, {"sync": sync, "system": system}).scalar_one())


def unreadable_at(
    connection: Connection, *, sync: str, system: str, keys: Collection[bytes]
) -> dict[bytes, str]:
    """Return those addresses among ``keys`` whose record cannot be read, each with the reason."""
    rows = connection.execute(
        text("""SELECT k.key, r.reason FROM ml_connector.unreadable_records r,
                       unnest(r.email_keys) AS k(key)
                WHERE r.sync = :sync AND r.system = :system
                  AND r.email_keys && CAST(:keys AS bytea[])
                  AND k.key = ANY(CAST(:keys AS bytea[]))"""),
        {"sync": sync, "system": system, "keys": bytea_array(keys)},
    ).all()
    return {bytes(key): reason for key, reason in rows}


def clear_unreadable(
    connection: Connection,
    *,
    sync: str,
    system: str,
    records: Collection[str],
    keys: Collection[bytes] = (),
) -> None:
    """Drop what was noted of records, or at addresses: they read well now, or are gone."""
    if (records or keys) and any_unreadable(connection, sync=sync, system=system):
        connection.execute(
            text("""DELETE FROM ml_connector.unreadable_records
                    WHERE sync = :sync AND system = :system
                      AND (record IN (SELECT jsonb_array_elements_text(CAST(:records AS jsonb)))
                           OR email_keys && CAST(:keys AS bytea[]))"""),
            {
                "sync": sync,
                "system": system,
                "records": json_array(records),
                "keys": [bytes(key) for key in keys],
            },
        )


def clear_unlisted(
    connection: Connection,
    *,
    sync: str,
    system: str,
    before: datetime | None = None,
    seen_in: int | None = None,
) -> None:
    """Drop what a complete listing did not show: it began ``before``, or is load ``seen_in``."""
    connection.execute(
        text("""DELETE FROM ml_connector.unreadable_records
                WHERE sync = :sync AND system = :system
                  AND (last_seen_at < CAST(:before AS timestamptz)
                       OR seen_in <> CAST(:seen_in AS bigint))"""),
        {"sync": sync, "system": system, "before": before, "seen_in": seen_in},
    )


def ids(
    connection: Connection, *, sync: str, system: str, most: int, before: datetime | None = None
) -> list[str]:
    """Return up to ``most`` records with an id, longest not seen first; none seen since ``before``."""
    return list(
        connection.execute(
            text("""SELECT record FROM ml_connector.unreadable_records
                    WHERE sync = :sync AND system = :system AND NOT starts_with(record, 'row:')
                      AND (CAST(:before AS timestamptz) IS NULL OR last_seen_at < :before)
                    ORDER BY last_seen_at, record LIMIT :most"""),
            {"sync": sync, "system": system, "before": before, "most": most},
        ).scalars()
    )


def count_unstaged(connection: Connection, *, sync: str, seen_in: int | None = None) -> int:
    """Return how many customers cannot be read and are not staged.

    With ``seen_in``, count only those that this full load listed, and that it staged in no page.
    """
    load = "" if seen_in is None else "AND c.seen_in = :seen_in"
    seen = "" if seen_in is None else "AND u.seen_in = :seen_in"
    return int(
        connection.execute(
            text(f"""SELECT count(*) FROM ml_connector.unreadable_records u
                     WHERE u.sync = :sync AND u.system = 'quickbooks' {seen} AND NOT EXISTS (
                         SELECT 1 FROM ml_connector.customers c
                         WHERE c.sync = u.sync AND c.customer_id = u.record AND NOT c.gone
                           {load})"""),  # noqa: S608 -- constants
            {"sync": sync} if seen_in is None else {"sync": sync, "seen_in": seen_in},
        ).scalar_one()
    )


def counts(connection: Connection, *, sync: str) -> list[UnreadableCount]:
    """Return the counts by system and reason, most records first."""
    rows = connection.execute(
        text("""SELECT system, reason, count(*) FROM ml_connector.unreadable_records
                WHERE sync = :sync GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"""),
        {"sync": sync},
    )
    return [UnreadableCount(*row) for row in rows]


HELD = """email_key IN (
    SELECT m.email_key FROM ml_connector.unreadable_records u
    JOIN ml_connector.customers m ON m.sync = u.sync
     AND (m.email_key = ANY(u.email_keys) OR m.contact_key = ANY(u.email_keys))
    WHERE u.sync = :sync AND u.system = 'mailchimp' AND m.email_key IS NOT NULL)"""
"""Customers whose decision rests on a member that cannot be read: on an unknown consent."""
