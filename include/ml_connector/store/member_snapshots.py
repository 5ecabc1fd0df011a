"""Upsert audience members. Each difference from the stored row becomes a member event."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from ml_connector.model import Member, Status
from ml_connector.rules import tags
from ml_connector.store.contacts import profile_hash
from ml_connector.store.database import load_temp_table, lock_sync
from ml_connector.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedMember:
    """A member reduced to what is stored of it.

    ``contact_id`` survives a change of address. ``moved_from`` is the key of the former address, if
    a webhook named it. ``profile_hash`` is the hash of the merge fields it shows. ``seen_tags`` are
    the keys of its tags, None if the member itself was not read. ``stats`` are its open rate, click
    rate and rating. ``web_id`` names it in Mailchimp's own pages.
    """

    email_key: bytes
    status: Status
    last_changed: datetime | None
    contact_id: str | None = None
    web_id: int | None = None
    profile_hash: bytes | None = None
    moved_from: bytes | None = None
    seen_tags: Sequence[bytes] | None = None
    complained: bool = False
    stats: tuple[int | None, int | None, int | None] = (None, None, None)


def keyed(
    member: Member,
    *,
    address: str,
    vault: Vault,
    moved_from: bytes | None = None,
    complained: bool = False,
    further: Collection[bytes] = (),
) -> KeyedMember:
    """Return the member under the blind index of its normalised ``address``.

    ``further``: keys of its groups and language, stored with those of its tags.
    """
    seen = tags.shown_tag_keys(member.tags, vault)
    return KeyedMember(
        email_key=vault.email_key(address),
        status=member.status,
        last_changed=member.last_changed,
        contact_id=member.contact_id or None,
        web_id=member.web_id,
        profile_hash=profile_hash(member.merge_fields, vault),
        moved_from=moved_from,
        seen_tags=sorted({*seen, *further}) if further else seen,
        complained=complained,
        stats=(member.open_rate, member.click_rate, member.rating),
    )


class Transition(NamedTuple):
    """A difference between a member as read and the stored contact.

    ``kind`` is the new Mailchimp status, ``profile_changed`` or ``address_changed``.
    """

    email_key: bytes
    kind: str
    before: str | None
    after: str | None
    happened_at: datetime


_OBSERVED = {
    "email_key": "bytea", "status": "text", "last_changed": "timestamptz", "contact_id": "text",
    "profile_hash": "bytea", "moved_from": "bytea", "seen_tags": "bytea[]", "complained": "bool",
    "open_rate": "smallint", "click_rate": "smallint", "member_rating": "smallint",
    "web_id": "bigint",
}  # fmt: skip

# A webhook can name the former address of a member that was never read: it is moved all the same.
_NAME_FORMER = text("""
    INSERT INTO ml_connector.contacts (sync, email_key, status, contact_id, seen_at)
    SELECT DISTINCT ON (p.moved_from) :sync, p.moved_from, 'absent', p.contact_id, clock_timestamp()
    FROM observed_members p
    WHERE p.moved_from IS NOT NULL AND p.moved_from <> p.email_key
      AND NOT EXISTS (SELECT 1 FROM ml_connector.contacts k
                      WHERE k.sync = :sync AND (k.email_key = p.moved_from
                                                OR k.contact_id = p.contact_id))
    ON CONFLICT DO NOTHING
""")
# By far the most members that a run created show what was sent to them: only their ids are new.
_LINK = text("""
    UPDATE ml_connector.contacts k
    SET contact_id = p.contact_id, last_changed = p.last_changed, seen_at = clock_timestamp(),
        open_rate = p.open_rate, click_rate = p.click_rate, member_rating = p.member_rating,
        web_id = p.web_id
    FROM observed_members p
    WHERE k.sync = :sync AND k.email_key = p.email_key AND k.contact_id IS NULL
      AND k.status = p.status AND k.status <> 'archived' AND k.profile_hash = p.profile_hash AND k.seen_tags = p.seen_tags
      AND k.last_changed IS NULL AND k.alias_of IS NULL AND p.moved_from IS NULL
      AND k.complained = p.complained
      AND (k.seen_at <= CAST(:asked AS timestamptz) OR p.last_changed > k.seen_at)
      AND NOT EXISTS (SELECT 1 FROM ml_connector.contacts f
                      WHERE f.sync = :sync AND f.contact_id = p.contact_id)
