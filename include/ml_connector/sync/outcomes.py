"""Turn outcomes into rows: contact, change and audit rows of calls, archives and decisions."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ml_connector.audit.trail import Entry
from ml_connector.mailchimp.problems import CONTACT_LIMIT
from ml_connector.model import (
    CONSENT_RANK,
    ChangeState,
    Kind,
    Member,
    MemberWrite,
    MergeValue,
    RowRefusal,
    Status,
)
from ml_connector.rules.decide import CustomerRow, Decisions
from ml_connector.rules.edits import alike
from ml_connector.rules.tags import TagWork, tag_key
from ml_connector.scope import Scope
from ml_connector.store.changes import SettledChange
from ml_connector.store.claims import ClaimedChange, StartedArchive
from ml_connector.store.contacts import ContactState, profile_hash
from ml_connector.store.deciding import FINAL_REFUSALS
from ml_connector.store.observations import Observation
from ml_connector.vault import Vault

PARKED_FOR = (timedelta(hours=1), timedelta(days=1), timedelta(days=3), timedelta(days=7))
"""Parking times after "signed up to a lot of lists very recently" (A24) or an unanswered row."""

MOVED = "moved_in_mailchimp"
"""Refusal of an update whose contact has left the address in Mailchimp (A43)."""

CHANGED_SINCE = "changed_since"
"""Refusal of our own: an undo leaves a contact that was changed since."""
UNDONE = "undone"
"""Why a contact is not written: an undo took back a write of the same data (E3)."""

_PARKING = ("signup_throttled", "unanswered", "unreadable", CONTACT_LIMIT)
_TERMINAL = {"forgotten": Status.FORGOTTEN, "compliance": Status.UNSUBSCRIBED}


class UndoneRow(msgspec.Struct, frozen=True):
    """What the store knows of a contact after an undo: its owner, the fields and tag from us.

    ``told``: QuickBooks' values last taken into account, of fields that show a person's value.
    ``lost``: whether a call of the undo whose outcome is unknown may have restored it.
    """

    owner: str | None
    told: Mapping[str, Any] = {}
    filled: frozenset[str] = frozenset()
    tagged_inactive: bool = False
    lost: bool = False


class Row(msgspec.Struct, frozen=True):
    """A claimed change and the write it calls for.

    ``unfit``: merge fields that do not fit and are left out, with the reason. ``edited``: merge
    fields left out because a person's value stays, with the reason. ``kept``: QuickBooks' values
    last taken into account, of fields left out. ``replaced``: values of a person that the write
    replaces. ``seen``: what the contact was last observed to show. ``further``: what is stored of groups and language.
    ``after``: how the audit shows these. ``undo``: what an undo leaves of the contact.
    """

    change: ClaimedChange
    write: MemberWrite
    other_addresses: tuple[str, ...] = ()
    tags: TagWork = TagWork()
    unfit: Mapping[str, str] = {}
    kept: Mapping[str, MergeValue] = {}
    edited: Mapping[str, str] = {}
    replaced: Mapping[str, Any] = {}
    seen: Observation | None = None
    further: Mapping[str, Any] = {}
    after: Mapping[str, Any] = {}
    undo: UndoneRow | None = None

    @property
    def told(self) -> dict[str, Any]:
        """QuickBooks' values that are taken into account with this write."""
        return {**self.kept, **self.write.merge_fields, **(self.undo.told if self.undo else {})}


