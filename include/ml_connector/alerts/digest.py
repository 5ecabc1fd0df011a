"""Weekly digest: the figures of a week next to those of the week before, and whom to call.

Counts only. Names are read if the settings allow them in the channels of alerts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Protocol
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from ml_connector.settings import Sync
from ml_connector.store import cursors, customers
from ml_connector.vault import Vault

WEEK = timedelta(days=7)
SENT_AT_HOUR = 8
"""A digest is sent on Monday from this hour on, in the sync's time zone."""

MAX_NAMES = 10
"""Names per figure: a digest is read on a phone."""

LABELS = {
    "new": "New contacts",
    "lost": "Contacts lost",
    "bounced": "Bounced",
    "opted_out": "Opted out",
    "field_problems": "Customers with field problems",
    "to_call": "To call: mail does not reach them",
    "invalid_email": "To correct: invalid address in QuickBooks",
}
"""The figures in their order."""

STANDING: Mapping[str, Mapping[str, str]] = {
    "field_problems": {"unfit": "any", "quickbooks": "active"},
    "to_call": {"status": "cleaned", "quickbooks": "active"},
    "invalid_email": {"reason": "invalid_email", "quickbooks": "active"},
}
"""Figures as of now: filters of the console's customer list, which counts them."""

_AUDIT = "audit?action={action}&outcome=applied&since={{monday}}&until={{sunday}}"
PAGES = {
    "new": _AUDIT.format(action="create"),
    "lost": _AUDIT.format(action="archive"),
    "bounced": "customers?bounced_since={monday}&quickbooks=active",
    "opted_out": "customers?unsubscribed_since={monday}&quickbooks=active",
    **{name: f"customers?{urlencode(wanted)}" for name, wanted in STANDING.items()},
}
"""The console's list behind each figure."""

_CURSOR = "digest"

# What happened in a week. Changes are ours: a plan may be approved weeks after it was made, so the
# time of each change counts. Events are those that people and marketers caused. A contact that was
# pending was counted when it came.
_CHANGED = """
            FROM {table} WHERE plan_id = p.id AND state = 'applied'
             AND settled_at >= :since AND settled_at < :until"""
_HAPPENED = text(f"""
    WITH ours AS (
        SELECT c.kind, c.changes FROM ml_connector.plans p CROSS JOIN LATERAL (
            SELECT kind, 1 AS changes {_CHANGED.format(table="ml_connector.changes")}
            UNION ALL
            SELECT kind, size {_CHANGED.format(table="ml_connector.change_batches")}) c
        WHERE p.sync = :sync AND p.created_at < :until
          AND NOT (p.state IN ('finished', 'rejected') AND p.finished_at < :since)
    ), theirs AS (
        SELECT kind, before FROM ml_connector.member_events
        WHERE sync = :sync AND seen_at >= :since AND seen_at < :until
    )
    SELECT (SELECT coalesce(sum(changes), 0) FROM ours WHERE kind IN ('create', 'restore'))
           + (SELECT count(*) FROM theirs WHERE kind IN ('subscribed', 'pending')
              AND coalesce(before, 'absent') IN ('absent', 'archived', 'forgotten')) AS new,
           (SELECT coalesce(sum(changes), 0) FROM ours WHERE kind = 'archive')
           + (SELECT count(*) FROM theirs WHERE kind IN ('archived', 'forgotten')) AS lost
""")  # noqa: S608 -- constants

# Whose contact it is: as the customer list decides it.
_BY_EVENT = """
    FROM ml_connector.member_events e
    JOIN ml_connector.contacts k ON k.sync = e.sync AND k.email_key = e.email_key
    JOIN ml_connector.customers c ON c.sync = k.sync AND c.email_key = k.email_key
     AND (c.decision = 'contact' OR k.owner IS NULL OR k.owner = c.customer_id)
    WHERE e.sync = :sync AND e.seen_at >= :since AND e.seen_at < :until AND e.kind = ANY(:kinds)
      AND c.active AND NOT c.gone
"""
_COUNT = text(f"SELECT count(DISTINCT c.customer_id) {_BY_EVENT}")
_SOME = text(f"""
    SELECT DISTINCT ON (c.customer_no, c.customer_id) c.customer_id, c.payload
    {_BY_EVENT} ORDER BY c.customer_no, c.customer_id LIMIT :limit
""")
_EVENTS = {"bounced": ["cleaned", "bounced"], "opted_out": ["unsubscribed", "complained"]}


