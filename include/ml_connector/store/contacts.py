"""What we know of the audience: statuses as read, and what our writes left there."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import pandas as pd
from sqlalchemy import Connection, text

from ml_connector.model import Member, Status
from ml_connector.plan import CONTACT_COLUMNS
from ml_connector.store.database import copy_rows, frame_of, take_turn, unhexed
from ml_connector.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedMember:
    """A member reduced to what is stored of it.

    ``contact_id`` stays the same when a member takes another address; ``moved_from`` is the key of
    the former address where somebody told us. ``profile_hash`` names the merge fields it shows.
    """

    email_key: bytes
    status: Status
    last_changed: datetime | None
    contact_id: str | None = None
    profile_hash: bytes | None = None
    moved_from: bytes | None = None


def keyed(
    member: Member, *, address: str, vault: Vault, moved_from: bytes | None = None
) -> KeyedMember:
    """Return the member under the blind index of its normalised ``address``."""
    return KeyedMember(
        email_key=vault.email_key(address),
        status=member.status,
        last_changed=member.last_changed,
        contact_id=member.contact_id or None,
        profile_hash=profile_hash(member.merge_fields, vault),
        moved_from=moved_from,
    )


def profile_hash(merge_fields: Mapping[str, Any], vault: Vault) -> bytes | None:
    """Return a hash of what merge fields show; None where an answer has none.

    Empty ones do not count: whether they are listed depends on the call.
    """
    if not merge_fields:
        return None
    shown = {tag: _shown(value) for tag, value in merge_fields.items()}
    return vault.fields_hash({tag: value for tag, value in shown.items() if value})


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {part: str(text) for part, text in value.items() if text}
    return str(value) if value is not None else ""


class Transition(NamedTuple):
    """Something that became true of a contact, compared with what was known before.

    ``kind``: the new status (a word of Mailchimp's), ``profile_changed`` or ``address_changed``.
    """

    email_key: bytes
    kind: str
    before: str | None
    after: str | None
    happened_at: datetime


_OBSERVED = ["email_key", "status", "last_changed", "contact_id", "profile_hash", "moved_from"]

# A page's rows beside what is known of them, and where their people were before (A28). A pending
# write of ours explains a change of fields, or a return; an archive under way explains an archive.
_JUDGE = text("""
    CREATE TEMP TABLE judged_members ON COMMIT DROP AS
    WITH page AS (
        SELECT DISTINCT ON (email_key) * FROM observed_members
        ORDER BY email_key, last_changed DESC NULLS LAST
    )
    SELECT p.email_key, p.status, p.last_changed, p.contact_id, p.profile_hash,
           f.email_key AS former_key, nullif(coalesce(f.alias_of, f.email_key), p.email_key) AS alias,
           k.email_key IS NULL AS is_new,
           coalesce(f.status, k.status) AS was,
           coalesce(f.profile_hash, k.profile_hash) AS profile_was,
           coalesce(p.last_changed, :now) AS happened_at,
           EXISTS (SELECT 1 FROM ml_connector.changes c
                   WHERE c.sync = :sync AND c.email_key = p.email_key AND c.state = 'pending'
                     AND c.kind <> 'archive') AS writing,
           EXISTS (SELECT 1 FROM ml_connector.changes c
                   JOIN ml_connector.archive_intents i ON i.change_id = c.id
                   WHERE c.sync = :sync AND c.email_key = p.email_key AND c.state = 'pending'
                     AND c.kind = 'archive') AS archiving
    FROM page p
    LEFT JOIN ml_connector.contacts k ON k.sync = :sync AND k.email_key = p.email_key
    LEFT JOIN LATERAL (
        SELECT * FROM ml_connector.contacts o
        WHERE o.sync = :sync AND o.email_key <> p.email_key AND o.status <> 'moved'
          AND (o.contact_id = p.contact_id OR o.email_key = p.moved_from)
        LIMIT 1) f ON true
    WHERE k.email_key IS NULL OR f.email_key IS NOT NULL OR k.status <> p.status
       OR k.last_changed IS DISTINCT FROM p.last_changed OR k.contact_id IS NULL
""")
_LEAVE = text("""
    UPDATE ml_connector.contacts o
    SET status = 'moved', previous_status = j.status, alias_of = NULL
    FROM judged_members j WHERE o.sync = :sync AND o.email_key = j.former_key
""")
_MERGE = text("""
    WITH written AS (
        INSERT INTO ml_connector.contacts AS known
              (sync, email_key, status, archived_by, last_changed, seen_at, contact_id, alias_of,
               profile_hash, news)
        SELECT :sync, email_key, status, CASE WHEN status = 'archived' THEN 'marketer' END,
               last_changed, :now, contact_id, alias, profile_hash,
               CASE WHEN status IN ('unsubscribed', 'cleaned') THEN 1 ELSE 0 END
        FROM judged_members ORDER BY email_key
        ON CONFLICT (sync, email_key) DO UPDATE SET
            status = excluded.status,
            previous_status = CASE WHEN known.status = excluded.status
                                   THEN known.previous_status ELSE known.status END,
            archived_by = CASE WHEN excluded.status <> 'archived' THEN NULL
                               WHEN known.status = 'archived' THEN known.archived_by
                               WHEN (SELECT archiving FROM judged_members j
                                     WHERE j.email_key = excluded.email_key) THEN 'us'
                               ELSE 'marketer' END,
            owner = CASE WHEN known.status IN ('archived', 'forgotten', 'absent', 'moved')
                          AND excluded.status <> 'archived' THEN NULL ELSE known.owner END,
            refused_hash = CASE WHEN known.status NOT IN ('forgotten', 'absent')
                                THEN known.refused_hash END,
            alias_of = coalesce(excluded.alias_of, nullif(known.alias_of, known.email_key)),
            contact_id = coalesce(excluded.contact_id, known.contact_id),
            profile_hash = coalesce(excluded.profile_hash, known.profile_hash),
            last_changed = excluded.last_changed, seen_at = excluded.seen_at
        RETURNING email_key, status, alias_of, xmax = 0 AS is_new
    ), waiting AS (
        UPDATE ml_connector.customers c SET dirty = true FROM written w
        WHERE c.sync = :sync AND c.email_key IN (w.email_key, w.alias_of)
          AND (w.is_new OR c.decision = 'skipped' OR w.status = 'archived')
    ), left_behind AS (
        UPDATE ml_connector.contacts o SET previous_status = w.status FROM written w
        WHERE o.sync = :sync AND o.email_key = w.alias_of AND o.status = 'moved'
    )
    SELECT count(*) FROM written
""")
_CARRY = text("""
    UPDATE ml_connector.contacts n
    SET engagement = o.engagement, last_engaged_at = o.last_engaged_at,
        last_soft_bounce_at = o.last_soft_bounce_at, status_since = o.status_since
    FROM judged_members j JOIN ml_connector.contacts o
      ON o.sync = :sync AND o.email_key = j.former_key
    WHERE n.sync = :sync AND n.email_key = j.email_key
""")
_TRANSITIONS = text("""
    SELECT email_key, 'address_changed' AS kind, NULL AS before, NULL AS after, happened_at
    FROM judged_members WHERE former_key IS NOT NULL
    UNION ALL
    SELECT email_key, status, was, status, happened_at FROM judged_members
    WHERE was <> status AND (NOT is_new OR former_key IS NOT NULL)
      AND NOT (status = 'archived' AND archiving)
      AND NOT (was IN ('archived', 'forgotten', 'absent', 'moved') AND writing)
    UNION ALL
    SELECT email_key, 'profile_changed', NULL, NULL, happened_at FROM judged_members
    WHERE profile_was <> profile_hash AND NOT writing AND status <> 'archived'
    ORDER BY happened_at, kind
""")


def observe(
    connection: Connection, members: Iterable[KeyedMember], *, sync: str, now: datetime
) -> list[Transition]:
    """Merge members as read into what we know; return what they did since.

    A contact that is archived though we did not archive it was archived by a marketer; one whose
    archive of ours was under way when its worker ended was archived by us. One that
    comes (back) by other hands than ours is no longer archived by anyone, not ours to archive
    again, and no longer refused. One that took another address leaves ``moved`` behind, and is an
    alias of it from then on. Customers at an address whose contact appeared, was archived, or
    did anything while they were no contacts are decided on again.

    A member seen for the first time has done nothing that we know of, whatever its status (B10b).
    """
    take_turn(connection, sync=sync)
    connection.execute(
        text("""CREATE TEMP TABLE IF NOT EXISTS observed_members
                (email_key bytea, status text, last_changed timestamptz, contact_id text,
                 profile_hash bytea, moved_from bytea) ON COMMIT DROP""")
    )
    connection.execute(text("TRUNCATE observed_members"))
    connection.execute(text("DROP TABLE IF EXISTS judged_members"))
    copy_rows(
        connection,
        "observed_members",
        _OBSERVED,
        (
            (
                m.email_key,
                m.status.value,
                m.last_changed,
                m.contact_id,
                m.profile_hash,
                m.moved_from,
            )
            for m in members
        ),
    )
    at = {"sync": sync, "now": now}
    connection.execute(_JUDGE, at)
    connection.execute(_LEAVE, {"sync": sync})
    connection.execute(_MERGE, at)
    connection.execute(_CARRY, {"sync": sync})
    return [Transition(*row) for row in connection.execute(_TRANSITIONS).all()]


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


def sent(
    connection: Connection, *, sync: str, keys: Collection[bytes], vault: Vault
) -> dict[bytes, dict[str, Any]]:
    """Return the merge fields that we sent last, by contact."""
    rows = connection.execute(
        text("""SELECT email_key, payload FROM ml_connector.contacts
                WHERE sync = :sync AND email_key = ANY(:keys) AND payload IS NOT NULL"""),
        {"sync": sync, "keys": list(keys)},
    ).all()
    opened = ((bytes(k), vault.open(payload, identity(sync, bytes(k)))) for k, payload in rows)
    return {key: shown.get("merge_fields", {}) for key, shown in opened}


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
    changed nothing there. ``profile_hash``: of the merge fields as answered, None if they are not
    known, so that the next read takes them as they are.
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
    profile_hash: bytes | None = None
    payload: Mapping[str, Any] | None = None


_WRITTEN = [
    "email_key", "status", "owner", "previous_status", "pushed_hash", "sent_fields",
    "tagged_inactive", "archived_by", "refused_hash", "refused_reason", "parked_until",
    "parked_times", "profile_hash", "payload",
]  # fmt: skip


def identity(sync: str, email_key: bytes) -> str:
    """Return the name that a contact's payload is sealed for."""
    return f"contacts/{sync}/{email_key.hex()}"


def record(connection: Connection, written: Iterable[Written], *, sync: str, vault: Vault) -> None:
    """Store what contacts are after our calls."""
    take_turn(connection, sync=sync)
    connection.execute(
        text("""CREATE TEMP TABLE IF NOT EXISTS written_contacts
                (LIKE ml_connector.contacts INCLUDING DEFAULTS) ON COMMIT DROP""")
    )
    connection.execute(text("TRUNCATE written_contacts"))
    columns = ["sync", *_WRITTEN]
    copy_rows(connection, "written_contacts", columns, (_row(w, sync, vault) for w in written))
    listed = ", ".join(columns)
    assigned = ", ".join(f"{column} = excluded.{column}" for column in _WRITTEN[1:-1])
    connection.execute(
        text(f"""INSERT INTO ml_connector.contacts AS known ({listed}, status_since, news)
                 SELECT {listed}, clock_timestamp(),
                        CASE WHEN status IN ('unsubscribed', 'cleaned') THEN 1 ELSE 0 END
                 FROM written_contacts ORDER BY email_key
                 ON CONFLICT (sync, email_key) DO UPDATE SET {assigned},
                     status_since = CASE WHEN known.status = excluded.status
                                         THEN known.status_since ELSE excluded.status_since END,
                     news = known.news + CASE WHEN known.status <> excluded.status
                                               AND known.news > 0 THEN 1 ELSE 0 END,
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
        written.profile_hash,
        None if payload is None else vault.seal(payload, identity(sync, written.email_key)),
    )


def adrift(connection: Connection, *, sync: str) -> set[bytes]:
    """Return contacts of ours at whose address no customer is or was last represented.

    Their archive was decided by a run that did not come to it.
    """
    rows = connection.execute(
        text("""SELECT email_key FROM ml_connector.contacts k
                WHERE sync = :sync AND owner IS NOT NULL
                  AND status NOT IN ('archived', 'forgotten', 'absent', 'moved')
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