class ExtraCall(msgspec.Struct, frozen=True):
    """A further call for a row, besides the call whose ``request_id`` is in the outcome."""

    did: str
    request_id: str | None
    tags: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Mailchimp's response to one row: a member or a refusal.

    ``asked``: the status that the write itself set (a creation, a restore), if any. ``further``:
    the other calls for this row, in order. ``created``: the batch reports a new member.
    ``moved_to``: the member that left the address, where it is now. ``observed``: the member as it
    was read right before the write.
    """

    row: Row
    member: Member | None = None
    asked: Status | None = None
    refusal: RowRefusal | None = None
    created: bool = False
    moved_to: Member | None = None
    observed: Member | None = None
    request_id: str | None = None
    further: tuple[ExtraCall, ...] = ()

    @property
    def vanished(self) -> bool:
        """Whether the contact has left the address, so nothing is there to be recorded."""
        return self.refusal is not None and self.refusal.code == MOVED

    @property
    def rose(self) -> bool:
        """Whether the member now has more consent than was known or requested.

        A contact just created or restored outside this sync does not count: it is adopted
        unchanged.
        """
        if self.member is None:
            return False
        known = self.row.change.known_status
        if self.asked is None and known in (None, Status.ABSENT, Status.ARCHIVED):
            return False
        allowed = self.asked or Status(str(known))
        if self.member.status is allowed:
            return False
        return CONSENT_RANK[self.member.status] > CONSENT_RANK[allowed]

    @property
    def present(self) -> bool:
        """Whether the contact is in the audience now."""
        return self.member is not None and self.member.status is not Status.ARCHIVED

    @property
    def kept_out(self) -> str | None:
        """Why there is no contact: the code of a refused creation or restore."""
        if self.refusal is None:
            return None
        code, kind = self.refusal.code, self.row.change.kind
        final = kind == Kind.RESTORE and code in FINAL_REFUSALS
        return code if kind == Kind.CREATE or final else None

    @property
    def state(self) -> ChangeState:
        """The final state of the change."""
        if self.refusal is None:
            return ChangeState.APPLIED
        if self.refusal.code == CHANGED_SINCE:
            return ChangeState.LEFT
        return ChangeState.PARKED if self.refusal.code in _PARKING else ChangeState.FAILED

    @property
    def settled(self) -> SettledChange:
        """The change with its final state, ready to settle."""
        return SettledChange(id=self.row.change.id, state=self.state, error=self.error)

    @property
    def error(self) -> str | None:
        """Why the row was refused, with the fields that were left out of it; None if it was not."""
        if self.refusal is None:
            return None
        left_out = [f"{tag} was not sent: {reason}" for tag, reason in self.row.unfit.items()]
        return "; ".join([self.refusal.message, *left_out])

    def written(self, now: datetime, vault: Vault) -> ContactState:
        """Return the contact row after this write."""
        change, write = self.row.change, self.row.write
        if self.member is None:
            return self._refused(now)
        filled = {tag for tag, value in write.merge_fields.items() if value}
        out = self.row.unfit.keys() | self.row.edited.keys()
        filled |= out & set(change.sent_fields)  # what was sent stays there
        undo = self.row.undo
        refused_hash, refused_reason = hold_of(change)
        return ContactState(
            email_key=change.email_key,
            status=self.member.status,
            owner=undo.owner if undo else change.customer_id,
            pushed_hash=change.held_hash if undo else change.decided_hash,
            sent_fields=sorted(undo.filled if undo else filled),
            tagged_inactive=undo.tagged_inactive if undo else change.tag_inactive,
            refused_hash=refused_hash,
            refused_reason=refused_reason,
            archived_by="marketer" if self.member.status is Status.ARCHIVED else None,
            profile_hash=profile_hash(self.member.merge_fields, vault),
            seen_tags=self.row.tags.seen,
            payload={
                "email": write.email_address,
                "merge_fields": self.row.told,
                "tags": list(self.row.tags.ours),
                **self.row.further,
                # A creation that met a member: its groups may be the person's own choice.
                **({"groups": []} if self.row.further and self._met_a_member else {}),
            },
        )

    @property
    def _shown_otherwise(self) -> dict[str, Any]:
        """The fields that Mailchimp shows in another form than they were sent in."""
        shown = {} if self.member is None else self.member.merge_fields
        sent = self.row.write.merge_fields
        return {
            tag: shown[tag]
            for tag, value in sent.items()
            if tag in shown and shown[tag] != value and not alike(shown[tag], value)
        }

    @property
    def _met_a_member(self) -> bool:
        return self.row.change.kind == Kind.CREATE and not self.created

    def _refused(self, now: datetime) -> ContactState:
        change = self.row.change
        code = self.refusal.code if self.refusal else ""
        parked = code in _PARKING
        wait = PARKED_FOR[min(change.parked_times, len(PARKED_FOR) - 1)]
        return ContactState(
            email_key=change.email_key,
            status=_TERMINAL.get(code) or Status(change.known_status or Status.ABSENT),
            owner=change.customer_id,
            previous_status=change.previous_status,
            archived_by=change.archived_by,
            sent_fields=change.sent_fields,
            tagged_inactive=change.tagged_inactive,
            refused_hash=None if parked else change.decided_hash,
            refused_reason=None if parked else code,
            parked_until=now + wait if parked else None,
            parked_times=change.parked_times + 1 if parked else 0,
        )

    def entry(self, sync: str, before: dict[str, Any] | None) -> Entry:
        """Return the audit row; ``before`` is the contact as last known."""
        change, write = self.row.change, self.row.write
        after: dict[str, Any] = {"email": write.email_address}
        if not change.lowers:
            after |= {"merge_fields": write.merge_fields, "tags": list(write.tags)}
            after |= self.row.after
        if self.member is not None:
            after["status"] = self.member.status
        if shown := self._shown_otherwise:
            after["shown"] = shown
        if self.row.unfit:
            after["left_out"] = dict(self.row.unfit)
        if self.row.edited:
            after["kept"] = dict(self.row.edited)
        if self.row.replaced and self.refusal is None:
            after["replaced"] = dict(self.row.replaced)
        if self.row.other_addresses:
            after["other_addresses"] = list(self.row.other_addresses)
        if self.further:
            after["further_calls"] = list(map(msgspec.structs.asdict, self.further))
        return Entry(
            sync=sync,
            action=change.kind,
            reason=change.reason,
            outcome="consent_raised" if self.rose else self.state.value,
            cause=change.cause,
            customer_id=change.customer_id,
            email_key=change.email_key,
            error=self.error,
            attempts=change.attempts + 1,
            request_id=self.request_id,
            before=before,
            after=after,
            origin=change.origin,
        )


def hold_of(change: ClaimedChange) -> tuple[bytes | None, str | None]:
    """Return hash and reason by which no run writes again what an undo takes back.

    An undo of the undo ends that.
    """
    held = change.pushed_hash if change.undoes and not change.held_hash else None
    return held, UNDONE if held else None


def iso(time: datetime | None) -> str | None:
    """Return a time as the audit shows it."""
    return None if time is None else time.astimezone(UTC).isoformat(timespec="seconds")


def observed_state(
    status: str,
    merge_fields: Mapping[str, Any] | None,
    tags: Sequence[str] | None,
    *,
    at: datetime | None,
    further: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the audit's state of a contact as it was read from Mailchimp at the time ``at``.

    What is None was never read, and is named in ``not_observed``. ``further``: groups and language,
    if the settings use them.
    """
    parts: dict[str, Any] = {"merge_fields": merge_fields, "tags": tags, **(further or {})}
    known = {name: value for name, value in parts.items() if value is not None}
    missing = [name for name, value in parts.items() if value is None]
    state = {"status": str(status), **known, "observed_at": iso(at)}
    return {**state, "not_observed": missing} if missing else state


