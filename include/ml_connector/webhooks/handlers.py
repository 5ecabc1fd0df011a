"""Webhook handlers: run the daily pipeline for the records an event names.

Events are hints. The record is always read from the API, so handling is idempotent and
order-independent.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from ml_connector.errors import CreationRefused, UpdatesRefused
from ml_connector.mailchimp.webhooks import UNREADABLE
from ml_connector.model import Member, Status, page_of
from ml_connector.rules.addresses import normal_form
from ml_connector.scope import OpenSync, Scope
from ml_connector.store import changes, contacts, customers, deciding, member_snapshots
from ml_connector.store.database import lock_sync, server_time
from ml_connector.sync import (
    archive,
    fetch_customers,
    fetch_members,
    first_run,
    follow_up,
    planner,
    preflight,
    push,
)
from ml_connector.sync.unreadable_members import record_unreadable
from ml_connector.webhooks import inbox
from ml_connector.webhooks.inbox import ClaimedEvent

THREADS = 2
"""Connections to Mailchimp, besides six of the daily run. Mailchimp allows ten."""

MAX_SINGLE_READS = 5
"""Up to this many members are read one by one. More are read as a list of changes."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """Result of handled events.

    ``customer_ids``: customers whose activity may have changed. ``missing``: unknown ids.
    ``origins``: by customer, the event that named it, such as ``webhook:9``.
    """

    customer_ids: Collection[str] = ()
    missing: frozenset[str] = frozenset()
    origins: Mapping[str, str] = field(default_factory=dict)


def handle_customers(target: OpenSync, events: Sequence[ClaimedEvent]) -> Handled:
    """Read the customers that QuickBooks events name, decide, and push the result to Mailchimp."""
    origins = {
        id_: f"webhook:{event.id}"
        for event in events
        for id_ in (event.entity_id, event.deleted_id)
        if id_
    }
    scope = replace(target.scope, origins=origins)
    merged = {e.deleted_id: e.entity_id for e in events if e.deleted_id and e.entity_id}
    ids = {event.entity_id for event in events if event.entity_id} | set(merged)
    since = min((event.occurred_at for event in events if event.occurred_at), default=None)
    missing = fetch_customers.fetch_named(scope, target.quickbooks, ids, merged=merged, since=since)
    with scope.database.begin() as connection:
        told = customers.address_keys(connection, sync=scope.name, ids=ids)
        if left_behind := changes.leftover_of_webhooks(connection, sync=scope.name, keys=told):
            lock_sync(connection, sync=scope.name, at="deciding")
            changes.supersede_at(connection, sync=scope.name, keys=left_behind)
            deciding.mark_dirty(connection, sync=scope.name, keys=left_behind)
        pending = deciding.pending_of(connection, sync=scope.name, ids=ids)
    if pending.waiting and first_run.may_write(scope):
        plan_id = scope.plan_id("webhooks")
        if pending.moving:
            # An opt-out at an address that a customer leaves must be known first (A13b).
            fetch_members.fetch_members(scope, target.mailchimp)
        if planner.decide_on(scope, plan_id=plan_id, customer_ids=ids):
            preflight.check_audience_cached(scope, target.mailchimp)
            client = target.mailchimp
            fetch_members.look_before_updates(scope, client, plan_id=plan_id)
            written, refused = scope.written["mailchimp"], None
            try:
                written.update(
                    push.push_shard(scope, client, plan_id=plan_id, shard=0, threads=THREADS)
                )
            except (CreationRefused, UpdatesRefused) as error:
                refused = error  # all else goes on (A56)
            written.update(
                archive.archive_contacts(scope, client, plan_id=plan_id, threads=THREADS)
            )
            written.update(follow_up.follow_up(scope, client, plan_id=plan_id, keys=told))
            if refused is not None:
                raise refused
        elif pending.moving:
            follow_up.take_opt_outs_along(scope, target.mailchimp, plan_id=plan_id)
    return Handled(customer_ids=ids, missing=frozenset(missing), origins=origins)


def handle_members(target: OpenSync, events: Sequence[ClaimedEvent]) -> Handled:
    """Read the members that Mailchimp events name, and record their member events."""
    scope, client = target.scope, target.mailchimp
    events, documents = _drop_forgotten(scope, events)
    told = _present_addresses(documents)
    to_read = set(told)
    complaints = {_address(each) for each in documents if each["data"].get("reason") == "abuse"}
    opted_out = complaints | {
        _address(each) for each in documents if each["data"].get("action") == "unsub"
    }
    if len(told) > MAX_SINGLE_READS:
        brought: dict[str, Status] = {}

        def see(page: Sequence[Member]) -> None:
            statuses = {normal_form(member.email_address): member.status for member in page}
            brought.update({each: status for each, status in statuses.items() if each in told})

        fetch_members.fetch_members(scope, client, source="webhook", on_page=see)
        # Lists show neither permanently deleted members nor former addresses, and no opt-out of an
        # archived member.
        leaving = {_address(each) for each in documents if each["type"] == "unsubscribe"}
        leaving -= {
            address
            for address, status in brought.items()
            if status is not Status.ARCHIVED or address not in opted_out
        }
        to_read = leaving | complaints | {new for new, former in told.items() if former}
    with scope.database.begin() as connection:
        asked = server_time(connection)
    found = {address: client.get(address) for address in sorted(to_read)}
    members = page_of([member for member in found.values() if member is not None])
    unexplained = [each for each in members if normal_form(each.email_address) not in complaints]
    complaints |= fetch_members.complaints_among(unexplained, client.complainants)
    with scope.database.begin() as connection:
        fetch_members.record_members(
            scope,
            connection,
            members,
            source="webhook",
            complaints=complaints,
            moved_from={new: former for new, former in told.items() if former},
            asked=asked,
        )
        record_unreadable(scope, connection, members)
        # The status of an archived member does not show an opt-out made in the same moment.
        archived = {
            address: member
            for address, member in found.items()
            if isinstance(member, Member) and member.status is Status.ARCHIVED
        }
        for event, document in zip(events, documents, strict=True):
            address = _address(document)
            if address in archived and address in opted_out:
                member_snapshots.opt_out_of_archived(
                    connection,
                    sync=scope.name,
                    email_key=scope.vault.email_key(address),
                    at=event.occurred_at,
                    archived_at=archived[address].last_changed,
                )
        left = [address for address, member in found.items() if member is None]
        fetch_members.record_departed(scope, connection, left, source="webhook")
        by_key = {
            scope.vault.email_key(_address(document)): f"webhook:{event.id}"
            for event, document in zip(events, documents, strict=True)
        }
        found_at = customers.at(connection, sync=scope.name, keys=list(by_key))
        origins = {customer_id: by_key[key] for customer_id, key in found_at.items()}
    if first_run.may_write(scope):
        scope.written["mailchimp"].update(follow_up.take_opt_outs_along(scope, client))
    return Handled(customer_ids=set(origins), origins=origins)


def _drop_forgotten(
    scope: Scope, events: Sequence[ClaimedEvent]
) -> tuple[list[ClaimedEvent], list[dict[str, Any]]]:
    """Return the events and their documents, except those about forgotten people.

    Ignores events about forgotten people and destroys their payload. An event that was unreadable
    on receipt and then requeued is quarantined again for the same reason.
    """
    opened = {event: event.decrypted(scope.vault) for event in events}
    unreadable = [
        e for e, said in opened.items() if said and not isinstance(said.get("data"), dict)
    ]
    for event in unreadable:
        del opened[event]
    keys = {
        event: [scope.vault.email_key(each) for each in (_address(said), _former(said)) if each]
        for event, said in opened.items()
        if said
    }
    with scope.database.begin() as connection:
        every = [key for found in keys.values() for key in found]
        out = contacts.suppressed(connection, keys=every)
        known = [event for event, found in keys.items() if not out.intersection(found)]
        forgotten = [event for event in opened if event not in known]
        inbox.settle(
            connection,
            forgotten,
            state="ignored",
            reason="forgotten",
            run=scope.run,
            sync=scope.name,
            vault=scope.vault,
        )
        inbox.erase(connection, {each.id: each.dedupe_key for each in forgotten}, vault=scope.vault)
        for event in unreadable:
            # A postponement since then may have left another reason.
            reason = event.reason if event.reason in UNREADABLE else UNREADABLE[0]
            inbox.quarantine(connection, [event], reason=reason, run=scope.run, vault=scope.vault)
    return known, [opened[event] for event in known]


def _present_addresses(documents: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """Return the addresses that events name, each with the former address of its member if known.

    Mailchimp reports one change of address as ``upemail`` and as ``profile``, in any order, and a
    member may have changed its address more than once.
    """
    told: dict[str, str | None] = {}
    for document in documents:
        address, former = _address(document), _former(document)
        told[address] = former or told.get(address)
    return {address: _first_address(told, address) for address in told}


def _first_address(told: Mapping[str, str | None], address: str) -> str | None:
    """Follow the changes of address back to the address that the audience had first."""
    former, passed = told[address], {address}
    while former is not None and former not in passed and told.get(former):
        passed.add(former)
        former = told[former]
    return former


def _address(document: Mapping[str, Any]) -> str:
    data = document["data"]
    return normal_form(str(data.get("new_email") or data.get("email") or ""))


def _former(document: Mapping[str, Any]) -> str | None:
    former = document["data"].get("old_email")
    return normal_form(str(former)) if former else None
