"""Upsert audience members; each difference from the stored row becomes a member event.

The first run reads an existing audience before it decides anything, so existing members are
adopted. Later runs read what changed since the last one. A quiet day costs two calls, one of them
for archived members. Each member event is recorded once, whatever its source and however often it
is seen.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from ml_connector.batching import prefetch
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import Member, MemberEvent, Status
from ml_connector.rules.addresses import normal_form
from ml_connector.scope import Scope
from ml_connector.store import (
    activity_queue,
    changes,
    contacts,
    cursors,
    member_events,
    member_snapshots,
)
from ml_connector.store.database import lock_sync
from ml_connector.store.member_snapshots import KeyedMember, Transition

OVERLAP = timedelta(minutes=10)
"""Each read repeats this much of the previous one; ``last_changed`` has 1 s resolution."""

_CURSOR = "members"
log = structlog.get_logger(__name__)


def fetch_members(
    scope: Scope,
    client: MailchimpClient,
    *,
    full_sync: bool = False,
    source: str = "poll",
    on_page: Callable[[Sequence[Member]], None] | None = None,
) -> int:
    """Merge the audience's members into the store; return the number of members read.

    ``on_page`` receives each page after it is stored.

    If the settings name another audience than last time, the run drops the stored state of the
    former audience. It writes nothing to that audience (A36).
    """
    started = scope.clock()
    with scope.database.begin() as connection:
        cursor = cursors.get(connection, sync=scope.name, name=_CURSOR)
        swapped = cursor.get("audience") not in (None, scope.sync.audience_id)
        if swapped:
            lock_sync(connection, sync=scope.name, at="deciding")
            changes.supersede(connection, sync=scope.name)
            contacts.forget_audience(connection, sync=scope.name)
            activity_queue.clear_shown(connection, sync=scope.name)
            cursors.put(connection, sync=scope.name, name=_CURSOR, value={})
            cursor = {}
    since = None
    if cursor.get("read_at") and not full_sync:
        since = datetime.fromisoformat(cursor["read_at"]) - OVERLAP
    read = sum(
        _merge(
            scope, client, since, archived=archived, source=source, asked=started, on_page=on_page
        )
        for archived in (False, True)
    )
    with scope.database.begin() as connection:
        value = {"audience": scope.sync.audience_id, "read_at": started.isoformat()}
        cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)
    return read


def _merge(
    scope: Scope,
    client: MailchimpClient,
    since: datetime | None,
    *,
    archived: bool,
    source: str,
    asked: datetime,
    on_page: Callable[[Sequence[Member]], None] | None,
) -> int:
    arrivals = since is not None
    read = events = 0
    for page in prefetch(client.iter_members(since=since, archived=archived)):
        with scope.database.begin() as connection:
            events += record_members(
                scope, connection, page, source=source, arrivals=arrivals, asked=asked
            )
        if on_page is not None:
            on_page(page)
        read += len(page)
        log.info("members_read", sync=scope.name, archived=archived, rows=read, events=events)
    return read


def record_members(
    scope: Scope,
    connection: Connection,
    members: Sequence[Member],
    *,
    source: str,
    arrivals: bool = True,
    moved_from: Mapping[str, str] | None = None,
    asked: datetime | None = None,
) -> int:
    """Store the current state of members and record their events; return the number of new events.

    ``source``: ``poll`` or ``webhook``. ``arrivals``: a member seen for the first time has just
    joined. ``moved_from``: the former address by present address, both normalised, if a webhook
    reported an address change. ``asked``: the start of the read, if it took long enough for newer
    data to reach the store.

    Nothing is stored for forgotten people, even if they subscribe again themselves.
    """
    lock_sync(connection, sync=scope.name)  # no erasure can commit from here on
    addresses = _without_forgotten(
        scope, connection, {normal_form(member.email_address): member for member in members}
    )
    keyed = [
        member_snapshots.keyed(
            member,
            address=address,
            vault=scope.vault,
            moved_from=_key(scope, (moved_from or {}).get(address)),
        )
        for address, member in addresses.items()
    ]
    seen = member_snapshots.upsert_members(
        connection, keyed, sync=scope.name, now=scope.clock(), arrivals=arrivals, asked=asked
    )
    if not seen:
        return 0
    by_key = dict(zip((each.email_key for each in keyed), addresses.values(), strict=True))
    return member_events.record(
        connection,
        _events(scope, connection, seen, by_key),
        sync=scope.name,
        source=source,
        vault=scope.vault,
    )


def record_departed(
    scope: Scope, connection: Connection, addresses: Sequence[str], *, source: str
) -> int:
    """Store that Mailchimp no longer has these addresses; return the number of new events.

    Only addresses that were known to be in the audience count: they were permanently deleted.
    """
    keys = [scope.vault.email_key(normal_form(address)) for address in addresses]
    known = contacts.present(connection, sync=scope.name, keys=keys)
    gone = [KeyedMember(email_key=key, status=Status.FORGOTTEN, last_changed=None) for key in known]
    seen = member_snapshots.upsert_members(
        connection, gone, sync=scope.name, now=scope.clock(), arrivals=False
    )
    events = [
        MemberEvent(
            email_key=bytes(each.email_key),
            kind=each.kind,
            before=each.before,
            after=each.after,
            happened_at=each.happened_at,
        )
        for each in seen
    ]
    return member_events.record(
        connection, events, sync=scope.name, source=source, vault=scope.vault
    )


def _without_forgotten(
    scope: Scope, connection: Connection, addresses: Mapping[str, Member]
) -> dict[str, Member]:
    keys = {address: scope.vault.email_key(address) for address in addresses}
    out = contacts.suppressed(connection, keys=list(keys.values()))
    return {address: member for address, member in addresses.items() if keys[address] not in out}


def _key(scope: Scope, address: str | None) -> bytes | None:
    return scope.vault.email_key(address) if address else None


def _events(
    scope: Scope, connection: Connection, seen: Sequence[Transition], by_key: Mapping[bytes, Member]
) -> list[MemberEvent]:
    changed = [bytes(each.email_key) for each in seen if each.kind == "profile_changed"]
    sent = contacts.sent(connection, sync=scope.name, keys=changed, vault=scope.vault)
    return [
        MemberEvent(
            email_key=key,
            kind=each.kind,
            before=each.before,
            after=each.after,
            happened_at=each.happened_at,
            detail=_detail(each.kind, by_key[key], sent.get(key, {})),
        )
        for each in seen
        for key in [bytes(each.email_key)]
    ]


def _detail(kind: str, member: Member, sent: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the details of an event that a marketer wants to see beyond its kind."""
    if kind == "address_changed":
        return {"email": member.email_address}
    if kind == Status.UNSUBSCRIBED and member.unsubscribe_reason:
        return {"reason": member.unsubscribe_reason}
    if kind == "profile_changed":
        shown = member.merge_fields
        return {"fields": sorted(tag for tag in sent if str(sent[tag]) != str(shown.get(tag, "")))}
    return None
