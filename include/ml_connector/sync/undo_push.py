"""Push an undo: write back the state before a run, archive what it created, restore what it archived.

The calls, intents and outcomes are those of every push. Only the values come from the audit, and
the store then holds the write that was taken back: no run writes the same data again by itself.
"""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection

from ml_connector.audit import runs, trail
from ml_connector.batching import drain, relaxed_gc
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import Kind, Member, MemberWrite, Status, Unreadable
from ml_connector.rules import undo as rules
from ml_connector.rules.edits import CHANGED
from ml_connector.rules.tags import TagWork, tag_key
from ml_connector.rules.undo import Undoing, Written
from ml_connector.scope import Scope
from ml_connector.store import changes, claims, deciding, undos
from ml_connector.store.claims import ClaimedChange
from ml_connector.store.database import lock_sync
from ml_connector.store.undos import UndoneRun, Verdict
from ml_connector.sync import edits
from ml_connector.sync.archive import archive_one, left_unread
from ml_connector.sync.outcomes import CHANGED_SINCE, Outcome, Row, UndoneRow
from ml_connector.sync.push import ROWS_A_CALL, THREADS, Pusher
from ml_connector.sync.recovery import record_unknown_outcomes
from ml_connector.sync.undo import after_lost, left_entries, recheck, undoing_by, written_by


@relaxed_gc()
def write_undo(
    scope: Scope, client: MailchimpClient, *, plan_id: int, threads: int = THREADS
) -> dict[str, int]:
    """Write an undo's pending changes; return the number of changes by final state.

    A second call goes on where the first one ended. Raises as ``push_shard`` does.
    """
    with scope.database.begin() as connection:
        record_unknown_outcomes(scope, connection)
        undone = undos.run_of_plan(connection, plan_id=plan_id)
        due = changes.pending_kinds(connection, plan_id=plan_id)
    if undone is None:
        return {}
    if due:
        recheck(scope, client, plan_id=plan_id, undone=undone)
    pusher = UndoPusher(scope, client, plan_id, undone)
    for kind in (Kind.RESTORE, Kind.UPDATE):
        if kind in due:
            drain(partial(pusher.push_next, kind, ROWS_A_CALL[kind]), threads)
    if Kind.ARCHIVE in due:
        drain(partial(_archive_next, scope, client, pusher), threads)
    with scope.database.begin() as connection:
        undos.return_customers(connection, plan_id=plan_id)
    pusher.room.demand(scope, plan_id=plan_id)
    return dict(pusher.counts)


class UndoPusher(Pusher):
    """Sends what an undo writes back."""

    _undo = True

    def __init__(
        self, scope: Scope, client: MailchimpClient, plan_id: int, undone: UndoneRun
    ) -> None:
        super().__init__(scope, client, plan_id, 0)
        self.plan_id, self.undone = plan_id, undone
        with scope.database.begin() as connection:
            self._run = written_by(scope, connection, undone)
            self.undoing_of = undoing_by(scope, connection)

    def written(
        self, connection: Connection, claimed: Sequence[ClaimedChange]
    ) -> dict[bytes, list[Written]]:
        """Return the run's rows about the contacts of changes."""
        keys = [bytes(change.email_key) for change in claimed]
        return runs.rows_of(connection, self._run, keys=keys, vault=self._scope.vault)

    def count(self, state: str) -> None:
        """Count a change that was settled."""
        self._count(state)

    def _rows(self, connection: Connection, current: Sequence[ClaimedChange]) -> list[Row]:
        written = self.written(connection, current)
        lost = undos.lost_restores(
            connection,
            sync=self._scope.name,
            run_id=self.undone.run_id,
            keys=[bytes(each.email_key) for each in current if each.kind == Kind.RESTORE],
        )
        rows = []
        for change in current:
            key = bytes(change.email_key)
            undoing = self.undoing_of(written.get(key) or [_ERASED])
            if key in lost:
                undoing = after_lost(undoing, lost[key])
            if isinstance(undoing, str):
                self._leave(connection, [change], undoing)
            else:
                rows.append(self._undo_row(change, undoing, lost=key in lost))
        return rows

    def _undo_row(self, change: ClaimedChange, undoing: Undoing, *, lost: bool) -> Row:
        shown, seen = self._shown(change), edits.seen_by(self._scope, change)
        tags = _tag_work(self._scope, change, undoing, shown.get("tags", ()))
        status = None
        if change.status:
            status = rules.restored_status(undoing, change.previous_status)
        write = MemberWrite(
            email_address=undoing.email,
            merge_fields=undoing.fields,
            tags=tags.wanted,
            status_if_new=None if status else Status.UNSUBSCRIBED,
            status=status,
        )
        inactive = self._scope.sync.inactive_tag.casefold()
        redo = change.held_hash is not None
        returned = undoing.kind is Kind.RESTORE or undoing.adopted
        undo = UndoneRow(
            owner=change.customer_id if redo or not returned else None,
            told=undoing.told,
            filled=_filled(change, undoing),
            tagged_inactive=inactive in {tag.casefold() for tag in tags.ours},
            lost=lost,
        )
        past = shown.get("merge_fields", {})
        kept = {tag: past.get(tag, value) for tag, value in {**undoing.kept, **past}.items()}
        edited = dict.fromkeys(seen.since, CHANGED) if seen else {}
        row = Row(
            change,
            write,
            tags=tags,
            kept={tag: value for tag, value in kept.items() if tag not in undoing.fields},
            edited={tag: why for tag, why in edited.items() if tag not in undoing.fields},
            seen=seen,
            further={name: shown[name] for name in ("groups", "language") if name in shown},
            undo=undo,
        )
        if self._further is None:
            return row
        given_up = undoing.adopted and not redo
        return self._further.taken_back(row, undoing, shown, given_up=given_up)

    def _drop(
        self, connection: Connection, stale: Sequence[ClaimedChange], batch_id: int | None
    ) -> None:
        del batch_id  # an undo has no batches
        self._leave(connection, stale, rules.CHANGED)

    def _leave(self, connection: Connection, left: Sequence[ClaimedChange], reason: str) -> None:
        if left:
            lock_sync(connection, sync=self._scope.name)  # before rows of the audit
            undos.leave(connection, reasons=dict.fromkeys((each.id for each in left), reason))
            self._count("left", len(left))
            entries = left_entries(
                self._scope, self.undone.run_id, [_verdict(each, reason) for each in left]
            )
            trail.append(connection, entries, run=self._scope.run, vault=self._scope.vault)

    def leave(self, connection: Connection, change: ClaimedChange, reason: str) -> None:
        """Leave a contact unchanged."""
        self._leave(connection, [change], reason)

    def _settle(
        self, connection: Connection, outcomes: Sequence[Outcome], batch_id: int | None
    ) -> list[str]:
        if outcomes:
            keys = [outcome.row.change.email_key for outcome in outcomes]
            # A reader of the row then sees that its data is held.
            deciding.mark_dirty(connection, sync=self._scope.name, keys=keys)
        return super()._settle(connection, outcomes, batch_id)


