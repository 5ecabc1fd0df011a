"""Respect what people changed in Mailchimp, by ``on_member_edit`` and ``adopt`` (A44, A45).

A contact without an observation shows what was sent, and needs no work here.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import structs
from sqlalchemy import Connection

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.model import Customer, Member, MemberWrite, MergeValue
from ml_connector.rules.edits import (
    CHANGED,
    alike,
    differing,
    explained_by_quickbooks,
    plan_adoption,
    plan_update,
    sent_elsewhere,
)
from ml_connector.rules.notes_block import Suggestion
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.store import contacts, cursors, customers, deciding, observations
from ml_connector.store.claims import ClaimedChange, StartedArchive
from ml_connector.store.database import lock_sync
from ml_connector.store.observations import Observation
from ml_connector.sync.outcomes import Outcome, Row, iso
from ml_connector.vault import Vault


def observation_of(scope: Scope, member: Member) -> Observation:
    """Return what a member shows of what the sync writes: mapped merge fields with a value."""
    fields = scope.sync.fields
    return Observation(
        merge_fields={
            tag: value
            for tag, value in member.merge_fields.items()
            if value not in ("", None) and tag in fields
        }
    )


class Known(NamedTuple):
    """What was known of contacts before a read, by key.

    ``sent``: QuickBooks' values that were last taken into account. ``seen``: the observations.
    """

    sent: Mapping[bytes, Mapping[str, Any]]
    seen: Mapping[bytes, Observation]

    def shown(self, key: bytes) -> Mapping[str, Any] | None:
        """Return the merge fields that a contact of ours was known to show."""
        seen = self.seen.get(key)
        return seen.merge_fields if seen else self.sent.get(key)


def known_of(scope: Scope, connection: Connection, keys: Collection[bytes]) -> Known:
    """Return what is known of contacts."""
    if not keys:
        return Known({}, {})
    sync, vault = scope.name, scope.vault
    sent = contacts.sent(connection, sync=sync, keys=keys, vault=vault)
    return Known(sent, observations.stored(connection, sync=sync, keys=list(sent), vault=vault))


def profile_detail(
    scope: Scope,
    member: Member,
    before: Mapping[str, Any] | None,
    *,
    unread: Collection[str] = (),
) -> dict[str, Any]:
    """Return which mapped merge fields a member's profile change touched.

    ``before``: what the contact was known to show. ``unread``: fields that were not read before.
    With ``activity.values``, ``values`` holds old and new value by field.
    """
    shown = observation_of(scope, member).merge_fields
    tags = sorted({*differing(shown, before)}.difference(unread)) if before is not None else []
    detail: dict[str, Any] = {"fields": tags}
    if before is not None and tags and scope.sync.activity.values:
        detail["values"] = {tag: [before.get(tag, ""), shown.get(tag, "")] for tag in tags}
    return detail


def unrecorded_writes(
    scope: Scope, connection: Connection, members: Mapping[bytes, Member], known: Known
) -> set[bytes]:
    """Return the members whose changed fields show what QuickBooks changed since our last write.

    That was our write, of which no record is left: the worker died, or a failover took the last
    commits along.
    """
    if not members:
        return set()
    sync, vault = scope.name, scope.vault
    wanted = customers.merge_fields_at(connection, sync=sync, keys=members, vault=vault)
    return {
        key
        for key, member in members.items()
        if (sent := known.sent.get(key)) is not None
        and any(
            explained_by_quickbooks(
                observation_of(scope, member).merge_fields,
                before=known.shown(key) or {},
                sent=sent,
                wanted=each,
            )
            for each in wanted.get(key, ())
        )
    }


class Edit(NamedTuple):
    """A merge field whose value in Mailchimp stays although QuickBooks has another one.

    ``since``: None if the value was there before us. ``rule``: ``on_member_edit`` of the field.
    """

    tag: str
    value: Any
    since: datetime | None
    rule: str


def edits_of(connection: Connection, sync: Sync, key: bytes, *, vault: Vault) -> list[Edit]:
    """Return the values of people that stay in a contact."""
    rules = sync.edit_rules
    seen = observations.stored(connection, sync=sync.name, keys=[key], vault=vault).get(key)
    if seen is None:
        return []
    return [
        Edit(tag, seen.merge_fields.get(tag, ""), datetime.fromisoformat(at) if at else None, rule)
        for tag, at in seen.since.items()
        if (rule := rules.get(tag))
    ]


def suggestions(
    scope: Scope, connection: Connection, key: bytes, names: Mapping[str, str]
) -> list[Suggestion]:
    """Return the edits of a contact that the rule ``suggest`` shows, by name of the field."""
    if "suggest" not in scope.sync.edit_rules.values():
        return []
    return [
        Suggestion(names.get(each.tag, each.tag), each.value, each.since)
        for each in edits_of(connection, scope.sync, key, vault=scope.vault)
        if each.since and each.rule == "suggest"
    ]


def no_longer_suggested(
    scope: Scope, written: Sequence[Outcome], shown: Mapping[bytes, Observation | None]
) -> list[bytes]:
    """Return the written contacts with an edit that the customer no longer needs to show."""
    rules = scope.sync.edit_rules

    def suggested(seen: Observation | None) -> set[str]:
        since = seen.since.items() if seen else ()
        return {tag for tag, at in since if at and rules.get(tag) == "suggest"}

    found = []
    for outcome in written:
        row, key = outcome.row, outcome.row.change.email_key
        now = row.seen if key in shown and shown[key] is None else shown.get(key)
        if suggested(row.seen) - suggested(now):
            found.append(key)
    return found


def seen_by(scope: Scope, change: ClaimedChange | StartedArchive) -> Observation | None:
    """Return the stored observation of a change's contact."""
    if change.observation is None:
        return None
    return observations.decrypted(
        change.observation, sync=scope.name, email_key=bytes(change.email_key), vault=scope.vault
    )