""")
# Opens move no last_changed, so the figures of a member that is otherwise unchanged are stored here.
_RATE = text("""
    UPDATE ml_connector.contacts k
    SET open_rate = p.open_rate, click_rate = p.click_rate, member_rating = p.member_rating,
        web_id = coalesce(p.web_id, k.web_id)
    FROM observed_members p
    WHERE k.sync = :sync AND k.email_key = p.email_key
      AND coalesce(p.open_rate, p.click_rate, p.member_rating) IS NOT NULL
      AND (k.open_rate, k.click_rate, k.member_rating, k.web_id)
          IS DISTINCT FROM (p.open_rate, p.click_rate, p.member_rating,
                            coalesce(p.web_id, k.web_id))
""")
# Joins a page's rows with the stored contacts, and with the members' former addresses (A28). A
# pending write of ours that may have been made explains a change of fields, or a return; a waiting
# write explains nothing. Our archive in flight explains an archived status. ``writer`` is the
# customer of a creation or restore whose outcome is unknown: the contact is ours.
_JUDGE = text("""
    CREATE TEMP TABLE judged_members ON COMMIT DROP AS
    WITH page AS (
        SELECT DISTINCT ON (email_key) * FROM observed_members
        ORDER BY email_key, last_changed DESC NULLS LAST
    )
    SELECT p.email_key, p.status, p.last_changed, p.contact_id, p.profile_hash, p.seen_tags,
           p.open_rate, p.click_rate, p.member_rating, p.web_id,
           p.complained OR coalesce(k.complained, false) OR coalesce(f.complained, false)
               AS complained,
           coalesce(k.complained, false) OR coalesce(f.complained, false) AS complained_before,
           f.email_key AS former_key, nullif(coalesce(f.alias_of, f.email_key), p.email_key) AS alias,
           k.email_key IS NULL AS is_new,
           coalesce(f.status, k.status) AS was,
           coalesce(f.profile_hash, k.profile_hash) AS profile_was,
           coalesce(p.last_changed, :now) AS happened_at,
           EXISTS (SELECT 1 FROM ml_connector.changes c
                   WHERE c.sync = :sync AND c.email_key = p.email_key AND c.state = 'pending'
                     AND c.kind <> 'archive'
                     AND (c.attempts > 0 OR EXISTS (SELECT 1 FROM ml_connector.batch_intents i
                                                    WHERE i.sync = :sync AND c.id = ANY(i.changes))))
           OR EXISTS (SELECT 1 FROM ml_connector.change_batches b
                      WHERE b.sync = :sync AND b.state = 'pending' AND b.span @> p.email_key
                        AND p.email_key = ANY(b.email_keys)
                        AND (b.attempts > 0
                             OR EXISTS (SELECT 1 FROM ml_connector.batch_intents i
                                        WHERE i.sync = :sync AND i.changes && b.ids))) AS writing,
           EXISTS (SELECT 1 FROM ml_connector.changes c
                   JOIN ml_connector.archive_intents i ON i.change_id = c.id
                   WHERE c.sync = :sync AND c.email_key = p.email_key AND c.state = 'pending'
                     AND c.kind = 'archive') AS archiving,
           (SELECT c.customer_id FROM ml_connector.changes c
            WHERE c.sync = :sync AND c.email_key = p.email_key AND c.state = 'pending'
              AND c.kind IN ('create', 'restore') AND p.status <> 'archived'
              AND (c.attempts > 0 OR EXISTS (SELECT 1 FROM ml_connector.batch_intents i
                                             WHERE i.sync = :sync AND c.id = ANY(i.changes)))
            LIMIT 1) AS writer
    FROM page p
    LEFT JOIN ml_connector.contacts k ON k.sync = :sync AND k.email_key = p.email_key
    LEFT JOIN LATERAL (
        SELECT * FROM ml_connector.contacts o
        WHERE o.sync = :sync AND o.email_key <> p.email_key AND o.status <> 'moved'
          AND (o.contact_id = p.contact_id OR o.email_key = p.moved_from)
        LIMIT 1) f ON true
    WHERE (k.email_key IS NULL OR f.email_key IS NOT NULL OR k.status <> p.status
           OR k.last_changed IS DISTINCT FROM p.last_changed OR k.contact_id IS NULL
           OR k.profile_hash <> p.profile_hash OR k.seen_tags <> p.seen_tags
           OR p.complained AND NOT k.complained)
      -- What is known may be newer than the page: read or written by another process meanwhile.
      AND (p.last_changed < k.last_changed
           OR k.seen_at > CAST(:asked AS timestamptz)
              AND p.last_changed <= greatest(k.last_changed, k.seen_at)) IS NOT TRUE
