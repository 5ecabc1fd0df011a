"""Read engagement from campaign reports: recipients, opens, clicks and bounces.

Opens, clicks and soft bounces change neither a member's status nor ``last_changed``. They appear
only in campaign reports. The first reading of a campaign lists all its recipients. Later ones start
where the last one ended and list those who did something. The mail of an automation or journey
gains recipients as long as it runs. Its report is read if its figures changed, and once a week in
full if it is not too large.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.mailchimp.protocol import EARLIEST
from ml_connector.model import Campaign, EmailActivity
from ml_connector.rules.addresses import normalised
from ml_connector.scope import Scope
from ml_connector.store import cursors, engagement
from ml_connector.store.engagement import Reported

WINDOW = timedelta(days=30)
"""Campaigns sent before this window are not read. A contact without an open in it is ``quiet``."""

READ_IN_FULL = timedelta(days=7)
"""An automation that sent more mails is read in full again after this time."""

MAX_IN_FULL = 20_000
"""An automation that sent more mails is never read in full: 20 calls. Its activity counts."""

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
        # Automations first: ``merge`` needs the campaigns in the order of sending.
        campaigns = [*client.automations(), *client.campaigns(since=now - WINDOW)]
        for campaign in campaigns:
            _read(scope, client, campaign)
        with scope.database.begin() as connection:
            value = {"audience": scope.sync.audience_id, "read_at": now.isoformat()}
            cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)
            kept = [_CAMPAIGN + campaign.id for campaign in campaigns]
            cursors.prune(connection, sync=scope.name, prefix=_CAMPAIGN, keep=kept)
    with scope.database.begin() as connection:
        return engagement.classify(connection, sync=scope.name, now=now, window=WINDOW)


def _read(scope: Scope, client: MailchimpClient, campaign: Campaign) -> None:
    """Merge one campaign's report from its cursor on; advance the cursor once all is stored."""
    started = scope.clock()
    name = _CAMPAIGN + campaign.id
    with scope.database.begin() as connection:
        cursor = cursors.get(connection, sync=scope.name, name=name)
    figures = list(campaign.figures)
    if figures and cursor.get("figures") == figures:
        return
    in_full = _in_full(campaign, cursor, now=started)
    read_at = cursor.get("read_at")
    last = datetime.fromisoformat(read_at) - OVERLAP if read_at else started - WINDOW
    since = None if in_full else last
    people = 0
    for page in client.iter_email_activity(campaign.id, since=since):
        with scope.database.begin() as connection:
            engagement.merge(connection, _reported(scope, campaign, page), sync=scope.name)
        people += len(page)
        log.info("campaign_read", sync=scope.name, campaign=campaign.id, people=people)
    at = started.isoformat()
    with scope.database.begin() as connection:
        value = {**cursor, "read_at": at, **({"read_in_full_at": at} if in_full else {})}
        value |= {"figures": figures} if figures else {}
        cursors.put(connection, sync=scope.name, name=name, value=value)


def _in_full(campaign: Campaign, cursor: Mapping[str, Any], *, now: datetime) -> bool:
    """Return whether to list all recipients of a campaign, not only those who did something."""
    if not campaign.is_automation:
        return "read_in_full_at" not in cursor
    read = cursor.get("read_in_full_at")
    late = read is None or now - datetime.fromisoformat(read) >= READ_IN_FULL
    return late and campaign.figures[0] <= MAX_IN_FULL


def _reported(
    scope: Scope, campaign: Campaign, page: Sequence[EmailActivity]
) -> Iterator[Reported]:
    mailed_at = campaign.sent_at or EARLIEST
    for row in page:
        address = normalised(row.email_address) or row.email_address.lower()
        yield Reported(
            scope.vault.email_key(address),
            mailed_at,
            row.engaged_at,
            row.clicked_at,
            row.soft_bounce_at,
            row.hard_bounce_at,
        )
