"""What we know of the audience: statuses as read, and what our writes left there."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from ml_connector.model import Member, Status
from ml_connector.plan import CONTACT_COLUMNS
from ml_connector.store.database import copy_rows, frame_of, take_turn, unhexed
from ml_connector.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedMember:
    """A member reduced to what is stored of it."""

    email_key: bytes
    status: Status
    last_changed: datetime | None


def keyed(member: Member, *, address: str, vault: Vault) -> KeyedMember:
    """Return the member under the blind index of its normalised ``address``."""
    return KeyedMember(
        email_key=vault.email_key(address), status=member.status, last_changed=member.last_changed
    )


def observe(
    connection: Connection, members: Iterable[KeyedMember], *, sync: str, now: datetime
) -> int:
    """Merge members as read into what we know; return how many differ from before.

    A contact that is archived though we did not archive it was archived by a marketer; one whose
    archive of ours was under way when its worker ended was archived by us. One that
    comes (back) by other hands than ours is no longer archived by anyone, not ours to archive
    again, and no longer refused. Customers at an address whose contact appeared, was archived, or
    did anything while they were no contacts are decided on again.
    """
    take_turn(connection, sync=sync)
    connection.execute(
        text("""CREATE TEMP TABLE IF NOT EXISTS observed_members
                (email_key bytea, status text, last_changed timestamptz) ON COMMIT DROP""")
    )
    connection.execute(text("TRUNCATE observed_members"))
    copy_rows(
        connection,
        "observed_members",
        ["email_key", "status", "last_changed"],
        ((m.email_key, m.status.value, m.last_changed) for m in members),
    )
    return int(
        connection.execute(
            text("""
        WITH page AS (
            SELECT DISTINCT ON (email_key) * FROM observed_members
            ORDER BY email_key, last_changed DESC NULLS LAST
        ), written AS (
            INSERT INTO ml_connector.contacts AS known
                  (sync, email_key, status, archived_by, last_changed, seen_at)
            SELECT :sync, email_key, status,
                   CASE WHEN status = 'archived' THEN 'marketer' END, last_changed, :now
            FROM page
            ON CONFLICT (sync, email_key) DO UPDATE SET
                status = excluded.status,
                previous_status = CASE WHEN known.status = excluded.status
                                       THEN known.previous_status ELSE known.status END,
                archived_by = CASE WHEN excluded.status <> 'archived' THEN NULL
                                   WHEN known.status = 'archived' THEN known.archived_by
                                   WHEN EXISTS (SELECT 1 FROM ml_connector.changes a
                                                JOIN ml_connector.archive_intents i
                                                  ON i.change_id = a.id
                                                WHERE a.sync = :sync
                                                  AND a.email_key = excluded.email_key
                                                  AND a.kind = 'archive'
                                                  AND a.state = 'pending') THEN 'us'
                                   ELSE 'marketer' END,
                owner = CASE WHEN known.status IN ('archived', 'forgotten', 'absent')
                              AND excluded.status <> 'archived' THEN NULL ELSE known.owner END,
                refused_hash = CASE WHEN known.status NOT IN ('forgotten', 'absent')
                                    THEN known.refused_hash END,
                last_changed = excluded.last_changed, seen_at = excluded.seen_at
            WHERE known.status <> excluded.status
               OR known.last_changed IS DISTINCT FROM excluded.last_changed
            RETURNING email_key, known.status, xmax = 0 AS is_new
        ), waiting AS (
            UPDATE ml_connector.customers c SET dirty = true FROM written w
            WHERE c.sync = :sync AND c.email_key = w.email_key
              AND (w.is_new OR c.decision = 'skipped' OR w.status = 'archived')
        )
        SELECT count(*) FROM written"""),
            {"sync": sync, "now": now},
        ).scalar_one()
    )


def forget_audience(connection: Connection, *, sync: str) -> None:
    """Drop what we know of an audience that was swapped for another (A36)."""
    take_turn(connection, sync=sync)
    connection.execute(text("DELETE FROM ml_connector.contacts WHERE sync = :sync"), {"sync": sync})
    connection.execute(
        text("""UPDATE ml_connector.customers SET contact_key = NULL, dirty = true
                WHERE sync = :sync"""),
        {"sync": sync},
    )


def frame(connection: Connection, *, sync: str, keys: Collection[bytes]) -> pd.DataFrame:
    """Return CONTACT_COLUMNS of the contacts known under ``keys``."""
    return frame_of(
        connection,
        CONTACT_COLUMNS,
        hexed=("email_key", "pushed_hash", "refused_hash"),
        rest="FROM ml_connector.contacts WHERE sync = :sync AND email_key = ANY(:keys)",
        parameters={"sync": sync, "keys": list(keys)},
    )


def suppressed(connection: Connection, *, keys: Collection[bytes]) -> set[bytes]:
    """Return those of ``keys`` that must never be imported again."""
    rows = connection.execute(
        text("SELECT email_key FROM ml_connector.suppressions WHERE email_key = ANY(:keys)"),
        {"keys": list(keys)},
    ).all()
    return {bytes(row.email_key) for row in rows}


def hand_over(connection: Connection, *, sync: str, owners: pd.DataFrame) -> None:
    """Give contacts that already show what they should their new owner."""
    moved = [
        {"sync": sync, "email_key": key, "owner": owner}
        for key, owner in unhexed(owners, ["email_key", "owner"], hexed=("email_key",))
    ]
    if moved:
        connection.execute(
            text("""UPDATE ml_connector.contacts SET owner = :owner
                    WHERE sync = :sync AND email_key = :email_key"""),
            moved,
        )


def disown(connection: Connection, *, sync: str, keys: Collection[bytes]) -> None:
    """Let contacts go that are no customer's any more and cannot be archived (A16b)."""
    connection.execute(
        text("""UPDATE ml_connector.contacts SET owner = NULL, pushed_hash = NULL
                WHERE sync = :sync AND email_key = ANY(:keys)"""),
        {"sync": sync, "keys": list(keys)},
    )


