"""Push queued changes to Mailchimp and settle them: the only place that writes contacts there.

The worker claims a chunk, sends it, and commits the outcomes with their audit rows. A worker killed
at any point leaves changes that are either settled or still pending. Sending a pending change again
is harmless. ``calls`` chooses the calls, ``outcomes`` turns responses into rows.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from msgspec import structs
from sqlalchemy import Connection

from ml_connector.audit import trail
from ml_connector.batching import drain, relaxed_gc
from ml_connector.errors import AudienceNotReady, ConsentRaised
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import (
    CONSENT_RANK,
    ChangeState,
    Customer,
    Kind,
    MemberWrite,
    Status,
)
from ml_connector.rules.addresses import normal_form
from ml_connector.rules.tags import TagWork, tag_work
from ml_connector.scope import Scope
from ml_connector.store import (
    batches,
    changes,
    claims,
    contacts,
    cursors,
    customers,
    deciding,
    intents,
    observations,
    sharing,
)
from ml_connector.store.changes import SettledChange
from ml_connector.store.claims import ClaimedChange, Risky
from ml_connector.sync import bisect, edits, planner
from ml_connector.sync.calls import ContactCalls, EveryOneRefused, SplitBatch, StatusRequired
from ml_connector.sync.edits import observation_of
from ml_connector.sync.fetch_members import (
    fetch_archived,
    fetch_members,
    observe,
    read_within,
    record_members,
    refresh_members,
)
from ml_connector.sync.further import Further
from ml_connector.sync.outcomes import Outcome, Row, observed_state, our_tags, seen_tags
from ml_connector.sync.permissions import Permissions
from ml_connector.sync.recovery import record_unknown_outcomes
from ml_connector.sync.room import Room

ROWS_A_CALL = {Kind.CREATE: 500, Kind.UPDATE: 500, Kind.RESTORE: 1}
BATCHED = (Kind.CREATE, Kind.UPDATE)
MAX_SINGLE_LOOKS = 5
"""Up to this many contacts are read one by one before a risky write; more as a list of changes."""

DECISION_VALID_FOR = timedelta(minutes=15)
"""A creation or restore decided longer ago is written only after the audience is read again."""

THREADS = 3
"""Connections per task. The pool's two slots make six to Mailchimp; webhooks add two more."""

ROUNDS = 3
"""A task decides superseded changes again at most this many times."""

CONTRACT_CURSOR = "batch_contract"
log = structlog.get_logger(__name__)


@relaxed_gc()
def push_shard(
    scope: Scope,
    client: MailchimpClient,
    *,
    plan_id: int,
    shard: int,
    threads: int = THREADS,
    again: bool = True,
) -> dict[str, int]:
    """Send a shard's creates, updates and restores; return the number of changes by final state.

    With ``again``, superseded changes are decided again and sent in the same task.

    Raises ``ConsentRaised`` if the consent check saw a status rise. Raises ``CreationRefused`` or
    ``UpdatesRefused`` in the end if Mailchimp takes no new contact, or no update: all else is sent.
    Passes on ``StopRun`` and ``RetryLater`` from the client. Everything sent before the error is
    settled.
    """
    with scope.database.begin() as connection:
        record_unknown_outcomes(scope, connection)
    pusher = Pusher(scope, client, plan_id, shard)
    for _ in range(ROUNDS):
        pusher.push_risky()
        pusher.push_lowering()
        observe(scope, client, plan_id=plan_id, shard=shard)
        for kind in (Kind.CREATE, Kind.UPDATE, Kind.RESTORE):
            step = partial(pusher.push_next, kind, ROWS_A_CALL[kind])
            drain(step, threads if scope.threads else 1)
            while kind in BATCHED and pusher.push_batch(kind, wait=True):
                pass  # batches that a decision held while the threads went by
        stale, pusher.stale = pusher.stale, set()
        if not again or not stale:
            break
        planner.decide_on(scope, plan_id=plan_id, customer_ids=stale, shard=shard)
    pusher.room.demand(scope, plan_id=plan_id)
    return dict(pusher.counts)