class CustomerList(Protocol):
    """The customer list of a sync, by filter."""

    def count(self, wanted: Mapping[str, str]) -> int:
        """Return how many customers a filter has."""

    def names(self, wanted: Mapping[str, str], *, limit: int) -> list[str]:
        """Return the names of some of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure; ``before`` is last week's, None if it is not known. ``names``: some of them."""

    name: str
    now: int
    before: int | None
    names: Sequence[str] = ()

    @property
    def label(self) -> str:
        """Return what the figure counts."""
        return LABELS[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncDigest:
    """The figures of one sync; ``link`` is its console, empty if that has no address."""

    sync: str
    monday: date
    figures: Sequence[Figure]
    link: str = ""

    def link_of(self, figure: Figure) -> str:
        """Return the address of a figure's list; empty if the console has none."""
        sunday = self.monday + timedelta(days=6)
        page = PAGES[figure.name].format(monday=self.monday.isoformat(), sunday=sunday.isoformat())
        return f"{self.link}/{page}" if self.link else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """The digest of the week that began on ``monday``."""

    monday: date
    syncs: Sequence[SyncDigest] = field(default_factory=list)


def monday_of(now: datetime, zone: ZoneInfo) -> date:
    """Return the first day of the last week of which a digest may be sent at ``now``."""
    local = now.astimezone(zone) - timedelta(hours=SENT_AT_HOUR)
    return local.date() - timedelta(days=local.weekday()) - WEEK


def sync_digest(
    connection: Connection,
    sync: Sync,
    *,
    monday: date,
    listed: CustomerList,
    vault: Vault | None,
    link: str = "",
) -> SyncDigest:
    """Return the figures of the week from ``monday`` on. ``vault``: to read names, if allowed."""
    zone = ZoneInfo(sync.timezone)
    since, until = (
        datetime.combine(day, datetime.min.time(), tzinfo=zone) for day in (monday, monday + WEEK)
    )
    week = {"sync": sync.name, "since": since, "until": until}
    before = {**week, "since": since - WEEK, "until": since}
    happened, earlier = (_happened(connection, each) for each in (week, before))
    stands = {name: listed.count(wanted) for name, wanted in STANDING.items()}
    stood = _stood(connection, sync.name, monday, stands)
    now, last = {**happened, **stands}, {**earlier, **stood}
    names = _names(connection, week, vault) if vault else {}
    if vault:
        names["to_call"] = listed.names(STANDING["to_call"], limit=MAX_NAMES)
    figures = [
        Figure(
            name=name,
            now=now[name],
            before=last.get(name),
            names=names.get(name, ()),
        )
        for name in LABELS
    ]
    return SyncDigest(sync=sync.name, monday=monday, figures=figures, link=link)


def _happened(connection: Connection, week: Mapping[str, object]) -> dict[str, int]:
    row = connection.execute(_HAPPENED, week).one()
    people = {
        name: int(connection.execute(_COUNT, {**week, "kinds": kinds}).scalar_one())
        for name, kinds in _EVENTS.items()
    }
    return {"new": int(row.new), "lost": int(row.lost), **people}


def _stood(
    connection: Connection, sync: str, monday: date, stands: Mapping[str, int]
) -> Mapping[str, int]:
    """Store the current totals; return those of a week ago."""
    kept = cursors.get(connection, sync=sync, name=_CURSOR)
    weeks = {week: each for week, each in kept.items() if week >= (monday - WEEK).isoformat()}
    weeks.setdefault(monday.isoformat(), dict(stands))
    cursors.put(connection, sync=sync, name=_CURSOR, value=weeks)
    found: Mapping[str, int] = weeks.get((monday - WEEK).isoformat(), {})
    return found


def _names(
    connection: Connection, week: Mapping[str, object], vault: Vault
) -> dict[str, list[str]]:
    found = {}
    for name, kinds in _EVENTS.items():
        rows = connection.execute(_SOME, {**week, "kinds": kinds, "limit": MAX_NAMES}).all()
        found[name] = [
            customers.decrypted(
                row.payload, sync=str(week["sync"]), customer_id=row.customer_id, vault=vault
            ).display_name
            for row in rows
        ]
    return found