def unpush(connection: Connection, *, sync: str, keys: Collection[bytes]) -> None:
    """Record that contacts show nothing of ours any more: they were archived."""
    take_turn(connection, sync=sync)
    connection.execute(
        text("""UPDATE ml_connector.contacts SET pushed_hash = NULL
                WHERE sync = :sync AND email_key = ANY(:keys)"""),
        {"sync": sync, "keys": list(keys)},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a contact is after a call of ours, as Mailchimp answered.

    ``payload`` is what the contact shows: address and merge fields, JSON-able; None if the call
    changed nothing there.
    """

    email_key: bytes
    status: Status
    owner: str | None
    previous_status: str | None = None
    pushed_hash: bytes | None = None
    sent_fields: Sequence[str] = ()
    tagged_inactive: bool = False
    archived_by: str | None = None
    refused_hash: bytes | None = None
    refused_reason: str | None = None
    parked_until: datetime | None = None
    parked_times: int = 0
    payload: Mapping[str, Any] | None = None


_WRITTEN = [
    "email_key", "status", "owner", "previous_status", "pushed_hash", "sent_fields",
    "tagged_inactive", "archived_by", "refused_hash", "refused_reason", "parked_until",
    "parked_times", "payload",
]  # fmt: skip


def identity(sync: str, email_key: bytes) -> str:
    """Return the name that a contact's payload is sealed for."""
    return f"contacts/{sync}/{email_key.hex()}"


def record(connection: Connection, written: Iterable[Written], *, sync: str, vault: Vault) -> None:
    """Store what contacts are after our calls."""
    take_turn(connection, sync=sync)
    connection.execute(
        text("""CREATE TEMP TABLE IF NOT EXISTS written_contacts
                (LIKE ml_connector.contacts) ON COMMIT DROP""")
    )
    connection.execute(text("TRUNCATE written_contacts"))
    columns = ["sync", *_WRITTEN]
    copy_rows(connection, "written_contacts", columns, (_row(w, sync, vault) for w in written))
    listed = ", ".join(columns)
    assigned = ", ".join(f"{column} = excluded.{column}" for column in _WRITTEN[1:-1])
    connection.execute(
        text(f"""INSERT INTO ml_connector.contacts AS known ({listed})
                 SELECT {listed} FROM written_contacts ORDER BY email_key
                 ON CONFLICT (sync, email_key) DO UPDATE SET {assigned},
                     payload = coalesce(excluded.payload, known.payload)""")  # noqa: S608
    )


def _row(written: Written, sync: str, vault: Vault) -> tuple[Any, ...]:
    payload = written.payload
    return (
        sync,
        written.email_key,
        written.status.value,
        written.owner,
        written.previous_status,
        written.pushed_hash,
        list(written.sent_fields),
        written.tagged_inactive,
        written.archived_by,
        written.refused_hash,
        written.refused_reason,
        written.parked_until,
        written.parked_times,
        None if payload is None else vault.seal(payload, identity(sync, written.email_key)),
    )


def adrift(connection: Connection, *, sync: str) -> set[bytes]:
    """Return contacts of ours at whose address no customer is or was last represented.

    Their archive was decided by a run that did not come to it.
    """
    rows = connection.execute(
        text("""SELECT email_key FROM ml_connector.contacts k
                WHERE sync = :sync AND owner IS NOT NULL
                  AND status NOT IN ('archived', 'forgotten', 'absent')
                  AND NOT EXISTS (SELECT 1 FROM ml_connector.customers c
                                  WHERE c.sync = k.sync AND c.email_key = k.email_key)
                  AND NOT EXISTS (SELECT 1 FROM ml_connector.customers c
                                  WHERE c.sync = k.sync AND c.contact_key = k.email_key)"""),
        {"sync": sync},
    ).all()
    return {bytes(row.email_key) for row in rows}


def by_status(connection: Connection, *, sync: str) -> dict[str, int]:
    """Return how many contacts of customers there are, by status."""
    rows = connection.execute(
        text("""SELECT status, count(*) AS contacts FROM ml_connector.contacts
                WHERE sync = :sync AND owner IS NOT NULL GROUP BY status ORDER BY status"""),
        {"sync": sync},
    ).all()
    return {row.status: row.contacts for row in rows}
