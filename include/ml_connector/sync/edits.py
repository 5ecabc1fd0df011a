"""Respect what people changed in Mailchimp, by ``on_member_edit`` and ``adopt`` (A44, A45).

A contact without an observation shows what was sent, and costs nothing here.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import structs
from sqlalchemy import Connection

from ml_connector.model import Member
from ml_connector.rules.edits import alike, differing, plan_adoption, plan_update
from ml_connector.scope import Scope
from ml_connector.store import contacts, cursors, deciding, observations
from ml_connector.store.changes import ClaimedChange
from ml_connector.store.observations import Observation
from ml_connector.sync.outcomes import Outcome, Row, iso


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


def seen_by(scope: Scope, change: ClaimedChange) -> Observation | None:
    """Return the stored observation of a change's contact."""
    if change.observation is None:
        return None
    return observations.decrypted(
        change.observation, sync=scope.name, email_key=bytes(change.email_key), vault=scope.vault
    )


def respected(scope: Scope, row: Row, *, past: Mapping[str, Any] | None) -> Row:
    """Return ``row`` without the merge fields in which a person's value stays.

    ``past``: QuickBooks' values that were last taken into account; None if there was no write.
    """
    seen = seen_by(scope, row.change)
    if seen is None:
        return row
    sync, wanted, shown = scope.sync, row.write.merge_fields, seen.merge_fields
    if past is None:
        plan = plan_adoption(wanted, shown, adopt=sync.adopt)
    else:
        plan = plan_update(wanted, shown, past=past, adopted=seen.adopted, rules=sync.edit_rules)
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
        sent = {**row.kept, **row.write.merge_fields}
        if not shown:  # a response need not list them
            if row.edited:
                found[key] = None
            continue
        if tags := differing(shown, sent):
            past = row.seen.since if row.seen else {}
            adopted = row.change.contact_payload is None
            left = [tag for tag in tags if tag in row.edited and (adopted or tag in past)]
            since = {tag: "" if adopted else past[tag] for tag in left}
            found[key] = Observation(merge_fields=shown, since=since)
    return found


def noticed(
    shown: Observation,
    *,
    sent: Mapping[str, Any],
    before: Observation | None,
    at: datetime | None,
) -> Observation | None:
    """Return an observation of a contact of ours with the times of its edits; None without any.

    ``sent``: QuickBooks' values that were last taken into account. ``before``: the observation
    stored so far. ``at``: when the member was last changed.
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
        else:
            since[tag] = iso(at) or ""
    return structs.replace(shown, since=since)


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
