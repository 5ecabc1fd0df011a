"""The audience into the store: who is there, and with what status.

An audience that already has members is read before anything is decided, so that what is there is
adopted rather than assumed away. Afterwards a run reads what changed since the last one: two calls
on a quiet day, one for the archived.
"""

from datetime import datetime, timedelta

import structlog

from ml_connector.addresses import normalised
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.scope import Scope
from ml_connector.store import changes, contacts, cursors

OVERLAP = timedelta(minutes=10)
"""Read again each time; ``last_changed`` has 1 s resolution."""

_CURSOR = "members"
log = structlog.get_logger(__name__)


def fetch_members(scope: Scope, client: MailchimpClient, *, full_sync: bool = False) -> int:
    """Merge the audience's statuses into what we know; return how many members were read.

    If the settings name another audience than the last time, what was known of the former one is
    dropped; nothing is written to it (A36).
    """
    started = scope.clock()
    with scope.database.begin() as connection:
        cursor = cursors.get(connection, sync=scope.name, name=_CURSOR)
        swapped = cursor.get("audience") not in (None, scope.sync.audience_id)
        if swapped:
            changes.take_over(connection, sync=scope.name)
            contacts.forget_audience(connection, sync=scope.name)
            cursors.put(connection, sync=scope.name, name=_CURSOR, value={})
            cursor = {}
    since = None
    if cursor.get("audience") and not full_sync:
        since = datetime.fromisoformat(cursor["read_at"]) - OVERLAP
    read = sum(_merge(scope, client, since, archived=archived) for archived in (False, True))
    with scope.database.begin() as connection:
        value = {"audience": scope.sync.audience_id, "read_at": started.isoformat()}
        cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)
    return read


def _merge(scope: Scope, client: MailchimpClient, since: datetime | None, *, archived: bool) -> int:
    read = 0
    for page in client.iter_members(since=since, archived=archived):
        observed = [
            contacts.keyed(
                member,
                address=normalised(member.email_address) or member.email_address.lower(),
                vault=scope.vault,
            )
            for member in page
        ]
        with scope.database.begin() as connection:
            contacts.observe(connection, observed, sync=scope.name, now=scope.clock())
        read += len(page)
        log.info("members_read", sync=scope.name, archived=archived, rows=read)
    return read
