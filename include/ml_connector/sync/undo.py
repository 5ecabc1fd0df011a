"""Undo a run: plan what takes each contact back to its state before the run (E3).

The run's audit rows say what it left and what was before. The audience says what is there now. A
contact that is neither as it was left nor as it was before was changed since: it is listed and left.
The plan is one like any other: it passes the guard, waits for approval, and can be previewed.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial

import msgspec
import structlog
from sqlalchemy import Connection

from ml_connector.audit import runs, trail
from ml_connector.audit.runs import WrittenBy
from ml_connector.audit.trail import Entry
from ml_connector.errors import SettingsError
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.mailchimp.protocol import MAX_COUNT
from ml_connector.model import CANNOT_ARCHIVE, UNARCHIVABLE, Kind, Member, Unreadable, page_of
from ml_connector.rules import undo as rules
from ml_connector.rules.addresses import normal_form
from ml_connector.rules.undo import Undoing, Written
from ml_connector.scope import Scope
from ml_connector.store import changes, contacts, cursors, deciding, plans, sharing, undos
from ml_connector.store.changes import UNDO
from ml_connector.store.database import lock_sync
from ml_connector.store.undos import ContactNow, UndoneRun, Verdict
from ml_connector.store.unreadable import MAILCHIMP, unreadable_at
from ml_connector.sync.fetch_members import (
    MAX_SINGLE_LINKS,
    SWAP_CURSOR,
    complaints_among,
    fetch_members,
    record_members,
)
from ml_connector.sync.groups import group_names
from ml_connector.sync.planner import CHUNKS
from ml_connector.sync.recovery import record_unknown_outcomes, settle_archives
from ml_connector.sync.unreadable_members import record_unreadable

ROWS_A_PAGE = 1_000
"""Audit rows that are looked at together."""
CHANGE_REASON = "undo"
log = structlog.get_logger(__name__)


def find_run(connection: Connection, run: str, *, sync: str | None = None) -> UndoneRun:
    """Return the run that a plan's number or a run's id names.

    Raises ``SettingsError`` if there is none, or if several syncs had a run of that id.
    """
    found = undos.find_runs(connection, run=run.strip(), sync=sync)
    if not found:
        raise SettingsError(
            f"no run {run!r} can be undone: give a plan's number or a run's id, as the console"
            " shows them. A preview wrote nothing"
        )
    if len({each.sync for each in found}) > 1:
        names = ", ".join(sorted({each.sync for each in found}))
        raise SettingsError(f"{run!r} names runs of several syncs ({names}); choose one")
    return found[0]


def plan_undo(
    scope: Scope, client: MailchimpClient, *, undone: UndoneRun, preview: bool = False
) -> int:
    """Decide what takes the run's contacts back; return the plan. Writes nothing to Mailchimp.

    Reads the contacts one by one, or the entire audience if that takes fewer calls. With
    ``preview`` the changes are stored for viewing. What an earlier undo of this run has left undone
    is decided on again, and an archive that it began is this plan's.
    """
    plan = _Plan(scope, undone, preview=preview)
    with scope.database.begin() as connection:
        if preview:
            changes.drop_preview(connection, plan_id=plan.id)
        else:
            record_unknown_outcomes(scope, connection)
            lock_sync(connection, sync=scope.name, at="deciding")
            for former in undos.former_plans(connection, plan_id=plan.id, undone=undone):
                changes.supersede(connection, sync=scope.name, plan_id=former)
                undos.take_over(connection, plan_id=plan.id, former=former)
        rows = runs.count(connection, plan.run)
        pages = contacts.count(connection, sync=scope.name) // MAX_COUNT
    listed = rows > max(MAX_SINGLE_LINKS, pages)
    if listed:
        fetch_members(scope, client, full_sync=True, on_page=plan.judge)
    for keys in plan.iter_left():
        if listed:
            plan.judge_unlisted(keys)
        else:
            plan.judge_singly(client, keys)
    with scope.database.begin() as connection:
        settle_archives(scope, connection)
    log.info("undo_planned", sync=scope.name, run=undone.run_id, preview=preview, rows=rows)
    return plan.id


def written_by(scope: Scope, connection: Connection, undone: UndoneRun) -> WrittenBy:
    """Return whose rows to read: those of the run that went to the present audience."""
    swap = cursors.get(connection, sync=scope.name, name=SWAP_CURSOR).get("at")
    since = max(undone.created_at, datetime.fromisoformat(swap)) if swap else undone.created_at
    return WrittenBy(sync=scope.name, run_id=undone.run_id, since=since)


class _Plan:
    """The plan of an undo while it is made."""

    def __init__(self, scope: Scope, undone: UndoneRun, *, preview: bool) -> None:
        self._scope, self._undone, self._preview = scope, undone, preview
        self.id = scope.plan_id("undo_preview" if preview else "undo")
        with scope.database.begin() as connection:
            undos.remember_run(connection, plan_id=self.id, undone=undone)
            self.run = written_by(scope, connection, undone)

    def judge(self, members: Sequence[Member]) -> None:
        """Decide on those of ``members`` that the run has written."""
        vault = self._scope.vault
        shown = {vault.email_key(normal_form(each.email_address)): each for each in members}
        with self._scope.database.begin() as connection:
            written = runs.rows_of(connection, self.run, keys=shown.keys(), vault=vault)
        if written:
            self._decide(written, shown)

    def iter_left(self) -> Iterator[list[bytes]]:
        """Yield, page by page, contacts of the run that are not decided on yet."""
        last = 0
        while True:
            with self._scope.database.begin() as connection:
                page = runs.page(connection, self.run, after=last, limit=ROWS_A_PAGE)
                keys = list(dict.fromkeys(key for _, key in page))
                done = undos.judged(connection, plan_id=self.id, keys=keys)
            if not page:
                return
            last = page[-1][0]
            if left := [key for key in keys if key not in done]:
                yield left

    def judge_unlisted(self, keys: Collection[bytes]) -> None:
        """Decide on contacts that a complete listing did not show, or not readably."""
        scope = self._scope
        with scope.database.begin() as connection:
            written = runs.rows_of(connection, self.run, keys=keys, vault=scope.vault)
            unread = unreadable_at(connection, sync=scope.name, system=MAILCHIMP, keys=keys)
        shown = {
            key: Unreadable(record=key.hex(), reason=reason, digest="")
            for key, reason in unread.items()
        }
        self._decide(written, shown)

    def judge_singly(self, client: MailchimpClient, keys: Collection[bytes]) -> None:
        """Read contacts one by one, and decide on them."""
        scope = self._scope
        with scope.database.begin() as connection:
            written = runs.rows_of(connection, self.run, keys=keys, vault=scope.vault)
        found: dict[bytes, Member | Unreadable | None] = {}
        for key, rows in written.items():
            email = (rows[-1].after or {}).get("email")
            found[key] = client.get(str(email)) if email else None
        members = page_of([each for each in found.values() if each is not None])
        complaints = complaints_among(members, client.complainants)
        with scope.database.begin() as connection:
            record_unreadable(scope, connection, members)
            record_members(scope, connection, members, source="poll", complaints=complaints)
        self._decide(written, found)

    def _decide(
        self,
        written: Mapping[bytes, list[Written]],
        shown: Mapping[bytes, Member | Unreadable | None],
    ) -> None:
        """Queue what takes contacts back. Waits for calls about them, and supersedes their changes."""
        scope, name = self._scope, self._scope.name
        with scope.database.begin(patient=True) as connection:
            keys = written.keys()
            stays: Collection[bytes] = ()
            if not self._preview:
                lock_sync(connection, sync=name, at="deciding")
                lock_sync(connection, sync=name, at=CHUNKS, shared=True)
                pending = changes.supersede_at(
                    connection, sync=name, keys=keys, besides_plan=self.id
                )
                deciding.mark_dirty(connection, sync=name, keys=pending.dropped)
                stays = pending.stays
            verdicts = judged(
                scope,
                connection,
                self._undone.run_id,
                {key: rows for key, rows in written.items() if key not in stays},
                shown,
                state="preview" if self._preview else "pending",
            )
            undos.queue(
                connection, verdicts, plan_id=self.id, sync=name, run_id=self._undone.run_id
            )
            if not self._preview:
                left = [each for each in verdicts if each.state == "left"]
                entries = left_entries(scope, self._undone.run_id, left)
                trail.append(connection, entries, run=scope.run, vault=scope.vault)


def undoing_by(
    scope: Scope, connection: Connection
) -> Callable[[Sequence[Written]], Undoing | str]:
    """Return ``undoing_of`` with the groups and the language that the settings map."""
    groups = {name: each for each, name in group_names(scope, connection).items()}
    return partial(rules.undoing_of, groups=groups, language=bool(scope.sync.language))


def judged(
    scope: Scope,
    connection: Connection,
    run_id: str,
    written: Mapping[bytes, Sequence[Written]],
    shown: Mapping[bytes, Member | Unreadable | None],
    *,
    state: str,
) -> list[Verdict]:
    """Return what is to be done about contacts that the run has written, as they are now."""
    now = undos.contacts_now(connection, sync=scope.name, keys=written.keys())
    undoing_of = undoing_by(scope, connection)
    wanted = {key: undoing_of(rows) for key, rows in written.items()}
    restores = [
        (key, each.customer_id)
        for key, each in wanted.items()
        if isinstance(each, Undoing) and each.kind is Kind.RESTORE
    ]
    opted_out = undos.opted_out_since(connection, sync=scope.name, restores=restores)
    foreign = _foreign(scope, connection, written.keys())
    lost = undos.lost_restores(
        connection, sync=scope.name, run_id=run_id, keys=[key for key, _ in restores]
    )
    verdicts = []
    for key, found in wanted.items():
        undoing = after_lost(found, lost[key]) if key in lost else found
        contact, customer_id = now.get(key), written[key][-1].customer_id
        why = _left_because(undoing, shown.get(key), contact, lost=key in lost)
        if why is None and key in opted_out:
            why = rules.OPTED_OUT
        if why is None and key in foreign:
            why = sharing.OWNED_ELSEWHERE
        if isinstance(undoing, str):
            kind, status = written[key][-1].action, None
        else:
            kind = undoing.kind.value
            status = _status(undoing, contact)
        verdicts.append(
            Verdict(
                key,
                customer_id,
                kind,
                why or CHANGE_REASON,
                None if why else status,
                "left" if why else state,
            )
        )
    return verdicts


def after_lost(undoing: Undoing | str, status: str | None) -> Undoing | str:
    """Return an undoing whose restore gives back at most the ``status`` that a lost call of it sent."""
    if isinstance(undoing, str):
        return undoing
    return msgspec.structs.replace(undoing, status=rules.restored_status(undoing, status))


def _left_because(
    undoing: Undoing | str,
    member: Member | Unreadable | None,
    contact: ContactNow | None,
    *,
    lost: bool,
) -> str | None:
    if isinstance(undoing, str):
        return undoing
    if isinstance(member, Unreadable):
        return "unreadable"
    if member is None or contact is None:
        return rules.GONE
    if not rules.still(undoing, member, archived_by_us=contact.archived_by == "us"):
        return rules.CHANGED
    if undoing.kind is Kind.ARCHIVE and member.status in UNARCHIVABLE:
        return CANNOT_ARCHIVE + member.status
    ours = undoing.kind is Kind.UPDATE or lost  # if it is not held, the next run changes it
    done = rules.is_back(undoing, member) and (contact.held or not ours)
    return rules.ALREADY if done else None


def _status(undoing: Undoing, contact: ContactNow | None) -> str | None:
    if undoing.kind is not Kind.RESTORE:
        return None
    return rules.restored_status(undoing, contact.previous_status if contact else None).value


def _foreign(scope: Scope, connection: Connection, keys: Collection[bytes]) -> set[bytes]:
    beside = scope.sync.beside
    if not beside:
        return set()
    owned = sharing.owned(
        connection, audience=scope.sync.audience_id, others=beside, keys=list(keys)
    )
    return {each.email_key for each in owned}


def left_entries(scope: Scope, run_id: str, left: Sequence[Verdict]) -> Iterator[Entry]:
    """Yield the audit entries of contacts that an undo leaves."""
    for each in left:
        if each.reason not in (rules.ALREADY, rules.NOTHING):
            yield Entry(
                sync=scope.name,
                action="undo",
                reason=each.reason,
                outcome="left",
                cause=UNDO + run_id,
                customer_id=each.customer_id,
                email_key=each.email_key,
                attempts=0,
                origin=UNDO + run_id,
            )


def recheck(scope: Scope, client: MailchimpClient, *, plan_id: int, undone: UndoneRun) -> None:
    """Read what changed in the audience, and decide again on pending changes of those contacts.

    An approval may take hours, and the call of a killed worker may have left.
    """
    with scope.database.begin() as connection:
        run = written_by(scope, connection, undone)
    fetch_members(scope, client, on_page=partial(_recheck_page, scope, plan_id, run))
    with scope.database.begin() as connection:
        settle_archives(scope, connection)


def _recheck_page(scope: Scope, plan_id: int, run: WrittenBy, members: Sequence[Member]) -> None:
    vault = scope.vault
    shown = {vault.email_key(normal_form(each.email_address)): each for each in members}
    with scope.database.begin(patient=True) as connection:
        waiting = undos.waiting(connection, plan_id=plan_id, sync=scope.name, keys=shown.keys())
        written = runs.rows_of(connection, run, keys=waiting.keys(), vault=vault)
        verdicts = judged(scope, connection, run.run_id, written, shown, state="pending")
        left = [each for each in verdicts if each.state == "left"]
        reasons = {waiting[each.email_key]: each.reason for each in left}
        undos.leave(connection, reasons=reasons)
        undos.refresh(connection, ids=[id_ for id_ in waiting.values() if id_ not in reasons])
        entries = left_entries(scope, run.run_id, left)
        trail.append(connection, entries, run=scope.run, vault=vault)


def report(scope: Scope, *, plan_id: int) -> dict[str, object]:
    """Close the plan; return and log its counts: (kind, reason, state, contacts)."""
    with scope.database.begin() as connection:
        counted = changes.counts(connection, plan_id=plan_id)
        undone = undos.run_of_plan(connection, plan_id=plan_id)
        by_state: Counter[str] = Counter()
        for _, _, state, number in counted:
            by_state[state] += number
        told: dict[str, object] = {
            "undoes": undone.plan_id if undone else None,
            "changes": [list(row) for row in counted],
            **dict(by_state),
        }
        if plans.state_of(connection, plan_id=plan_id) != "rejected":
            plans.finish(connection, plan_id=plan_id, state="finished", counts=told)
    log.info("undo_finished", sync=scope.name, plan=plan_id, **dict(by_state))
    return told
