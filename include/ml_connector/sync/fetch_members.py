"""Upsert audience members; each difference from the stored row becomes a member event.

The first run reads an existing audience before it decides anything, so existing members are
adopted. Later runs read what changed since the last one. A quiet day costs two calls, one of them
for archived members. Each member event is recorded once, whatever its source and however often it
is seen.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import structlog
from sqlalchemy import Connection

from ml_connector.batching import prefetch, relaxed_gc
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.mailchimp.protocol import MAX_COUNT
from ml_connector.model import Member, MemberEvent, Page, Status, page_of
from ml_connector.rules.addresses import normal_form
from ml_connector.scope import Scope
from ml_connector.store import (
    activity_queue,
    changes,
    contacts,
    cursors,
    customers,
    member_events,
    member_snapshots,
    observations,
    unreadable,
)
from ml_connector.store.contacts import Handle
from ml_connector.store.database import lock_sync, server_time
from ml_connector.store.member_snapshots import KeyedMember, Transition
from ml_connector.sync import edits, first_run
from ml_connector.sync.clocks import note_skew
from ml_connector.sync.edits import observation_of
from ml_connector.sync.further import member_keys
from ml_connector.sync.unreadable_members import record_unreadable

OVERLAP = timedelta(minutes=10)
"""Each read repeats this much of the previous one; ``last_changed`` has 1 s resolution."""

MAX_SINGLE_LINKS = contacts.SOME_UNLINKED
"""Up to this many new contacts are read one by one."""

MAX_RETRIED = 20
"""Members that could not be read are read again by every run: up to this many, one by one."""

MAX_LOOKED_AT = 40_000
"""Members observed before a shard is written: a shard's changes."""

_CURSOR = "members"
SWAP_CURSOR = "audience_swapped"
log = structlog.get_logger(__name__)


@relaxed_gc()
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
    with scope.database.begin() as connection:
        asked = server_time(connection)
        cursor = cursors.get(connection, sync=scope.name, name=_CURSOR)
        swapped = cursor.get("audience") not in (None, scope.sync.audience_id)
        if swapped:
            lock_sync(connection, sync=scope.name, at="deciding")
            changes.supersede(connection, sync=scope.name)
            contacts.forget_audience(connection, sync=scope.name)
            activity_queue.clear_shown(connection, sync=scope.name)
            cursors.put(connection, sync=scope.name, name=_CURSOR, value={})
            first_run.ask_again(scope, connection)
            swap = {"at": asked.isoformat()}  # no undo of what was written to the former audience
            cursors.put(connection, sync=scope.name, name=SWAP_CURSOR, value=swap)
            cursor = {}
    since, parts = None, set(scope.sync.member_fields)
    # What was not asked for so far is learned of everyone once: an unchanged member is not listed.
    unread = parts.difference(cursor.get("with", ())) | _unread(scope, cursor)
    if cursor.get("read_at") and not full_sync and not unread:
        since = datetime.fromisoformat(cursor["read_at"]) - OVERLAP
    audience = _Audience(scope, client, asked=asked, source=source, on_page=on_page)
    for archived in (False, True):
        audience.read(since, archived=archived)
    _read_again(scope, client, before=asked, all_listed=since is None)
    with scope.database.begin() as connection:
        value = {
            "audience": scope.sync.audience_id,
            "read_at": audience.watermark.isoformat(),
            "asked_at": audience.asked.isoformat(),
            "fields": sorted(scope.sync.fields),
            **({"with": sorted(parts)} if parts else {}),
        }
        cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)
    return audience.members


def _unread(scope: Scope, cursor: Mapping[str, Any]) -> set[str]:
    """Return the merge fields that were mapped since the entire audience was read (A45).

    What they show was there before the sync could send anything. Nothing is stored of it yet.
    """
    return set(scope.sync.fields).difference(cursor.get("fields", ()))


def read_within(scope: Scope, connection: Connection, age: timedelta) -> bool:
    """Return whether the audience was last read no longer ago than ``age``."""
    asked = cursors.get(connection, sync=scope.name, name=_CURSOR).get("asked_at")
    return asked is not None and server_time(connection) - datetime.fromisoformat(asked) <= age


def fetch_archived(scope: Scope, client: MailchimpClient) -> None:
    """Read the members that were archived since the audience was last read: one call as a rule."""
    with scope.database.begin() as connection:
        asked = server_time(connection)
        read_at = cursors.get(connection, sync=scope.name, name=_CURSOR).get("read_at")
    since = datetime.fromisoformat(read_at) - OVERLAP if read_at else None
    audience = _Audience(scope, client, asked=asked, source="poll", on_page=None)
    audience.read(since, archived=True)