def our_tags(scope: Scope, shown: Collection[str], *known: Collection[str]) -> list[str]:
    """Return those tags among ``shown`` that are ours to set: by the settings, or ``known``."""
    ours = {tag.casefold() for tag in _settable(scope, *known)}
    return [tag for tag in shown if tag.casefold() in ours]


def seen_tags(
    scope: Scope, change: ClaimedChange | StartedArchive, *known: Collection[str]
) -> list[str] | None:
    """Return the tags of ours, as ``our_tags``, that a contact had when last read; None if unread."""
    if change.seen_tags is None:
        return None
    seen = {bytes(key) for key in change.seen_tags}
    tags: dict[str, str] = {}
    for tag in _settable(scope, *known):
        tags.setdefault(tag.casefold(), tag)
    return [tag for tag in tags.values() if tag_key(tag, scope.vault) in seen]


def _settable(scope: Scope, *known: Collection[str]) -> Iterator[str]:
    for tags in known:
        yield from tags
    yield from scope.sync.tags.static
    yield scope.sync.inactive_tag


def archive_entry(
    sync: str,
    change: ClaimedChange | StartedArchive,
    *,
    outcome: str,
    before: Mapping[str, Any],
    status: Status = Status.ARCHIVED,
    error: str | None = None,
    request_id: str | None = None,
    further: Sequence[ExtraCall] = (),
) -> Entry:
    """Return the audit row of an archive.

    ``before``: the contact before the call. ``status``: its status now. ``further``: calls that
    took tags of ours off.
    """
    after: dict[str, Any] = {"status": status.value, "email": before.get("email")}
    if further:
        gone = {tag for call in further for tag in call.tags}
        after["tags"] = [tag for tag in before.get("tags", ()) if tag not in gone]
        after["further_calls"] = list(map(msgspec.structs.asdict, further))
    return Entry(
        sync=sync,
        action=Kind.ARCHIVE,
        reason=change.reason,
        outcome=outcome,
        cause=change.cause,
        customer_id=change.customer_id,
        email_key=change.email_key,
        error=error,
        attempts=change.attempts + 1,
        request_id=request_id,
        before=before,
        after=after,
        origin=change.origin,
    )


