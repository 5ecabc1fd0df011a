"""Archive orphaned contacts in Mailchimp, one call each.

The worker reads each contact just before it archives it. The status found there is the status that
a later restore gives back (A18). A contact that is already archived needs no call: a marketer
archived it. The exception is an earlier attempt of ours whose response was lost. Then the archive
is the connector's.

Runs after the push, so that a customer's new contact exists before the old one is archived.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection

from ml_connector.audit import trail
from ml_connector.batching import drain
from ml_connector.errors import RecordRefused
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import ChangeState, Kind, Member, Page, Status, Unreadable
from ml_connector.rules.addresses import normal_form
from ml_connector.scope import Scope
from ml_connector.store import changes, claims, contacts, observations
from ml_connector.store.changes import SettledChange
from ml_connector.store.claims import ClaimedChange
from ml_connector.store.contacts import ContactState
from ml_connector.sync import guard
from ml_connector.sync.edits import observation_of
from ml_connector.sync.fetch_members import (
    complaints_among,
    record_departed,
    record_members,
)
from ml_connector.sync.outcomes import (
    ExtraCall,
    archive_entry,
    hold_of,
    observed_state,
    our_tags,
)
from ml_connector.sync.push import THREADS
from ml_connector.sync.unreadable_members import record_unreadable

log = structlog.get_logger(__name__)


def archive_contacts(
    scope: Scope, client: MailchimpClient, *, plan_id: int, threads: int = THREADS
) -> dict[str, int]:
    """Archive the contacts of a plan; return the number of changes by final state.

    Checks the guard a last time. Other steps may have added archives to the plan, and other plans
    may have archived contacts meanwhile. Above the limit, the archives wait for the next daily run,
    which asks for approval. An approved plan is archived in full.
    """
    if left := guard.leave_to_daily_run(scope, plan_id=plan_id):
        log.warning("archives_left_to_daily_run", sync=scope.name, contacts=left)
    counts: Counter[str] = Counter()
    drain(lambda: _archive_next(scope, client, plan_id, counts), threads if scope.threads else 1)
    return dict(counts)


def _archive_next(
    scope: Scope, client: MailchimpClient, plan_id: int, counts: Counter[str]
) -> bool:
    with scope.database.begin(patient=True) as connection:
        claimed = claims.claim(
            connection, plan_id=plan_id, shard=None, kinds=[Kind.ARCHIVE], chunk=1
        )
        for change in claimed:
            counts[_archive(scope, client, connection, change)] += 1
    return bool(claimed)


def _archive(
    scope: Scope,
    client: MailchimpClient,
    connection: Connection,
    change: ClaimedChange,
) -> str:
    if not change.current or change.contact_payload is None:
        changes.settle(connection, [SettledChange(id=change.id, state=ChangeState.SUPERSEDED)])
        return "superseded"
    shown = shown_by(scope, change)
    found = client.get(shown["email"])
    if isinstance(found, Unreadable):
        return left_unread(scope, connection, change, found)
    return archive_one(scope, client, connection, change, found=found)


def shown_by(scope: Scope, change: ClaimedChange) -> dict[str, Any]:
    """Return what the contact shows since our last write."""
    identity = contacts.identity(scope.name, bytes(change.email_key))
    shown: dict[str, Any] = scope.vault.decrypt(change.contact_payload or b"", identity)
    return shown


def archive_one(
    scope: Scope,
    client: MailchimpClient,
    connection: Connection,
    change: ClaimedChange,
    *,
    found: Member | None,
    untag: Sequence[str] = (),
) -> str:
    """Archive a contact that was just read as ``found``; return the change's final state.

    ``untag``: tags of ours to take off first, which an undo does.
    """
    shown = shown_by(scope, change)
    if found is not None and found.status.value != change.known_status:
        with scope.database.begin() as at_once:
            record_members(
                scope,
                at_once,
                [found],
                source="poll",
                complaints=complaints_among([found], client.complainants),
            )
    state, error, request_id = ChangeState.APPLIED, None, None
    further: list[ExtraCall] = []
    archived_by: str | None = "us" if change.started else "marketer"
    status = Status.ARCHIVED
    previous = _previous(change, found)
    undone = None if change.started else "archived already, by a marketer"
    if found is None:
        status, archived_by = Status.FORGOTTEN, None
        moved_to = client.get_by_id(change.contact_id) if change.contact_id else None
        if isinstance(moved_to, Unreadable):
            return left_unread(scope, connection, change, moved_to)
        _record_left(scope, client, moved_to, shown["email"])
        if moved_to is not None:
            status, previous = Status.MOVED, moved_to.status.value
        undone = "Mailchimp no longer has a contact at this address"
    elif found.status is not Status.ARCHIVED:
        undone = None
        with scope.database.begin() as at_once:
            claims.mark_started(at_once, change_id=change.id)
        try:
            if untag:
                removed = client.add_tags(shown["email"], untag, active=False)
                further.append(ExtraCall("removed_tags", removed, tuple(untag)))
            request_id = client.archive(shown["email"])
            archived_by = "us"
        except RecordRefused as refused:
            status, archived_by = found.status, None
            state, error, request_id = ChangeState.FAILED, refused.message, refused.request_id
    refused_hash, refused_reason = hold_of(change) if archived_by == "us" else (None, None)
    after = ContactState(
        email_key=change.email_key,
        status=status,
        refused_hash=refused_hash,
        refused_reason=refused_reason,
        owner=change.customer_id if archived_by == "us" else None,
        previous_status=previous,
        sent_fields=change.sent_fields,
        tagged_inactive=change.tagged_inactive,
        archived_by=archived_by if status is Status.ARCHIVED else None,
        payload={**shown, "tags": _without(shown.get("tags", ()), untag)} if further else shown,
    )
    contacts.record(connection, [after], sync=scope.name, vault=scope.vault)
    if found is None:
        observations.clear(connection, sync=scope.name, keys=[change.email_key])
    changes.settle(connection, [SettledChange(id=change.id, state=state, error=error)])
    entry = archive_entry(
        scope.name,
        change,
        outcome="refused" if undone else state.value,
        before=_before(scope, shown, previous, found),
        status=status,
        error=undone or error,
        request_id=request_id,
        further=further,
    )
    trail.append(connection, [entry], run=scope.run, vault=scope.vault)
    return state.value


def left_unread(
    scope: Scope, connection: Connection, change: ClaimedChange, found: Unreadable
) -> str:
    """Leave an unreadable contact unchanged, with the reason (A55)."""
    shown = shown_by(scope, change)
    error = f"the member in Mailchimp cannot be read: {found.reason}"
    with scope.database.begin() as at_once:
        record_unreadable(scope, at_once, Page((), [found]))
    settled = SettledChange(id=change.id, state=ChangeState.FAILED, error=error)
    changes.settle(connection, [settled])
    entry = archive_entry(
        scope.name,
        change,
        outcome=ChangeState.FAILED.value,
        before={"status": change.known_status, **shown},
        status=Status(str(change.known_status)),
        error=error,
    )
    trail.append(connection, [entry], run=scope.run, vault=scope.vault)
    return ChangeState.FAILED.value


def _without(tags: Sequence[str], removed: Sequence[str]) -> list[str]:
    gone = {tag.casefold() for tag in removed}
    return [tag for tag in tags if tag.casefold() not in gone]


def _record_left(
    scope: Scope, client: MailchimpClient, moved_to: Member | None, email: str
) -> None:
    """Record that a contact is no longer at its address.

    ``moved_to`` is the member if it took another one. If it took none, it was deleted permanently
    (A28, A30).
    """
    with scope.database.begin() as at_once:
        if moved_to is None:
            record_departed(scope, at_once, [email], source="poll")
        else:
            record_members(
                scope,
                at_once,
                [moved_to],
                source="poll",
                complaints=complaints_among([moved_to], client.complainants),
                moved_from={normal_form(moved_to.email_address): normal_form(email)},
            )


def _before(
    scope: Scope, shown: Mapping[str, Any], previous: str | None, found: Member | None
) -> dict[str, Any]:
    """Return the contact as it was just read; what we sent last, if Mailchimp has no such member."""
    if found is None:
        return {"status": previous, **shown}
    fields = observation_of(scope, found).merge_fields
    tags = our_tags(scope, found.tags, shown.get("tags", ()))
    state = observed_state(str(previous), fields, tags, at=scope.clock())
    return {**state, "email": shown.get("email")}


def _previous(change: ClaimedChange, found: Member | None) -> str | None:
    """Return the status a restore gives back: as just read, or as known before our attempt."""
    if found is not None and found.status is not Status.ARCHIVED:
        return found.status.value
    known = change.known_status
    return change.previous_status if known == Status.ARCHIVED else known