def link_members(
    scope: Scope, client: MailchimpClient, *, keys: Collection[bytes] | None = None
) -> int:
    """Read the contacts created just now, so that each has its contact id; return how many (A43).

    A batch response has no contact id. Without one a member with a changed address looks like a
    stranger. ``keys`` reads single contacts; None reads what changed in the audience, which the
    next run then does not read again. Contacts that this does not show have left the address.
    """
    read = 0
    unlinked = _unlinked(scope, keys)
    if unlinked and (keys is None or len(unlinked) > MAX_SINGLE_LINKS):
        read = fetch_members(scope, client)
        unlinked = _unlinked(scope, keys)[:MAX_SINGLE_LINKS]
    if unlinked:
        refresh_members(scope, client, unlinked)
    return read + len(unlinked)


def _unlinked(scope: Scope, keys: Collection[bytes] | None) -> list[Handle]:
    with scope.database.begin() as connection:
        return contacts.unlinked(connection, sync=scope.name, keys=keys, vault=scope.vault)


class _Audience:
    """Reader of the audience's listings: stores each page and counts what was read.

    ``asked``: the start of the read by the database's clock. ``watermark``: the same by Mailchimp's
    clock. A change made later is read next time.
    """

    def __init__(
        self,
        scope: Scope,
        client: MailchimpClient,
        *,
        asked: datetime,
        source: str,
        on_page: Callable[[Sequence[Member]], None] | None,
    ) -> None:
        self._scope, self._client, self._source, self._on_page = scope, client, source, on_page
        self.asked, self._began = asked, scope.clock()
        self._complainants = cache(client.complainants)
        self._skew: timedelta | None = None
        self.members = self.events = 0

    @property
    def watermark(self) -> datetime:
        """Where the next read starts, less the overlap."""
        return self._began + (self._skew or timedelta())

    def read(self, since: datetime | None, *, archived: bool) -> None:
        """Store all members changed about ``since`` or later; either archived ones or the rest."""
        scope = self._scope
        for page in prefetch(self._pages(since, archived=archived), threads=scope.threads):
            complaints = complaints_among(page, self._complainants)
            with scope.database.begin() as connection:
                self.events += record_members(
                    scope,
                    connection,
                    page,
                    source=self._source,
                    arrivals=since is not None,
                    complaints=complaints,
                    asked=self.asked,
                )
                record_unreadable(scope, connection, page)
            if self._on_page is not None:
                self._on_page(page)
            self.members += len(page)
            log.info(
                "members_read",
                sync=scope.name,
                archived=archived,
                rows=self.members,
                events=self.events,
            )

    def _pages(self, since: datetime | None, *, archived: bool) -> Iterator[Page[Member]]:
        pages = self._client.iter_members(since=since, archived=archived)
        for page in pages:
            self._measure()
            yield page
        self._measure()

    def _measure(self) -> None:
        if self._skew is None and self._client.server_time is not None:
            self._skew = self._client.server_time - self._scope.clock()
            note_skew(self._scope, "mailchimp", self._skew, overlap=OVERLAP)


def complaints_among(
    members: Sequence[Member], complainants: Callable[[], Collection[str]]
) -> set[str]:
    """Return the normalised addresses of cleaned members that reported a mail as spam.

    ``complainants`` is called only if a member is cleaned: the status alone does not distinguish
    them from a bounce.
    """
    cleaned = {normal_form(each.email_address) for each in members if each.status is Status.CLEANED}
    return cleaned & {normal_form(each) for each in complainants()} if cleaned else set()


def record_members(
    scope: Scope,
    connection: Connection,
    members: Sequence[Member],
    *,
    source: str,
    arrivals: bool = True,
    moved_from: Mapping[str, str] | None = None,
    complaints: Collection[str] = (),
    asked: datetime | None = None,
) -> int:
    """Store the current state of members and record their events; return the number of new events.

    ``source``: ``poll`` or ``webhook``. ``arrivals``: a member seen for the first time has just
    joined. ``moved_from``: the former address by present address, both normalised, if a webhook
    reported an address change. ``complaints``: normalised addresses whose members reported a mail
    as spam. ``asked``: the start of the read by the database's clock, if it took long enough for
    newer data to reach the store.

    Nothing is stored for forgotten people, even if they subscribe again themselves.
    """
    lock_sync(connection, sync=scope.name)  # no erasure can commit from here on
    addresses = _without_forgotten(
        scope,
        connection,
        {
            normal_form(member.email_address): member
            for member in members
            if member.email_address.strip()  # an SMS-only member has none
        },
    )
    keyed = [
        member_snapshots.keyed(
            member,
            address=address,
            vault=scope.vault,
            moved_from=_key(scope, (moved_from or {}).get(address)),
            complained=address in complaints,
            further=member_keys(scope, member) if scope.sync.member_fields else (),
        )
        for address, member in addresses.items()
    ]
    seen = member_snapshots.upsert_members(
        connection, keyed, sync=scope.name, now=scope.clock(), arrivals=arrivals, asked=asked
    )
    by_key = dict(zip((each.email_key for each in keyed), addresses.values(), strict=True))
    observations.clear(connection, sync=scope.name, keys=seen.departed)
    unread = _unread(scope, cursors.get(connection, sync=scope.name, name=_CURSOR))
    late = set(by_key) - seen.differing if unread else set()
    late = {key for key in late if unread & observation_of(scope, by_key[key]).shown}
    known = edits.known_of(scope, connection, seen.differing | late)
    _observe(scope, connection, {key: by_key[key] for key in seen.differing}, known, unread)
    _observe_late(scope, connection, {key: by_key[key] for key in late}, known, unread)
    if not seen.transitions:
        return 0
    return member_events.record(
        connection,
        _events(scope, connection, seen.transitions, by_key, known, unread),
        sync=scope.name,
        source=source,
        vault=scope.vault,
    )