""")
# An opt-out at an address that a customer left after it was represented elsewhere travels there
# (A42), and so does a complaint, or the deletion of a member who could be mailed. If another
# customer lives at the address, the opt-out may have been theirs.
_TRAVEL = text("""
    UPDATE ml_connector.customers c
    SET opted_out = true, dirty = c.dirty OR NOT c.opted_out,
        opted_out_at = greatest(c.opted_out_at, o.at)
    FROM (SELECT f.customer_id, j.email_key, max(j.last_changed) AS at
          FROM judged_members j
          LEFT JOIN ml_connector.contacts n ON n.sync = :sync AND n.email_key = j.email_key
          JOIN ml_connector.former_contacts f
            ON f.sync = :sync AND f.email_key IN (j.email_key, j.former_key, j.alias, n.alias_of)
          WHERE (j.status = 'unsubscribed' AND j.was IS DISTINCT FROM j.status
                 OR j.status = 'cleaned' AND j.complained
                    AND (j.was IS DISTINCT FROM j.status OR NOT j.complained_before)
                 OR j.status = 'forgotten' AND j.was IN ('subscribed', 'pending', 'transactional'))
            AND NOT EXISTS (SELECT 1 FROM ml_connector.customers o
                            WHERE o.sync = :sync AND o.email_key = j.email_key
                              AND o.active AND NOT o.gone)
          GROUP BY 1, 2) o
    WHERE c.sync = :sync AND c.customer_id = o.customer_id
      AND c.email_key IS DISTINCT FROM o.email_key
""")
# A customer on its way to another address brings the status of the one it leaves.
_MOVERS = text("""
    UPDATE ml_connector.customers c SET dirty = true
    FROM judged_members j
    JOIN ml_connector.contacts n ON n.sync = :sync AND n.email_key = j.email_key
    WHERE c.sync = :sync AND c.contact_key IN (j.email_key, n.alias_of)
      AND c.contact_key IS DISTINCT FROM c.email_key
      AND (j.was IS DISTINCT FROM j.status OR j.complained IS DISTINCT FROM j.complained_before)
""")
# A person who opts in again at the new address has the last word, if that was later.
_OPT_IN = text("""
    UPDATE ml_connector.customers c SET opted_out = false, opted_out_at = NULL, dirty = true
    FROM judged_members j
    WHERE c.sync = :sync AND c.email_key = j.email_key AND c.opted_out
      AND j.status IN ('subscribed', 'pending') AND j.was IS DISTINCT FROM j.status
      AND j.writer IS NULL
      AND (c.opted_out_at IS NULL OR coalesce(j.last_changed > c.opted_out_at, true))
""")
_LEAVE = text("""
    UPDATE ml_connector.contacts o
    SET status = 'moved', previous_status = j.status, alias_of = NULL,
        complained = o.complained OR j.complained
    FROM judged_members j WHERE o.sync = :sync AND o.email_key = j.former_key