def brought(
    scope: Scope, connection: Connection, claimed: Sequence[ClaimedChange]
) -> dict[bytes, dict[str, Any]]:
    """Return what was sent to members of ours who took another address, by their key there."""
    keys = [c.email_key for c in claimed if c.observation and c.contact_payload is None]
    if not keys:
        return {}
    return contacts.sent_before_move(connection, sync=scope.name, keys=keys, vault=scope.vault)


def fields_of(
    scope: Scope,
    change: ClaimedChange,
    customer: Customer,
    *,
    past: Mapping[str, Any] | None,
    moved: Mapping[bytes, Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]] = (),
) -> Row:
    """Return a change with the merge fields to write.

    ``past``: QuickBooks' values that were last taken into account; None if there was no write.
    ``moved``: as ``brought`` returns it. ``others``: what other syncs sent to the contact (A39).
    """
    known = past or {}
    filled: dict[str, MergeValue] = {
        tag: value
        for tag, value in customer.merge_fields.items()
        if value or tag in change.sent_fields  # clear only the fields that the connector filled
    }
    row = Row(
        change,
        MemberWrite(email_address=customer.addresses[0], merge_fields=filled),
        customer.addresses[1:],
        unfit=customer.unfit,
        kept={tag: known[tag] for tag in customer.unfit if tag in known},
    )
    past = known if change.contact_payload else moved.get(bytes(change.email_key))
    return respected(scope, row, past=past, others=others)


def respected(
    scope: Scope,
    row: Row,
    *,
    past: Mapping[str, Any] | None,
    others: Sequence[Mapping[str, Any]] = (),
) -> Row:
    """Return ``row`` without the merge fields in which a person's value stays.

    ``past``: QuickBooks' values that were last taken into account; None if there was no write.
    ``others``: what other syncs sent to the contact.
    """
    seen = seen_by(scope, row.change)
    if seen is None:
        return row
    sync, wanted, shown = scope.sync, row.write.merge_fields, seen.merge_fields
    ours = sent_elsewhere(shown, others)
    if past is None:
        shown = {tag: value for tag, value in shown.items() if tag not in ours}
        plan = plan_adoption(wanted, shown, adopt=sync.adopt)
    else:
        asked = dict.fromkeys(seen.restore, "restore")
        adopted = [
            tag for tag in seen.adopted if tag not in asked and (tag in past or tag not in ours)
        ]
        rules = {**sync.edit_rules, **asked}
        plan = plan_update(wanted, shown, past=past, adopted=adopted, rules=rules, adopt=sync.adopt)
    return structs.replace(
        row,
        write=structs.replace(row.write, merge_fields=plan.write),
        kept={**row.kept, **{tag: wanted[tag] for tag in plan.kept}},
        edited=plan.kept,
        replaced=plan.replaced,
        seen=seen,
    )


def still_differing(scope: Scope, written: Sequence[Outcome]) -> dict[bytes, Observation | None]:
    """Return what contacts show after a write where it is not all QuickBooks' values, by key.

    None: the stored observation still holds, because the response lists no merge fields.
    """
    found: dict[bytes, Observation | None] = {}
    for outcome in written:
        row, key = outcome.row, outcome.row.change.email_key
        shown = observation_of(scope, outcome.member).merge_fields if outcome.member else {}
        sent = row.told
        if not shown:  # a response need not list them
            if row.edited:
                found[key] = None
            continue
        if tags := differing(shown, sent):
            past = row.seen.since if row.seen else {}
            new = {CHANGED: iso(row.change.observed_at) or ""}
            since = {
                tag: past.get(tag, new.get(row.edited.get(tag, ""), ""))
                for tag in tags
                if tag in row.edited or (past.get(tag) == "" and tag not in sent)
            }
            found[key] = Observation(merge_fields=shown, since=since)
    return found


