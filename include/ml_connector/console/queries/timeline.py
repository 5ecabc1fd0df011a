"""Timeline of one customer and its contact, newest first. Read-only.

Tables provide it: QuickBooks notifications (``webhook_inbox``), decisions (``changes``, and the
batches of them), calls
and their responses (``audit``), and member events (``member_events``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from ml_connector.console.queries.audit import decrypt_sides
from ml_connector.store import member_events
from ml_connector.vault import Vault

PAGE = 40
"""Entries on a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineRow:
    """One timeline row. ``kind``: ``told``, ``decided``, ``called`` or ``did``.

    ``row`` has the columns of its table. ``before`` and ``after`` are decrypted payloads.
    """

    at: datetime
    kind: str
    row: dict[str, Any]
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A page of the timeline. ``older``: the next page begins before this time, None at the end."""

    entries: list[TimelineRow]
    older: datetime | None


_TOLD = """SELECT id, kind, entity_id, deleted_id, state, reason, attempts, occurred_at, settled_at,
                  received_at AS at
           FROM ml_connector.webhook_inbox
           WHERE system = 'quickbooks' AND (entity_id = :id OR deleted_id = :id)
             AND (sync = :sync OR sync IS NULL AND source = nullif(:realm, ''))
             AND (CAST(:before AS timestamptz) IS NULL OR received_at < :before)
           ORDER BY received_at DESC, id DESC LIMIT :limit"""
_DECIDED = """SELECT * FROM (
                (SELECT {columns} WHERE c.sync = :sync AND c.customer_id = :id {before}
                 ORDER BY c.decided_at DESC LIMIT :limit)
                UNION
                (SELECT {columns} WHERE c.sync = :sync AND c.email_key = ANY(:keys) {before}
                 ORDER BY c.decided_at DESC LIMIT :limit)
                UNION
                (SELECT {batched} AND (u.customer_id = :id OR u.email_key = ANY(:keys)) {before}
                 ORDER BY c.decided_at DESC LIMIT :limit)) both_ways
              ORDER BY at DESC, id DESC LIMIT :limit"""
_CHANGE = """c.id, c.plan_id, c.customer_id, c.kind, c.reason, c.status, c.state, c.attempts, c.error,
             c.settled_at, c.decided_at AS at, p.kind AS plan_kind
             FROM ml_connector.changes c JOIN ml_connector.plans p ON p.id = c.plan_id"""
_BATCHED = """u.id, c.plan_id, u.customer_id, c.kind, c.reason, c.status, c.state, c.attempts, NULL,
              c.settled_at, c.decided_at AS at, p.kind
              FROM ml_connector.change_batches c JOIN ml_connector.plans p ON p.id = c.plan_id,
                   unnest(c.ids, c.email_keys, c.customer_ids) AS u(id, email_key, customer_id)
              WHERE c.sync = :sync
                AND (:id = ANY(c.customer_ids)
                     OR EXISTS (SELECT 1 FROM unnest(CAST(:keys AS bytea[])) k(key)
                                WHERE c.span @> k.key))"""
_CALLED = """SELECT * FROM ml_connector.audit WHERE id IN (
                (SELECT id FROM ml_connector.audit
                 WHERE sync = :sync AND customer_id = :id {before} ORDER BY at DESC LIMIT :limit)
                UNION
                (SELECT id FROM ml_connector.audit
                 WHERE sync = :sync AND email_key = ANY(:keys) {before}
                 ORDER BY at DESC LIMIT :limit))
             ORDER BY at DESC, id DESC LIMIT :limit"""
_DID = """SELECT id, email_key, kind, before, after, source, seen_at, written_to_quickbooks_at,
                 payload, happened_at AS at
          FROM ml_connector.member_events
          WHERE sync = :sync AND email_key = ANY(:keys)
            AND (CAST(:before AS timestamptz) IS NULL OR happened_at < :before)
          ORDER BY happened_at DESC, id DESC LIMIT :limit"""


def read_timeline(
    connection: Connection,
    *,
    sync: str,
    realm: str,
    customer_id: str | None,
    keys: Sequence[bytes],
    vault: Vault,
    before: datetime | None = None,
    limit: int = PAGE,
) -> Timeline:
    """Return up to ``limit`` entries of a customer and the addresses ``keys``, before a time.

    ``realm`` is the sync's company. QuickBooks ids are the same small numbers in each company.
    """
    values = {
        "sync": sync,
        "realm": realm,
        "id": customer_id,
        "keys": list(keys),
        "before": before,
        "limit": limit + 1,
    }
    audit_before = "AND (CAST(:before AS timestamptz) IS NULL OR at < :before)"
    change_before = "AND (CAST(:before AS timestamptz) IS NULL OR c.decided_at < :before)"
    queries = {
        "told": _TOLD,
        "decided": _DECIDED.format(columns=_CHANGE, batched=_BATCHED, before=change_before),
        "called": _CALLED.format(before=audit_before),
        "did": _DID,
    }
    entries = [
        happening
        for kind, query in queries.items()
        for happening in _happenings(kind, connection.execute(text(query), values).all())
    ]
    entries.sort(key=lambda each: (each.at, each.kind), reverse=True)
    page = entries[:limit]
    rest = entries[limit:]
    # Keep entries of the same time together: the next page begins before it.
    page += [each for each in rest if page and each.at == page[-1].at]
    more = len(entries) > len(page)
    return Timeline(
        entries=[_opened(each, sync, vault) for each in page],
        older=page[-1].at if more and page else None,
    )


def _happenings(kind: str, rows: Sequence[Row[Any]]) -> Iterator[TimelineRow]:
    for row in rows:
        values = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public accessor
        yield TimelineRow(at=values["at"], kind=kind, row=values)


def _opened(entry: TimelineRow, sync: str, vault: Vault) -> TimelineRow:
    row = entry.row
    if entry.kind == "called":
        before, after = decrypt_sides(row, vault=vault)
        return TimelineRow(at=entry.at, kind=entry.kind, row=row, before=before, after=after)
    if entry.kind == "did" and row["payload"]:
        identity = member_events.identity(sync, bytes(row["email_key"]), row["kind"])
        return TimelineRow(
            at=entry.at, kind=entry.kind, row=row, after=vault.decrypt(row["payload"], identity)
        )
    return entry