def _read_again(
    scope: Scope, client: MailchimpClient, *, before: datetime, all_listed: bool
) -> None:
    """Read members again that could not be read before: not every repair is a change.

    ``all_listed``: what was not seen since ``before`` is no longer in the audience.
    """
    sync, system = scope.name, unreadable.MAILCHIMP
    with scope.database.begin() as connection:
        if all_listed:
            unreadable.clear_unlisted(connection, sync=sync, system=system, before=before)
        due = unreadable.ids(connection, sync=sync, system=system, most=MAX_RETRIED, before=before)
    for contact_id in due:
        found = client.get_by_id(contact_id)
        page = page_of([] if found is None else [found])
        complaints = complaints_among(page, client.complainants)
        with scope.database.begin() as connection:
            if found is None:
                unreadable.clear_unreadable(
                    connection, sync=sync, system=system, records=[contact_id]
                )
            record_members(scope, connection, page, source="poll", complaints=complaints)
            record_unreadable(scope, connection, page)


def _observe(
    scope: Scope,
    connection: Connection,
    differing: Mapping[bytes, Member],
    known: edits.Known,
    unread: Collection[str],
) -> None:
    """Keep what members show that differs from what was known, where it was not sent to them (A41).

    Of members who are no customers nothing is kept, except before the first plan: the customers are
    read at the same time.
    """
    sync, vault = scope.name, scope.vault
    if not differing:
        return
    shown = {key: observation_of(scope, member) for key, member in differing.items()}
    sent = known.sent
    edited = {
        key: edits.noticed(
            shown[key],
            sent=past,
            before=known.seen.get(key),
            at=differing[key].last_changed or scope.clock(),
            unread=unread,
        )
        for key, past in sent.items()
    }
    concerned = _concerned(scope, connection, shown)
    kept = {key: each for key, each in shown.items() if key in concerned and key not in sent}
    kept |= {key: each for key, each in edited.items() if each is not None}
    observations.record(connection, kept, sync=sync, at=scope.clock(), vault=vault)
    observations.clear(connection, sync=sync, keys=shown.keys() - kept.keys())
    edits.mark_to_restore(scope, connection, edits.to_restore(scope, kept))


def _concerned(scope: Scope, connection: Connection, keys: Collection[bytes]) -> set[bytes]:
    """Return those of ``keys`` where a customer is; all of them before the first plan."""
    if cursors.get(connection, sync=scope.name, name="customers").get("watermark"):
        return customers.any_at(connection, sync=scope.name, keys=list(keys))
    return set(keys)


def _observe_late(
    scope: Scope,
    connection: Connection,
    members: Mapping[bytes, Member],
    known: edits.Known,
    unread: Collection[str],
) -> None:
    """Keep what newly mapped merge fields show of members that did not change (A45)."""
    if not members:
        return
    shown = {key: observation_of(scope, member) for key, member in members.items()}
    strangers = shown.keys() - known.sent.keys()
    concerned = _concerned(scope, connection, strangers) if strangers else set()
    kept = {key: shown[key] for key in concerned}
    for key, sent in known.sent.items():
        if key in shown:
            before = known.seen.get(key)
            late = edits.found_late(shown[key], sent=sent, before=before, unread=unread)
            kept |= {key: late} if late else {}
    observations.record(connection, kept, sync=scope.name, at=scope.clock(), vault=scope.vault)