def noticed(
    shown: Observation,
    *,
    sent: Mapping[str, Any],
    before: Observation | None,
    at: datetime | None,
    unread: Collection[str] = (),
) -> Observation | None:
    """Return an observation of a contact of ours with the times of its edits; None without any.

    ``sent``: QuickBooks' values that were last taken into account. ``before``: the observation
    stored so far. ``at``: when the member was last changed. ``unread``: fields that were not read
    before; their values were there before we could send any.
    """
    tags = differing(shown.merge_fields, sent)
    if not tags:
        return None
    since: dict[str, str] = {}
    for tag in tags:
        value = shown.merge_fields.get(tag, "")
        if before is not None and alike(value, before.merge_fields.get(tag, "")):
            if tag in before.since:
                since[tag] = before.since[tag]
        elif tag in unread and tag not in sent:
            since[tag] = ""
        else:
            since[tag] = iso(at) or ""
    asked = [tag for tag in before.restore if tag in since] if before else []
    return structs.replace(shown, since=since, restore=asked)


def found_late(
    shown: Observation,
    *,
    sent: Mapping[str, Any],
    before: Observation | None,
    unread: Collection[str],
) -> Observation | None:
    """Return an observation of a contact of ours with what newly mapped fields show; None if nothing.

    Nothing else about the contact is new. ``sent`` and ``before`` as in ``noticed``. ``unread``:
    the newly mapped fields.
    """
    found = {
        tag: value for tag, value in shown.merge_fields.items() if tag in unread and tag not in sent
    }
    if not found:
        return None
    past = before or Observation(merge_fields={tag: value for tag, value in sent.items() if value})
    return structs.replace(
        past,
        merge_fields={**past.merge_fields, **found},
        since={**dict.fromkeys(found, ""), **past.since},
    )


def to_restore(scope: Scope, observed: Mapping[bytes, Observation]) -> list[bytes]:
    """Return the contacts with an edit that the rule ``restore`` takes back."""
    rules = scope.sync.edit_rules
    if "restore" not in rules.values():
        return []
    return [
        key
        for key, each in observed.items()
        if any(time and rules.get(tag) == "restore" for tag, time in each.since.items())
    ]


def mark_to_restore(scope: Scope, connection: Connection, keys: Collection[bytes]) -> None:
    """Let the next decision write contacts whose edits are taken back."""
    if keys:
        contacts.mark_unpushed(connection, sync=scope.name, keys=keys)
        deciding.mark_dirty(connection, sync=scope.name, keys=keys)


def ask_to_restore(scope: Scope, *, key: bytes, tag: str) -> bool:
    """Have the next run bring QuickBooks' value of a field back; return whether it differs.

    The request is a row of the audit, with the user who made it.
    """
    with scope.database.begin() as connection:
        lock_sync(connection, sync=scope.name)
        stored = observations.stored(connection, sync=scope.name, keys=[key], vault=scope.vault)
        seen = stored.get(key)
        if seen is None or tag not in seen.since:
            return False
        asked = structs.replace(seen, restore=sorted({*seen.restore, tag}))
        observations.record(
            connection, {key: asked}, sync=scope.name, at=scope.clock(), vault=scope.vault
        )
        mark_to_restore(scope, connection, [key])
        entry = Entry(
            sync=scope.name,
            system="mailchimp",
            action="ask_restore",
            reason="changed_in_mailchimp",
            outcome="requested",
            cause="contact",
            email_key=key,
            attempts=0,
            before={tag: seen.merge_fields.get(tag, "")},
        )
        trail.append(connection, [entry], run=scope.run, vault=scope.vault)
    return True


_CURSOR = "edit_rules"


def apply_new_rules(scope: Scope, connection: Connection, *, preview: bool) -> None:
    """Mark edits made so far that a new rule ``restore`` takes back."""
    rules = sorted(tag for tag, rule in scope.sync.edit_rules.items() if rule == "restore")
    past = cursors.get(connection, sync=scope.name, name=_CURSOR).get("restore", [])
    if rules == past:
        return
    if set(rules) - set(past):
        for page in observations.pages(connection, sync=scope.name, vault=scope.vault):
            mark_to_restore(scope, connection, to_restore(scope, page))
    if not preview:
        cursors.put(connection, sync=scope.name, name=_CURSOR, value={"restore": rules})
