"""Read engagement from recent campaign reports: readers and bounces.

Opens, clicks and soft bounces change neither a member's status nor ``last_changed``. They appear
only in campaign reports. Each campaign is read from the end of its last reading.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import structlog

from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import EmailActivity
from ml_connector.rules.addresses import normalised
from ml_connector.scope import Scope
from ml_connector.store import cursors, engagement
from ml_connector.store.engagement import Reported

WINDOW = timedelta(days=30)
"""Campaigns sent before this window are not read. A contact without an open in it is ``quiet``."""

EVERY = timedelta(hours=12)
"""Reports are read at most this often, however often a sync runs: opens are not urgent."""

OVERLAP = timedelta(minutes=10)
_CURSOR = "engagement"
_CAMPAIGN = "campaign/"
log = structlog.get_logger(__name__)


def fetch_engagement(scope: Scope, client: MailchimpClient, *, full_sync: bool = False) -> int:
    """Read recent campaign reports; return the number of contacts whose engagement changed."""
    now = scope.clock()
    with scope.database.begin() as connection:
        cursor = cursors.get(connection, sync=scope.name, name=_CURSOR)
    read_at = cursor.get("read_at") if cursor.get("audience") == scope.sync.audience_id else None
    if full_sync or read_at is None or now - datetime.fromisoformat(read_at) >= EVERY:
        campaigns = client.campaigns(since=now - WINDOW)
        for campaign in campaigns:
            _read(scope, client, campaign)
        with scope.database.begin() as connection:
            value = {"audience": scope.sync.audience_id, "read_at": now.isoformat()}
            cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)
            kept = [_CAMPAIGN + campaign for campaign in campaigns]
            cursors.prune(connection, sync=scope.name, prefix=_CAMPAIGN, keep=kept)
    with scope.database.begin() as connection:
        return engagement.classify(connection, sync=scope.name, now=now, window=WINDOW)


def _read(scope: Scope, client: MailchimpClient, campaign: str) -> None:
    """Merge one campaign's report from its cursor on; advance the cursor once all is stored."""
    started = scope.clock()
    name = _CAMPAIGN + campaign
    with scope.database.begin() as connection:
        cursor = cursors.get(connection, sync=scope.name, name=name)
    read_at = cursor.get("read_at")
    since = datetime.fromisoformat(read_at) - OVERLAP if read_at else None
    people = 0
    for page in client.iter_email_activity(campaign, since=since):
        with scope.database.begin() as connection:
            engagement.merge(connection, _reported(scope, page), sync=scope.name)
        people += len(page)
        log.info("campaign_read", sync=scope.name, campaign=campaign, people=people)
    with scope.database.begin() as connection:
        value = {"read_at": started.isoformat()}
        cursors.put(connection, sync=scope.name, name=name, value=value)


def _reported(scope: Scope, page: Sequence[EmailActivity]) -> Iterator[Reported]:
    for row in page:
        address = normalised(row.email_address) or row.email_address.lower()
        yield Reported(
            scope.vault.email_key(address), row.engaged_at, row.soft_bounce_at, row.hard_bounce_at
        )