_REFUSALS = (
    "address_changed_in_mailchimp",
    "archived_by_marketer",
    "forgotten",
    "opted_out_elsewhere",
    "owned_by_another_sync",
    "suppressed",
)


def decision_entries(
    scope: Scope, people: Sequence[CustomerRow], decisions: Decisions, plan_id: int
) -> Iterator[Entry]:
    """Yield the audit entries of ``decisions`` on ``people`` in the plan ``plan_id``."""
    yield from _verdicts(scope, people, decisions, plan_id)
    yield from _left(scope, decisions, plan_id)


def _verdicts(
    scope: Scope, people: Sequence[CustomerRow], decisions: Decisions, plan_id: int
) -> Iterator[Entry]:
    """Yield an entry for every customer newly skipped or linked, or whose reason changed."""
    told = ("decision", "reason", "linked_to")
    others = decisions.customers[decisions.customers.decision != "contact"]
    known = {person.customer_id: person for person in people}
    for row in others.itertuples(index=False):
        person = known[row.customer_id]
        after = {name: _plain(getattr(row, name)) for name in told}
        before = {name: getattr(person, name) for name in told}
        if after == before:
            continue
        yield Entry(
            sync=scope.name,
            action="link" if row.decision == "linked" else "skip",
            reason=str(row.reason),
            outcome="refused" if row.reason in _REFUSALS else str(row.decision),
            cause=f"plan:{plan_id}",
            origin=scope.origins.get(str(row.customer_id)),
            customer_id=str(row.customer_id),
            email_key=person.email_key,
            attempts=0,
            before=before,
            after=after,
        )


def _left(scope: Scope, decisions: Decisions, plan_id: int) -> Iterator[Entry]:
    """Yield an entry for every contact that stays without a customer (A16b, A39)."""
    for row in decisions.left.itertuples(index=False):
        yield Entry(
            sync=scope.name,
            action="archive",
            reason=str(row.why),
            outcome="refused",
            cause=f"plan:{plan_id}",
            customer_id=_plain(row.owner),
            email_key=bytes.fromhex(row.email_key),
            attempts=0,
        )


def _plain(value: Any) -> Any:
    return None if value is None or value != value else value  # noqa: PLR0124 -- NaN is not itself
