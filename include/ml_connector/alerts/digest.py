"""Weekly digest: the figures of a week beside those of the week before, and whom to call.

Counts only. Names are read if the settings allow them in the channels of alerts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
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

PAGES = {
    "new": "audit?action=create",
    "lost": "audit?action=archive",
    "bounced": "customers?bounced_since={monday}",
    "opted_out": "customers?unsubscribed_since={monday}",
    "field_problems": "customers?unfit=any",
    "to_call": "customers?status=cleaned",
    "invalid_email": "customers?reason=invalid_email",
}
"""The console's list behind each figure."""

_CURSOR = "digest"

# What happened in a week. Changes are ours, events are those that people and marketers caused.
_HAPPENED = text("""
    WITH ours AS (
        SELECT c.kind, c.changes FROM ml_connector.plans p
        JOIN ml_connector.change_counts c ON c.plan_id = p.id AND c.state = 'applied'
        WHERE p.sync = :sync AND p.created_at >= :since AND p.created_at < :until
    ), theirs AS (
        SELECT kind, email_key FROM ml_connector.member_events
        WHERE sync = :sync AND seen_at >= :since AND seen_at < :until
    )
    SELECT (SELECT coalesce(sum(changes), 0) FROM ours WHERE kind IN ('create', 'restore'))
           + (SELECT count(*) FROM theirs WHERE kind = 'subscribed') AS new,
           (SELECT coalesce(sum(changes), 0) FROM ours WHERE kind = 'archive')
           + (SELECT count(*) FROM theirs WHERE kind IN ('archived', 'forgotten')) AS lost,
           (SELECT count(DISTINCT email_key) FROM theirs
            WHERE kind IN ('cleaned', 'bounced')) AS bounced,
           (SELECT count(DISTINCT email_key) FROM theirs
            WHERE kind IN ('unsubscribed', 'complained')) AS opted_out
""")

_UNREACHABLE = """
    FROM ml_connector.customers c
    JOIN ml_connector.contacts k ON k.sync = c.sync AND k.email_key = c.email_key
    WHERE c.sync = :sync AND c.active AND NOT c.gone AND NOT c.is_project
      AND k.status = 'cleaned'
"""

_STANDS = text(f"""
    SELECT (SELECT count(DISTINCT u.customer_id) FROM ml_connector.unfit_values u
            JOIN ml_connector.customers c USING (sync, customer_id)
            WHERE u.sync = :sync AND c.active AND NOT c.gone
              AND c.email_key IS NOT NULL) AS field_problems,
           (SELECT count(*) {_UNREACHABLE}) AS to_call,
           (SELECT count(*) FROM ml_connector.customers c
            WHERE c.sync = :sync AND c.active AND NOT c.gone
              AND c.reason = 'invalid_email') AS invalid_email
""")  # noqa: S608 -- constants

_BY_EVENT = text("""
    SELECT DISTINCT ON (c.customer_no, c.customer_id) c.customer_id, c.payload
    FROM ml_connector.member_events e
    JOIN ml_connector.customers c ON c.sync = e.sync AND c.email_key = e.email_key
    WHERE e.sync = :sync AND e.seen_at >= :since AND e.seen_at < :until AND e.kind = ANY(:kinds)
      AND c.active AND NOT c.gone ORDER BY c.customer_no, c.customer_id LIMIT :limit
""")
_TO_CALL = text(
    f"SELECT c.customer_id, c.payload {_UNREACHABLE} ORDER BY c.customer_no LIMIT :limit"
)
_EVENTS = {"bounced": ["cleaned", "bounced"], "opted_out": ["unsubscribed", "complained"]}


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
        page = PAGES[figure.name].format(monday=self.monday.isoformat())
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
    happened, earlier = (
        connection.execute(_HAPPENED, each).one()._mapping  # noqa: SLF001 -- public
        for each in (week, before)
    )
    stands = connection.execute(_STANDS, week).one()._mapping  # noqa: SLF001 -- public
    stood = _stood(connection, sync.name, monday, {name: int(n) for name, n in stands.items()})
    now, last = {**happened, **stands}, {**earlier, **stood}
    names = _names(connection, week, vault) if vault else {}
    figures = [
        Figure(
            name=name,
            now=int(now[name]),
            before=None if last.get(name) is None else int(last[name]),
            names=names.get(name, ()),
        )
        for name in LABELS
    ]
    return SyncDigest(sync=sync.name, monday=monday, figures=figures, link=link)


def _stood(
    connection: Connection, sync: str, monday: date, stands: Mapping[str, int]
) -> Mapping[str, int]:
    """Remember how figures stand that count no events; return how they stood a week ago."""
    kept = cursors.get(connection, sync=sync, name=_CURSOR)
    weeks = {week: each for week, each in kept.items() if week >= (monday - WEEK).isoformat()}
    weeks.setdefault(monday.isoformat(), dict(stands))
    cursors.put(connection, sync=sync, name=_CURSOR, value=weeks)
    found: Mapping[str, int] = weeks.get((monday - WEEK).isoformat(), {})
    return found


def _names(
    connection: Connection, week: Mapping[str, object], vault: Vault
) -> dict[str, list[str]]:
    asked = {name: (_BY_EVENT, {"kinds": kinds}) for name, kinds in _EVENTS.items()}
    found = {}
    for name, (query, more) in {**asked, "to_call": (_TO_CALL, {})}.items():
        rows = connection.execute(query, {**week, **more, "limit": MAX_NAMES}).all()
        found[name] = [
            customers.decrypted(
                row.payload, sync=str(week["sync"]), customer_id=row.customer_id, vault=vault
            ).display_name
            for row in rows
        ]
    return found