""")
# What was written to the former member is not there if another one has the address now. An archived
# one is what an update of ours made there by mistake (A43).
_REPLACED = """known.contact_id <> excluded.contact_id
                AND NOT (known.status = 'moved' AND excluded.status = 'archived')"""
_MERGE = text(f"""
    WITH written AS (
        INSERT INTO ml_connector.contacts AS known
              (sync, email_key, status, archived_by, owner, last_changed, seen_at, contact_id,
               alias_of, profile_hash, seen_tags, complained, open_rate, click_rate,
               member_rating, web_id, news)
        SELECT :sync, email_key, status, CASE WHEN status = 'archived' THEN 'marketer' END, writer,
               last_changed, clock_timestamp(), contact_id, alias, profile_hash, seen_tags,
               complained, open_rate, click_rate, member_rating, web_id,
               CASE WHEN status IN ('unsubscribed', 'cleaned') THEN 1 ELSE 0 END
        FROM judged_members ORDER BY email_key
        ON CONFLICT (sync, email_key) DO UPDATE SET
            -- An archived member at an address that its person left is what an update of ours made
            -- there and took back (A43).
            status = CASE WHEN known.status = 'moved' AND excluded.status = 'archived'
                          THEN known.status ELSE excluded.status END,
            complained = excluded.complained,
            previous_status = CASE WHEN known.status = excluded.status
                                        OR known.status = 'moved' AND excluded.status = 'archived'
                                   THEN known.previous_status ELSE known.status END,
            archived_by = CASE WHEN excluded.status <> 'archived' THEN NULL
                               WHEN known.status IN ('archived', 'moved') THEN known.archived_by
                               WHEN (SELECT archiving FROM judged_members j
                                     WHERE j.email_key = excluded.email_key) THEN 'us'
                               ELSE 'marketer' END,
            -- A parked creation may have been made although its response did not say so.
            owner = CASE WHEN excluded.owner IS NOT NULL THEN excluded.owner
                         WHEN {_REPLACED} THEN NULL
                         WHEN known.status = 'absent' AND known.parked_until IS NOT NULL
                         THEN known.owner
                         WHEN known.status IN ('archived', 'forgotten', 'absent', 'moved')
                          AND excluded.status <> 'archived' THEN NULL ELSE known.owner END,
            pushed_hash = CASE WHEN {_REPLACED} THEN NULL
                               ELSE known.pushed_hash END,
            payload = CASE WHEN {_REPLACED} THEN NULL
                           ELSE known.payload END,
            sent_fields = CASE WHEN {_REPLACED} THEN ARRAY[]::text[]
                               ELSE known.sent_fields END,
            refused_hash = CASE WHEN known.status NOT IN ('forgotten', 'absent')
                                THEN known.refused_hash END,
            alias_of = coalesce(excluded.alias_of, nullif(known.alias_of, known.email_key)),
            contact_id = CASE WHEN known.status = 'moved' AND excluded.status = 'archived'
                              THEN known.contact_id
                              ELSE coalesce(excluded.contact_id, known.contact_id) END,
            profile_hash = coalesce(excluded.profile_hash, known.profile_hash),
            seen_tags = coalesce(excluded.seen_tags, known.seen_tags),
            open_rate = coalesce(excluded.open_rate, known.open_rate),
            click_rate = coalesce(excluded.click_rate, known.click_rate),
            member_rating = coalesce(excluded.member_rating, known.member_rating),
            web_id = coalesce(excluded.web_id, known.web_id),
            last_changed = excluded.last_changed, seen_at = excluded.seen_at
        RETURNING email_key, status, alias_of, complained, xmax = 0 AS is_new,
                  pushed_hash IS NULL AS unwritten
    ), waiting AS (
        UPDATE ml_connector.customers c SET dirty = true FROM written w
        WHERE c.sync = :sync AND c.email_key IN (w.email_key, w.alias_of)
          AND (w.is_new OR w.unwritten OR c.decision = 'skipped' OR w.status = 'archived')
    ), left_behind AS (
        UPDATE ml_connector.contacts o
        SET previous_status = w.status, complained = o.complained OR w.complained FROM written w
        WHERE o.sync = :sync AND o.email_key = w.alias_of AND o.status = 'moved'
    )
    SELECT count(*) FROM written
""")  # noqa: S608 -- a constant
_CARRY = text("""
    UPDATE ml_connector.contacts n
    SET engagement = o.engagement, last_engaged_at = o.last_engaged_at,
        last_clicked_at = o.last_clicked_at, last_mailed_at = o.last_mailed_at, mailed = o.mailed,
        last_soft_bounce_at = o.last_soft_bounce_at, status_since = o.status_since
    FROM judged_members j JOIN ml_connector.contacts o
      ON o.sync = :sync AND o.email_key = j.former_key
    WHERE n.sync = :sync AND n.email_key = j.email_key
""")
_TRANSITIONS = text("""
    SELECT email_key, 'address_changed' AS kind, NULL AS before, NULL AS after, happened_at
    FROM judged_members WHERE former_key IS NOT NULL
    UNION ALL
    SELECT email_key, CASE WHEN status = 'cleaned' AND complained THEN 'complained' ELSE status END,
           was, status, happened_at FROM judged_members
    WHERE was <> status AND (NOT is_new OR former_key IS NOT NULL)
      AND NOT (status = 'archived' AND (archiving OR was = 'moved'))
      AND NOT (was IN ('archived', 'forgotten', 'absent', 'moved') AND writing)
    UNION ALL
    SELECT email_key, 'complained', was, status, happened_at FROM judged_members
    WHERE was = status AND status = 'cleaned' AND complained AND NOT complained_before
    UNION ALL
    SELECT email_key, status, NULL, status, happened_at FROM judged_members
    WHERE is_new AND former_key IS NULL AND :arrivals AND NOT writing
      AND status IN ('subscribed', 'pending', 'transactional')
    UNION ALL
    SELECT email_key, 'profile_changed', NULL, NULL, happened_at FROM judged_members
    WHERE profile_was <> profile_hash AND NOT writing AND status <> 'archived'
    ORDER BY happened_at, kind
""")
_DIFFERING = text("""
    SELECT email_key FROM judged_members
    WHERE (status <> 'archived' OR NOT is_new) AND profile_hash IS NOT NULL
      AND (is_new OR former_key IS NOT NULL OR profile_was IS DISTINCT FROM profile_hash)