class Pusher:
    """Sends the changes of a shard. An undo has values of its own (``undo_push``)."""

    _undo = False

    def __init__(self, scope: Scope, client: MailchimpClient, plan_id: int, shard: int) -> None:
        self._scope, self._client = scope, client
        self._plan_id, self._shard = plan_id, shard
        with scope.database.begin() as connection:
            contract = cursors.get(connection, sync=scope.name, name=CONTRACT_CURSOR)
            self._further = Further.of(scope, connection)
            self._permissions = Permissions.of(scope, connection)
            self._others = sharing.readers(
                connection, sync=scope.name, audience=scope.sync.audience_id
            )
        self._calls = ContactCalls(client, self._permissions)
        self._status_required = contract.get("contract") == "status_required"
        self.room = Room()
        self._claiming = threading.Lock()
        self._claimed: Counter[Kind] = Counter()  # the last id claimed, by kind
        self._batch: Counter[Kind] = Counter()  # the last batch claimed, by kind
        self._counting = threading.Lock()
        self._probing = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.stale: set[str] = set()  # customers to decide on again; at most one shard's

    def push_next(
        self, kind: Kind, rows: int, ids: Sequence[int] | None = None, *, half: bool = False
    ) -> bool:
        """Claim and send a batch or up to ``rows`` changes; return whether there were any.

        ``half``: the changes are a part of a refused batch.
        """
        if self._takes_none(kind):
            return False
        if self._status_required and kind is Kind.CREATE:
            self._look_for_archived()
        if ids is None and kind in BATCHED and self.push_batch(kind):
            return True
        if self._status_required and kind is Kind.UPDATE:
            return self._push_alone(kind, ids)
        if self._permissions and kind is Kind.CREATE and ids is None:
            rows = self._permissions.rows
        return bool(self._push_claimed(lambda c: self._claim(c, kind, rows, ids), half=half))

    def _takes_none(self, kind: Kind) -> bool:
        """Return whether Mailchimp takes no change of a kind, after a probe that is under way."""
        with self._probing:
            return self.room.is_none(kind)

    def push_batch(self, kind: Kind, *, wait: bool = False) -> bool:
        """Claim and send a batch, after waiting for its lock if need be; return if there was one."""
        if self._takes_none(kind):
            return False
        one_by_one = self._status_required and kind is Kind.UPDATE
        if one_by_one or (self._permissions and kind is Kind.CREATE):
            with self._scope.database.begin() as connection:
                batches.dissolve_all(
                    connection, plan_id=self._plan_id, shard=self._shard, kind=kind
                )
            return False
        return bool(self._push_claimed(lambda c: self._claim_batch(c, kind, wait=wait)))

    def _push_alone(self, kind: Kind, ids: Sequence[int] | None) -> bool:
        """Send one change by a call of its own: its outcome is stored before the next call.

        As long as Mailchimp took none, a refusal asks whether it refuses every one (A56).
        """
        claim = partial(self._claim, kind=kind, rows=1, ids=ids)
        try:
            return bool(self._push_claimed(claim, probing=not self.room.is_judged(kind)))
        except SplitBatch:
            with self._scope.database.begin() as connection:
                others = self._some(connection, kind)
            if not self._refuses_every_one(others):
                self.room.judge(kind)
            return True

    def _some(self, connection: Connection, kind: Kind) -> list[ClaimedChange]:
        return claims.claim(
            connection,
            plan_id=self._plan_id,
            shard=self._shard,
            kinds=[kind],
            chunk=ROWS_A_CALL[kind],
            undo=self._undo,
        )

    def _push_claimed(
        self,
        claim: Callable[[Connection], list[ClaimedChange]],
        *,
        half: bool = False,
        probing: bool = False,
    ) -> list[ClaimedChange]:
        claimed: list[ClaimedChange] = []
        risen: list[str] = []
        split = False
        try:
            with self._scope.database.begin(patient=True) as connection:
                claimed = claim(connection)
                try:
                    risen = self._push(connection, claimed, probing)
                except SplitBatch:
                    if probing:
                        raise
                    if claimed[0].batch_id is not None:
                        batches.dissolve(connection, batch_id=claimed[0].batch_id)
                    split = True
        except StatusRequired:
            self._learn_contract()
        except EveryOneRefused as error:
            self.room.refuse(Kind(claimed[0].kind), error)
            claimed = []
        if self._permissions and claimed and self._permissions.problem:
            raise AudienceNotReady(
                f"audience {self._scope.sync.audience_id} is not ready:"
                f" {self._permissions.problem}; correct marketing_permissions in syncs.yaml"
            )
        if split and not half and self._refuses_every_one(claimed):
            return []
        for part in bisect.halves(claimed) if split else ():
            ids = [change.id for change in part]
            self.push_next(Kind(part[0].kind), len(ids), ids, half=True)
        if risen:
            raise ConsentRaised(
                f"Mailchimp reports a higher status than known for customer {', '.join(risen)} "
                "after a write of ours; writing stopped. Look at these contacts in the audit, "
                "then run the sync again: it reads every status first"
            )
        return claimed

    def _refuses_every_one(self, claimed: Sequence[ClaimedChange]) -> bool:
        """Return whether Mailchimp refuses all changes of this kind for one reason. Costs a few calls."""
        if not claimed:
            return False
        kind = Kind(claimed[0].kind)
        with self._probing:
            if not self.room.is_none(kind) and (
                reason := bisect.one_reason(claimed, self._send_alone)
            ):
                self.room.refuse(kind, reason)
        return self.room.is_none(kind)

    def _send_alone(self, change: ClaimedChange) -> bisect.Alone:
        """Send one change of a refused batch. It is settled unless Mailchimp refuses the call."""
        try:
            sent = self._push_claimed(
                lambda c: self._claim(c, Kind(change.kind), 1, [change.id]), probing=True
            )
        except SplitBatch as refused:
            return bisect.Alone(sent=True, refused=refused)
        return bisect.Alone(sent=bool(sent))

    def _claim_batch(
        self, connection: Connection, kind: Kind, *, wait: bool
    ) -> list[ClaimedChange]:
        claim = partial(
            claims.claim_batch,
            connection,
            plan_id=self._plan_id,
            shard=self._shard,
            kind=kind,
        )
        if wait:
            return claim(wait=True)
        with self._claiming:
            claimed = claim(after=self._batch[kind])
            if not claimed and self._batch[kind]:
                claimed = claim()
            self._batch[kind] = claimed[0].batch_id or 0 if claimed else 0
            return claimed

    def _claim(
        self, connection: Connection, kind: Kind, rows: int, ids: Sequence[int] | None
    ) -> list[ClaimedChange]:
        """Claim from the last id on; at the end, start again from the beginning."""
        claim = partial(
            claims.claim,
            connection,
            plan_id=self._plan_id,
            shard=self._shard,
            kinds=[kind],
            chunk=rows,
            ids=ids,
            undo=self._undo,
        )
        if ids is not None:
            return claim()
        with self._claiming:  # two concurrent claims would split the rows of one call
            claimed = claim(after=self._claimed[kind])
            if not claimed and self._claimed[kind]:
                claimed = claim()
            self._claimed[kind] = claimed[-1].id if claimed else 0
            return claimed

    def _push(
        self, connection: Connection, claimed: Sequence[ClaimedChange], probing: bool
    ) -> list[str]:
        """Send the changes that are still current and store the outcomes.

        Returns the ids of customers whose status rose.
        """
        if not claimed:
            return []
        batch_id = claimed[0].batch_id
        current = [change for change in claimed if change.current]
        rows = self._rows(connection, current)
        outcomes = self._send(connection, rows, batch_id, probing) if rows else []
        stale = [change for change in claimed if not change.current]
        self._drop(connection, stale, batch_id)
        risen = self._settle(connection, outcomes, batch_id)
        self.room.look(outcomes)
        if batch_id is not None:
            batches.settle(connection, batch_id=batch_id)
        return risen

    def _rows(self, connection: Connection, current: Sequence[ClaimedChange]) -> list[Row]:
        """Return the changes with the writes they call for."""
        left = self._left_by_others(connection, current)
        brought = edits.brought(self._scope, connection, current)
        others = sharing.sent_by_others(
            connection,
            others=self._others,
            keys=[change.email_key for change in current if change.observation],
            vault=self._scope.vault,
        )
        return [
            self._row(
                change,
                left.get(bytes(change.email_key), ()),
                brought,
                others.get(bytes(change.email_key), ()),
            )
            for change in current
        ]

    def _drop(
        self, connection: Connection, stale: Sequence[ClaimedChange], batch_id: int | None
    ) -> None:
        """Settle the changes whose data changed before they were written."""
        dropped = [SettledChange(id=change.id, state=ChangeState.SUPERSEDED) for change in stale]
        self._settle_changes(connection, dropped, batch_id)
        self._decide_again(connection, stale)

    def _send(
        self, connection: Connection, rows: Sequence[Row], batch_id: int | None, probing: bool
    ) -> list[Outcome]:
        """Send under an intent, so a call whose response is never stored can be found later."""
        ids = [row.change.id for row in rows]
        with self._scope.database.begin() as at_once:
            intent = intents.put_batch(at_once, ids, sync=self._scope.name, batch_id=batch_id)
        try:
            outcomes = self._calls.send(
                rows,
                status_required=self._status_required,
                probing=probing,
                judged=self.room.is_judged(Kind(rows[0].change.kind)),
            )
        except (SplitBatch, StatusRequired, EveryOneRefused):  # nothing was written
            with self._scope.database.begin() as at_once:
                intents.end_batch(at_once, intent)
            raise
        intents.end_batch(connection, intent)
        return outcomes

    def push_risky(self) -> None:
        """Write creations and restores that rest on other contacts, each after a fresh look (A42).

        The look stores what it finds. A superseded change is then decided again. Before
        creations and restores that were decided long ago, the audience is read once.
        """
        place = {"plan_id": self._plan_id, "shard": self._shard}
        with self._scope.database.begin() as connection:
            old = claims.any_older(connection, **place, than=DECISION_VALID_FOR)
            old = old and not read_within(self._scope, connection, DECISION_VALID_FOR)
        if old:
            fetch_members(self._scope, self._client)
        after = 0
        while True:
            with self._scope.database.begin() as connection:
                risky = claims.next_risky(
                    connection, **place, after=after, chunk=ROWS_A_CALL[Kind.CREATE]
                )
            if not risky:
                return
            self._look(risky)
            for kind in (Kind.CREATE, Kind.RESTORE):
                if ids := [each.id for each in risky if each.kind == kind]:
                    self.push_next(kind, len(ids), ids)
            after = risky[-1].id

    def push_lowering(self) -> None:
        """Lower statuses, each by a call of its own: nothing that is refused holds up an opt-out."""
        with self._scope.database.begin() as connection:
            due = claims.lowering(connection, plan_id=self._plan_id, shard=self._shard)
        for id_ in due:
            self._push_claimed(partial(self._claim, kind=Kind.UPDATE, rows=1, ids=[id_]))

    def _look_for_archived(self) -> None:
        """Read what was archived meanwhile, before creations that carry a status (A19).

        Under the older contract such a creation would bring an archived member back.
        """
        with self._scope.database.begin() as connection:
            due = changes.any_pending(
                connection, plan_id=self._plan_id, shard=self._shard, kind=Kind.CREATE
            )
        if due:
            fetch_archived(self._scope, self._client)

    def _look(self, risky: Sequence[Risky]) -> None:
        """Read the contacts that ``risky`` changes rest on, and store what they are now."""
        scope = self._scope
        keys = {key for each in risky for key in each.former}
        few = len(keys) <= MAX_SINGLE_LOOKS
        if few:
            with scope.database.begin() as connection:
                # Of a member who took another address, the status there counts (A28b).
                keys |= set(contacts.aliases(connection, sync=scope.name, keys=keys))
                found = contacts.handles(connection, sync=scope.name, keys=keys, vault=scope.vault)
            few = all(handle.contact_id or handle.email for handle in found)
        if few:
            refresh_members(scope, self._client, found)
        else:
            fetch_members(scope, self._client)

    def _follow(self, connection: Connection, vanished: Sequence[Outcome]) -> None:
        """Mark contacts as moved that left their address, and link them to where they are (A43)."""
        if not vanished:
            return
        scope = self._scope
        keys = [outcome.row.change.email_key for outcome in vanished]
        for outcome in vanished:
            member, former = outcome.moved_to, normal_form(outcome.row.write.email_address)
            if member is not None and normal_form(member.email_address) != former:
                record_members(
                    scope,
                    connection,
                    [member],
                    source="poll",
                    moved_from={normal_form(member.email_address): former},
                )
        contacts.mark_moved(connection, sync=scope.name, keys=keys)
        deciding.mark_dirty(connection, sync=scope.name, keys=keys)

    def _settle_changes(
        self, connection: Connection, settled: Sequence[SettledChange], batch_id: int | None
    ) -> None:
        """Store outcomes: of rows, or of those changes of a batch that were not applied."""
        if batch_id is None:
            changes.settle(connection, settled)
        else:
            changes.settle_apart(connection, settled, batch_id=batch_id)

    def _decide_again(self, connection: Connection, stale: Sequence[ClaimedChange]) -> None:
        """Mark the customers of superseded changes for a new decision (A34)."""
        keys = [change.email_key for change in stale]
        if keys:
            deciding.mark_dirty(connection, sync=self._scope.name, keys=keys)
            self._count("superseded", len(stale))
            there = customers.at(connection, sync=self._scope.name, keys=keys)
            with self._counting:
                self.stale.update(there, (change.customer_id for change in stale))

    def _left_by_others(
        self, connection: Connection, claimed: Sequence[ClaimedChange]
    ) -> dict[bytes, list[str]]:
        """Return the tags that other syncs gave to contacts this sync now owns: ours to remove."""
        taken = [c.email_key for c in claimed if c.contact_payload is None or c.reason == "adopted"]
        beside = self._scope.sync.beside
        if not beside or not taken:
            return {}
        return sharing.leftover_tags(connection, others=beside, keys=taken, vault=self._scope.vault)

    def _row(
        self,
        change: ClaimedChange,
        left: Sequence[str],
        brought: Mapping[bytes, Mapping[str, Any]],
        others: Sequence[Mapping[str, Any]],
    ) -> Row:
        scope = self._scope
        customer = customers.decrypted(
            change.customer_payload or b"",
            sync=scope.name,
            customer_id=change.customer_id,
            vault=scope.vault,
        )
        if change.lowers:
            write = MemberWrite(
                email_address=customer.addresses[0], merge_fields={}, status=Status.UNSUBSCRIBED
            )
            return Row(change, write)
        shown = self._shown(change)
        past = shown.get("merge_fields")
        row = edits.fields_of(scope, change, customer, past=past, moved=brought, others=others)
        tags = self._tags(change, customer, left, shown)
        status_if_new, status = _statuses(change)
        write = structs.replace(
            row.write, tags=tags.wanted, status_if_new=status_if_new, status=status
        )
        row = structs.replace(row, write=write, tags=tags)
        return self._further.added(row, customer, shown) if self._further else row

    def _tags(
        self,
        change: ClaimedChange,
        customer: Customer,
        left: Sequence[str],
        shown: Mapping[str, Any],
    ) -> TagWork:
        sync, vault = self._scope.sync, self._scope.vault
        wanted = sync.tags.static if customer.tags is None else customer.tags
        inactive = [sync.inactive_tag]
        known = change.known_status not in (None, Status.ABSENT)
        seen = change.seen_tags if known else ()
        return tag_work(
            (*wanted, *(inactive if change.tag_inactive else [])),
            past=(*shown.get("tags", inactive if change.tagged_inactive else []), *left),
            seen=None if seen is None else tuple(seen),
            vault=vault,
        )

    def _settle(
        self, connection: Connection, outcomes: Sequence[Outcome], batch_id: int | None
    ) -> list[str]:
        if not outcomes:
            return []
        scope = self._scope
        now = scope.clock()
        entries = [o.entry(scope.name, self._observed(o)) for o in outcomes]
        batch = trail.encrypted(entries, run=scope.run, vault=scope.vault)
        settled = [outcome.settled for outcome in outcomes]
        arrived = [o.row.change.email_key for o in outcomes if o.present]
        refused = {o.row.change.email_key: why for o in outcomes if (why := o.kept_out)}
        full = [o for o in outcomes if not o.row.change.lowers]
        contacts.record(  # takes the sync lock: one thread at a time from here
            connection,
            [outcome.written(now, scope.vault) for outcome in full if not outcome.vanished],
            sync=scope.name,
            vault=scope.vault,
            unknown=all(outcome.row.change.known_status is None for outcome in outcomes),
        )
        self._lowered(connection, [o for o in outcomes if o.row.change.lowers])
        self._observe(connection, full)
        self._follow(connection, [outcome for outcome in outcomes if outcome.vanished])
        self._settle_changes(connection, settled, batch_id)
        deciding.mark_represented(connection, sync=scope.name, keys=arrived)
        deciding.mark_refused(connection, sync=scope.name, refused=refused)
        # Last: appending audit rows before waiting for the sync lock could deadlock with a sealer
        # and a planner.
        trail.append_batch(connection, batch, vault=scope.vault)
        for state, number in Counter(change.state for change in settled).items():
            self._count(state.value, number)
        return [outcome.row.change.customer_id for outcome in outcomes if outcome.rose]

    def _lowered(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        """Store lowered statuses. What else changed at these customers is decided afterwards."""
        scope = self._scope
        statuses = {
            o.row.change.email_key: o.member.status for o in outcomes if o.member is not None
        }
        if statuses:
            contacts.set_status(connection, sync=scope.name, statuses=statuses)
            deciding.mark_dirty(connection, sync=scope.name, keys=statuses)
            with self._counting:
                self.stale.update(o.row.change.customer_id for o in outcomes)

    def _observe(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        """Keep what contacts show after a write where it is not all ours, else end the difference."""
        scope = self._scope
        # A member that did not exist before shows what it was made of.
        written = [o for o in outcomes if o.member is not None and not o.created]
        shown = edits.still_differing(scope, written)
        kept = {key: each for key, each in shown.items() if each is not None}
        cleared = {o.row.change.email_key for o in written} - shown.keys()
        ended = edits.no_longer_suggested(scope, written, shown)
        contacts.show_again(connection, sync=scope.name, keys=ended)
        observations.clear(connection, sync=scope.name, keys=cleared)
        observations.record(connection, kept, sync=scope.name, at=scope.clock(), vault=scope.vault)

    def _observed(self, outcome: Outcome) -> dict[str, Any] | None:
        """Return the contact as last observed before the write; None if it was in no audience."""
        row, scope = outcome.row, self._scope
        change = row.change
        past = self._shown(change)
        fields: Mapping[str, Any] | None
        tags: list[str] | None
        if outcome.observed is not None:
            fields = observation_of(scope, outcome.observed).merge_fields
            tags = our_tags(scope, outcome.observed.tags, past.get("tags", ()), row.tags.wanted)
            further = self._further.of_member(outcome.observed) if self._further else None
            return observed_state(
                outcome.observed.status, fields, tags, at=scope.clock(), further=further
            )
        known = change.known_status
        if known is None or (known == Status.ABSENT and change.kind == Kind.CREATE):
            # A creation that met a member: of what it was before, only the status is known.
            met = outcome.member if not outcome.created else None
            return None if met is None else observed_state(met.status, None, None, at=None)
        tags = seen_tags(scope, change, past.get("tags", ()), row.tags.wanted)
        further = self._further.seen(change) if self._further else None
        if change.observation is not None:
            seen = row.seen or edits.seen_by(scope, change)
            fields = seen.merge_fields if seen else None
            at = change.observed_at
            return observed_state(known, fields, tags, at=at, further=further)
        fields = past.get("merge_fields")
        return observed_state(known, fields, tags, at=change.seen_at, further=further)

    def _shown(self, change: ClaimedChange) -> dict[str, Any]:
        """Return what the contact shows since our last write; empty if there was none."""
        if change.contact_payload is None:
            return {}
        identity = contacts.identity(self._scope.name, bytes(change.email_key))
        shown: dict[str, Any] = self._scope.vault.decrypt(change.contact_payload, identity)
        return shown

    def _learn_contract(self) -> None:
        self._status_required = True
        with self._scope.database.begin() as connection:
            value = {"contract": "status_required"}
            cursors.put(connection, sync=self._scope.name, name=CONTRACT_CURSOR, value=value)
        log.warning("batch_needs_status", sync=self._scope.name)

    def _count(self, what: str, number: int = 1) -> None:
        with self._counting:
            self.counts[what] += number


def _statuses(change: ClaimedChange) -> tuple[Status | None, Status | None]:
    """Return a row's ``status_if_new`` and ``status``.

    ``status_if_new`` never changes a known member's status.
    """
    status = Status(change.status or Status.UNSUBSCRIBED)
    if change.kind == Kind.RESTORE:
        if change.known_status == Status.ARCHIVED and change.previous_status:
            # An opt-out since the plan: the contact comes back with no higher status.
            status = min(status, Status(change.previous_status), key=CONSENT_RANK.__getitem__)
        return None, status
    if change.kind == Kind.CREATE:
        return status, None
    return Status.UNSUBSCRIBED, None  # if the audience no longer has the address