_ERASED = Written(id=0, action="", reason="")


def _verdict(change: ClaimedChange, reason: str) -> Verdict:
    return Verdict(change.email_key, change.customer_id, change.kind, reason, None, "left")


def _filled(change: ClaimedChange, undoing: Undoing) -> frozenset[str]:
    """Return the merge fields that hold a value of ours after the undo."""
    if undoing.adopted and change.held_hash is None:
        return frozenset()
    ours = {*change.sent_fields, *undoing.cleared}
    shows = {**undoing.kept, **undoing.fields}
    return frozenset(tag for tag, value in shows.items() if value and tag in ours)


def _tag_work(
    scope: Scope, change: ClaimedChange, undoing: Undoing, past: Sequence[str]
) -> TagWork:
    """Return the tags to add and to remove; ours are those that were ours before the run."""
    seen = None if change.seen_tags is None else frozenset(map(bytes, change.seen_tags))
    if undoing.tags is None:
        return TagWork(wanted=tuple(past), ours=tuple(past), seen=seen)
    mine = {tag.casefold() for tag in past} | {tag.casefold() for tag in undoing.add}
    ours = tuple(tag for tag in undoing.tags if tag.casefold() in mine)
    if undoing.adopted and change.held_hash is None:
        ours = ()
    if seen is not None:
        seen |= {tag_key(tag, scope.vault) for tag in undoing.add}
        seen -= {tag_key(tag, scope.vault) for tag in undoing.drop}
    return TagWork(
        wanted=undoing.tags, missing=undoing.add, drop=undoing.drop, ours=ours, seen=seen
    )


def _archive_next(scope: Scope, client: MailchimpClient, pusher: UndoPusher) -> bool:
    with scope.database.begin(patient=True) as connection:
        claimed = claims.claim(
            connection,
            plan_id=pusher.plan_id,
            shard=None,
            kinds=[Kind.ARCHIVE],
            chunk=1,
            undo=True,
        )
        for change in claimed:
            _archive(scope, client, connection, pusher, change)
    return bool(claimed)


def _archive(
    scope: Scope,
    client: MailchimpClient,
    connection: Connection,
    pusher: UndoPusher,
    change: ClaimedChange,
) -> None:
    rows = pusher.written(connection, [change]).get(bytes(change.email_key))
    undoing = pusher.undoing_of(rows) if rows else rules.ERASED
    if isinstance(undoing, str) or not change.current or change.contact_payload is None:
        pusher.leave(connection, change, undoing if isinstance(undoing, str) else rules.CHANGED)
        return
    found = client.get(undoing.email)
    ours = change.started
    if isinstance(found, Unreadable):
        pusher.count(left_unread(scope, connection, change, found))
        return
    if found is not None and not rules.still(undoing, found, archived_by_us=ours):
        pusher.leave(connection, change, CHANGED_SINCE)
        return
    state = archive_one(scope, client, connection, change, found=found, untag=_worn(undoing, found))
    deciding.mark_dirty(connection, sync=scope.name, keys=[change.email_key])
    pusher.count(state)


def _worn(undoing: Undoing, found: Member | None) -> tuple[str, ...]:
    if found is None or found.status is Status.ARCHIVED:
        return ()
    worn = {tag.casefold() for tag in found.tags}
    return tuple(tag for tag in undoing.drop if tag.casefold() in worn)