""")
_DEPARTED = text("""
    SELECT email_key FROM judged_members WHERE status = 'forgotten'
    UNION SELECT former_key FROM judged_members WHERE former_key IS NOT NULL
""")


def opt_out_of_archived(
    connection: Connection,
    *,
    sync: str,
    email_key: bytes,
    at: datetime | None,
    archived_at: datetime | None,
) -> None:
    """Record an opt-out that a webhook reports of a contact which we archived in the same moment.

    It was made between the read and the archive, so it shows in no status: the contact must not
    come back with more, and the opt-out travels like any other (A42). An event from long before the
    archive says nothing new. ``at`` and ``archived_at`` are by Mailchimp's clock; ours counts too,
    because a later change of the archived member moves ``archived_at``.
    """
    values = {"sync": sync, "key": email_key, "at": at, "archived_at": archived_at}
    lowered = connection.execute(
        text("""UPDATE ml_connector.contacts SET previous_status = 'unsubscribed'
                WHERE sync = :sync AND email_key = :key
                  AND status = 'archived' AND archived_by = 'us'
                  AND previous_status IN ('subscribed', 'pending', 'transactional')
                  AND CAST(:at AS timestamptz)
                      >= least(status_since, CAST(:archived_at AS timestamptz))
                         - interval '10 minutes'"""),
        values,
    )
    if lowered.rowcount:
        connection.execute(
            text("""UPDATE ml_connector.customers c
                    SET opted_out = true, dirty = true,
                        opted_out_at = greatest(c.opted_out_at, CAST(:at AS timestamptz))
                    FROM ml_connector.former_contacts f
                    WHERE f.sync = :sync AND f.email_key = :key AND c.sync = :sync
                      AND c.customer_id = f.customer_id AND c.email_key IS DISTINCT FROM :key
                      AND NOT EXISTS (SELECT 1 FROM ml_connector.customers o
                                      WHERE o.sync = :sync AND o.email_key = :key
                                        AND o.active AND NOT o.gone)"""),
            values,
        )


class Upserted(NamedTuple):
    """What an upsert found: the members' transitions, and two sets of addresses.

    ``differing`` show other merge fields than were known. ``departed`` were deleted or left.
    """

    transitions: list[Transition]
    differing: set[bytes]
    departed: set[bytes]


def upsert_members(
    connection: Connection,
    members: Iterable[KeyedMember],
    *,
    sync: str,
    now: datetime,
    arrivals: bool,
    asked: datetime | None = None,
) -> Upserted:
    """Upsert members as read; return what changed about them since the last read.

    If a contact was read or written after ``asked`` by the database's clock, only later changes
    count. The next read catches earlier ones, because it begins before this one ends.

    A contact that we did not archive was archived by a marketer. If our archive was in flight when
    its worker died, we archived it. A contact that returns without a write of ours loses
    ``archived_by``, its owner and its refusal. So we do not archive it again. A member that changed
    its address leaves a ``moved`` contact behind; the new contact becomes its alias. Customers are
    decided again if the contact at their address appeared, was archived, or did anything while they
    were skipped.

    On the first read of an audience, no member counts as having done anything, whatever its status
    (B10b). On later reads, with ``arrivals``, a new member has just subscribed.
    """
    lock_sync(connection, sync=sync)
    connection.execute(text("DROP TABLE IF EXISTS judged_members"))
    loaded = load_temp_table(
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
                m.seen_tags,
                m.complained,
                *m.stats,
                m.web_id,
            )
            for m in members
        ),
    )
    if connection.execute(_LINK, {"sync": sync, "asked": asked}).rowcount == loaded:
        return Upserted([], set(), set())
    connection.execute(_NAME_FORMER, {"sync": sync})
    connection.execute(_JUDGE, {"sync": sync, "now": now, "asked": asked})
    connection.execute(_TRAVEL, {"sync": sync})
    connection.execute(_LEAVE, {"sync": sync})
    connection.execute(_MERGE, {"sync": sync})
    connection.execute(_CARRY, {"sync": sync})
    connection.execute(_RATE, {"sync": sync})
    connection.execute(_MOVERS, {"sync": sync})
    connection.execute(_OPT_IN, {"sync": sync})
    found = connection.execute(_TRANSITIONS, {"arrivals": arrivals}).all()
    return Upserted(
        [Transition(*row) for row in found],
        set(map(bytes, connection.execute(_DIFFERING).scalars())),
        set(map(bytes, connection.execute(_DEPARTED).scalars())),
    )