def observe(scope: Scope, client: MailchimpClient, *, plan_id: int, shard: int) -> None:
    """Read members that a shard is about to write for the first time, if nothing is known of them.

    Reads them one by one, or lists the audience if that takes fewer calls (A41). After a change of
    the mapping, contacts of ours also count until a run has read the audience with it (A45).
    """
    with scope.database.begin() as connection:
        unread = _unread(scope, cursors.get(connection, sync=scope.name, name=_CURSOR))
        wanted = observations.unobserved(
            connection, plan_id=plan_id, shard=shard, most=MAX_LOOKED_AT, ours=bool(unread)
        )
        pages = contacts.count(connection, sync=scope.name) // MAX_COUNT if wanted else 0
    if not wanted:
        return
    if len(wanted) <= max(MAX_SINGLE_LINKS, pages):
        members = [client.get_by_id(each.contact_id) for each in wanted]
        pages_read: Iterable[Page[Member]] = [page_of([each for each in members if each])]
    else:
        pages_read = prefetch(client.iter_members(since=None), threads=scope.threads)
    keys = {each.email_key for each in wanted}
    for page in pages_read:
        shown = {scope.vault.email_key(normal_form(each.email_address)): each for each in page}
        found = {key: shown[key] for key in keys & shown.keys()}
        with scope.database.begin() as connection:
            known = edits.known_of(scope, connection, found)
            _observe_late(scope, connection, found, known, unread)


def look_before_updates(scope: Scope, client: MailchimpClient, *, plan_id: int) -> None:
    """Read the contacts that a plan of webhooks is about to update, so that edits are known (A44).

    Reads up to five one by one, more as a list of changes.
    """
    with scope.database.begin() as connection:
        wanted = observations.unobserved(
            connection, plan_id=plan_id, shard=0, most=MAX_SINGLE_LINKS + 1, ours=True
        )
    if len(wanted) > MAX_SINGLE_LINKS:
        fetch_members(scope, client)
    elif wanted:
        refresh_members(scope, client, [Handle(*each, email=None) for each in wanted])


def refresh_members(scope: Scope, client: MailchimpClient, handles: Sequence[Handle]) -> None:
    """Read single contacts, by contact id where it is known, and store what they are now.

    A contact that took another address is found by its contact id; a missing contact was deleted.
    """
    with scope.database.begin() as connection:
        asked = server_time(connection)
    found = {
        handle.email_key: client.get_by_id(handle.contact_id)
        if handle.contact_id
        else client.get(handle.email or "")
        for handle in handles
    }
    members = page_of([member for member in found.values() if member is not None])
    complaints = complaints_among(members, client.complainants)
    with scope.database.begin() as connection:
        record_members(
            scope, connection, members, source="poll", complaints=complaints, asked=asked
        )
        record_unreadable(scope, connection, members)
        gone = [key for key, member in found.items() if member is None]
        gone += contacts.aliases(connection, sync=scope.name, keys=gone)
        _record_gone(scope, connection, gone, source="poll")


def record_departed(
    scope: Scope, connection: Connection, addresses: Sequence[str], *, source: str
) -> int:
    """Record that Mailchimp no longer knows these addresses; return the number of new events.

    Known contacts at the addresses count as permanently deleted.
    """
    keys = [scope.vault.email_key(normal_form(address)) for address in addresses]
    return _record_gone(scope, connection, keys, source=source)


def _record_gone(
    scope: Scope, connection: Connection, keys: Sequence[bytes], *, source: str
) -> int:
    known = contacts.present(connection, sync=scope.name, keys=keys)
    gone = [KeyedMember(email_key=key, status=Status.FORGOTTEN, last_changed=None) for key in known]
    seen = member_snapshots.upsert_members(
        connection, gone, sync=scope.name, now=scope.clock(), arrivals=False
    )
    observations.clear(connection, sync=scope.name, keys=known)
    events = [
        MemberEvent(
            email_key=bytes(each.email_key),
            kind=each.kind,
            before=each.before,
            after=each.after,
            happened_at=each.happened_at,
        )
        for each in seen.transitions
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
    scope: Scope,
    connection: Connection,
    seen: Sequence[Transition],
    by_key: Mapping[bytes, Member],
    known: edits.Known,
    unread: Collection[str],
) -> list[MemberEvent]:
    changed = [bytes(each.email_key) for each in seen if each.kind == "profile_changed"]
    ours = edits.unrecorded_writes(scope, connection, {key: by_key[key] for key in changed}, known)
    return [
        MemberEvent(
            email_key=key,
            kind=each.kind,
            before=each.before,
            after=each.after,
            happened_at=each.happened_at,
            detail=_detail(scope, each.kind, by_key[key], known.shown(key), unread),
        )
        for each in seen
        for key in [bytes(each.email_key)]
        if each.kind != "profile_changed" or key not in ours
    ]


def _detail(
    scope: Scope,
    kind: str,
    member: Member,
    before: Mapping[str, Any] | None,
    unread: Collection[str],
) -> dict[str, Any] | None:
    """Return the details of an event that a marketer wants to see beyond its kind."""
    if kind == "address_changed":
        return {"email": member.email_address}
    if kind == Status.UNSUBSCRIBED and member.unsubscribe_reason:
        return {"reason": member.unsubscribe_reason}
    if kind == "profile_changed":
        return edits.profile_detail(scope, member, before, unread=unread)
    return None
