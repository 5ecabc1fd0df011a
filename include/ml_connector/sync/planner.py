"""Plan a run: gather facts for ``rules.decide``, store its decisions, queue its changes.

Each chunk of customers is one transaction. Memory stays flat, and a killed run leaves only complete
decisions. Runs that want the same contact wait for each other here (A35). Chunks without a common
address are decided in parallel.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, count, islice
from typing import Any, NamedTuple

import pandas as pd
import structlog
from sqlalchemy import Connection

from ml_connector.audit import trail
from ml_connector.batching import relaxed_gc
from ml_connector.model import Kind, Status
from ml_connector.rules.decide import (
    CHANGE_COLUMNS,
    CONTACT_COLUMNS,
    CUSTOMER_COLUMNS,
    NOT_IN_AUDIENCE,
    OPTED_OUT,
    VERDICT_COLUMNS,
    ContactRow,
    CustomerRow,
    Decisions,
    decide,
)
from ml_connector.rules.plain import PlainDecisions, decide_plain
from ml_connector.scope import Scope
from ml_connector.store import changes, contacts, cursors, deciding, plans, sharing, undos
from ml_connector.store.changes import Superseded
from ml_connector.store.database import MANY_ROWS, analyze, lift_timeouts, lock_sync
from ml_connector.store.frames import frame_of, unhexed
from ml_connector.sync import edits
from ml_connector.sync.outcomes import decision_entries
from ml_connector.sync.recovery import record_unknown_outcomes, settle_archives

CUSTOMERS_A_CHUNK = 5_000
PEOPLE_A_CHUNK = 7_500
"""A chunk with more customers at its addresses is split: they are decided on together, so all of
them are read, whether they wait or not."""
PARALLEL_CHUNKS = 2
"""This many chunks run in parallel: Python works on one while Postgres works on the other."""
CHUNKS_PER_LOCK = 6
"""The planner releases the lock after this many chunks (about 3 s), so webhooks decide too."""

HEXED_OF_CHANGES = ("email_key", "decided_hash")
CHUNKS = "chunks"
"""Every chunk's transaction shares this lock from its start, so a run can wait for all of them."""

_Sharded = tuple[list[deciding.Undecided], int]
"""A chunk and the shard for its changes."""

log = structlog.get_logger(__name__)


class Decider:
    """Planner loop: decide on customers for one plan and count the queued changes."""

    def __init__(self, scope: Scope, *, plan_id: int, preview: bool = False) -> None:
        """Bind a plan. With ``preview`` changes are stored for viewing, nothing else is written."""
        self._scope, self._plan_id, self._preview = scope, plan_id, preview
        self._counting = threading.Lock()
        self._left_out: Counter[tuple[str, str]] = Counter()
        # Reading what the audience's other syncs own requires an exclusive lock.
        self._side_by_side = PARALLEL_CHUNKS if scope.threads and not scope.sync.beside else 1

    def decide_orphaned(self) -> int:
        """Decide on our orphaned contacts; queue the changes in shard 0."""
        with self._scope.database.begin() as connection:
            orphaned = contacts.orphaned(connection, sync=self._scope.name)
        if not orphaned:
            return 0
        with self._turn():
            return self._decide([], shard=0, orphaned=orphaned)

    def decide_waiting(
        self, customer_ids: Collection[str], *, shard_of: Callable[[int, int], int]
    ) -> int:
        """Decide on the waiting customers among ``customer_ids``, or on all that wait.

        ``shard_of(n, queued)`` returns the shard of the n-th chunk, given the changes queued so
        far.
        """
        waiting = _iter_waiting(self._scope, customer_ids)
        queued, numbers = 0, count()
        for first in waiting:
            chunks = chain([first], islice(waiting, CHUNKS_PER_LOCK - 1))
            sharded = ((chunk, shard_of(next(numbers), queued)) for chunk in chunks)
            with self._turn():
                queued += self._decide_side_by_side(sharded)
            log.info("customers_decided", sync=self._scope.name, changes=queued)
        return queued

    def decide_lowering(self, customer_ids: Collection[str], *, shard: int) -> int:
        """Queue only writes that lower the contacts of ``customer_ids`` after an opt-out (A42).

        All else about these customers stays undecided: it waits for a plan of its own.
        """
        with self._turn():
            return sum(
                self._lower(chunk, shard=shard)
                for chunk in _iter_waiting(self._scope, customer_ids, held=True)
            )

    def _lower(self, chunk: list[deciding.Undecided], *, shard: int) -> int:
        scope = self._scope
        ids = [waiting.customer_id for waiting in chunk]
        keys = {waiting.email_key for waiting in chunk if waiting.email_key}
        with scope.database.begin(patient=True) as connection:
            pending = self._pending(connection, keys, shared=False, besides_plan=None)
            deciding.mark_dirty(connection, sync=scope.name, keys=keys)
            people = deciding.rows(connection, sync=scope.name, keys=keys, ids=ids)
            around = keys | _keys_of(people)
            known = contacts.rows(connection, sync=scope.name, keys=around)
            elsewhere = _other_syncs(scope, connection, known, around)
            suppressed = contacts.suppressed(connection, keys=around)
            decisions = self._decide_frames(people, known, elsewhere, suppressed, keys)
            lowered = decisions.changes[
                (decisions.changes.kind == Kind.UPDATE) & (decisions.changes.reason == OPTED_OUT)
            ]
            return changes.insert(
                connection,
                list(unhexed(lowered, CHANGE_COLUMNS, hexed=HEXED_OF_CHANGES)),
                plan_id=self._plan_id,
                sync=scope.name,
                state="pending",
                shard=shard,
                queued=pending.stays,
                origins=self._origins(chunk),
            )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Block other deciders for the length of the block. A preview takes no lock."""
        if self._preview:
            yield
            return
        database, sync = self._scope.database, self._scope.name
        with database.begin() as connection:
            lift_timeouts(connection)
            lock_sync(connection, sync=sync, at="deciding")
            with database.begin() as others:
                # Wait for the chunks of a killed run: their transactions may still be committing.
                lock_sync(others, sync=sync, at=CHUNKS)
            yield

    def _decide_side_by_side(self, chunks: Iterator[_Sharded]) -> int:
        """Decide on ``chunks`` in parallel, then on those that shared an address with another."""
        if self._side_by_side == 1:
            return sum(self._decide(chunk, shard=shard) for chunk, shard in chunks)
        todo, taken = _SharedIterator(chunks), _AddressClaims()
        gave_way: list[_Sharded] = []
        rest: list[_Sharded] = []

        def work() -> int:
            queued = 0
            for chunk, shard in todo:
                try:
                    queued += self._decide(chunk, shard=shard, taken=taken, rest=rest)
                except _AddressClaimedError:
                    gave_way.append((chunk, shard))
            return queued

        with ThreadPoolExecutor(self._side_by_side) as pool, todo.ended_with_us():
            begun = [pool.submit(work) for _ in range(self._side_by_side)]
            queued = sum(each.result() for each in as_completed(begun))
        gave_way += _together(rest)
        return queued + sum(self._decide(chunk, shard=shard) for chunk, shard in gave_way)

    def _decide(self, chunk: list[deciding.Undecided], **how: Any) -> int:
        """Decide on ``chunk`` at once, or on its halves if there are too many at its addresses."""
        try:
            return self._decide_at_once(chunk, **how)
        except deciding.TooManyPeopleError:
            return sum(self._decide(half, **how) for half in _halves(chunk))

    def _decide_at_once(
        self,
        chunk: list[deciding.Undecided],
        *,
        shard: int,
        orphaned: Collection[bytes] = (),
        taken: "_AddressClaims | None" = None,
        rest: list[_Sharded] | None = None,
    ) -> int:
        """Decide on the customers of ``chunk`` and the contacts ``orphaned`` in one transaction.

        ``taken``: the addresses of the chunks under the current lock. ``rest`` takes the customers
        that are not plain, to be decided on together with those of other chunks. It takes none if
        they are many, or if the chunk superseded a change: then its customers do not wait, and a
        killed run would forget them.
        """
        scope = self._scope
        ids = [waiting.customer_id for waiting in chunk]
        keys = {*orphaned, *_keys_of(chunk)}
        with scope.database.begin(patient=True) as connection:
            pending = self._pending(
                connection, keys, shared=taken is not None, besides_plan=self._plan_id
            )
            most = PEOPLE_A_CHUNK if len(_addresses(chunk)) > 1 else None
            people = deciding.rows(connection, sync=scope.name, keys=keys, ids=ids, most=most)
            around = keys | _keys_of(people)
            if taken is not None:
                taken.take(around)
            known = contacts.rows(connection, sync=scope.name, keys=around)
            elsewhere = _other_syncs(scope, connection, known, around)
            suppressed = contacts.suppressed(connection, keys=around)
            plain = decide_plain(
                people,
                known,
                keys=keys,
                barred=suppressed | elsewhere.foreign | elsewhere.awaited,
                policy=scope.policy,
            )
            queue = plain.changes
            others = keys - plain.keys
            decisions = None
            if rest is not None and not pending.dropped and plain.mostly:
                chunk, left = _apart(chunk, plain)
                rest.append((left, shard))
                ids = [waiting.customer_id for waiting in chunk]
            elif others or plain.rest:
                decisions = self._decide_frames(plain.rest, known, elsewhere, suppressed, others)
                queue += unhexed(decisions.changes, CHANGE_COLUMNS, hexed=HEXED_OF_CHANGES)
            if self._preview:
                self._count_left_out(plain, decisions, ids)
            else:
                self._keep(connection, plain, decisions, ids)
            return changes.insert(
                connection,
                queue,
                plan_id=self._plan_id,
                sync=scope.name,
                state="preview" if self._preview else "pending",
                shard=shard,
                queued=pending.stays,
                origins=self._origins(chunk),
            )

    def _decide_frames(
        self,
        people: Sequence[CustomerRow],
        known: Mapping[bytes, ContactRow],
        elsewhere: "_Elsewhere",
        suppressed: Collection[bytes],
        keys: Collection[bytes],
    ) -> Decisions:
        """Decide by the general rules on ``keys`` and the customers who are or were there."""
        near = [known[key] for key in {*keys, *_keys_of(people)} if key in known]
        return decide(
            frame_of(people, CUSTOMER_COLUMNS, hexed=("email_key", "contact_key", "fields_hash")),
            elsewhere.told(
                frame_of(near, CONTACT_COLUMNS, hexed=("email_key", "pushed_hash", "refused_hash"))
            ),
            keys={key.hex() for key in keys},
            suppressed={key.hex() for key in suppressed},
            policy=self._scope.policy,
            now=self._scope.clock(),
            foreign={key.hex() for key in elsewhere.foreign},
            awaited={key.hex() for key in elsewhere.awaited},
        )

    def _pending(
        self,
        connection: Connection,
        keys: Collection[bytes],
        *,
        shared: bool,
        besides_plan: int | None,
    ) -> Superseded:
        """Wait for calls about ``keys``; supersede their changes.

        The plan ``besides_plan`` keeps its own changes.

        Data read after this stays valid until the decision commits. A preview does not wait.
        """
        sync, plan_id = self._scope.sync, self._plan_id
        if self._preview:
            found = changes.previewed(connection, plan_id=plan_id, keys=keys)
            return Superseded(found, set())
        lock_sync(connection, sync=sync.name, at=CHUNKS, shared=True)
        pending = changes.supersede_at(
            connection, sync=sync.name, keys=keys, besides_plan=besides_plan
        )
        if sync.beside:
            lock_sync(connection, sync=sync.audience_id, at="sharing")
        lock_sync(connection, sync=sync.name, shared=shared)
        return pending

    def _origins(self, chunk: list[deciding.Undecided]) -> dict[bytes, str]:
        origins = self._scope.origins
        return {
            bytes(key): origins[waiting.customer_id]
            for waiting in chunk
            if waiting.customer_id in origins
            for key in (waiting.email_key, waiting.contact_key)
            if key
        }

    @property
    def left_out(self) -> list[tuple[str, str, int]]:
        """Return (decision, reason, customers) of those that a preview gives no contact."""
        return [(*key, number) for key, number in sorted(self._left_out.items())]

    def _count_left_out(
        self, plain: PlainDecisions, decisions: Decisions | None, ids: Collection[str]
    ) -> None:
        """Count the customers without a contact: a preview stores no decision."""
        waited, decided = set(ids), plain.customers
        if decisions is not None:
            decided = decided + list(unhexed(decisions.customers, VERDICT_COLUMNS, hexed=()))
        found = Counter(
            (str(decision), str(reason))
            for customer_id, decision, reason, *_ in decided
            if customer_id in waited and decision in ("linked", "skipped")
        )
        with self._counting:
            self._left_out.update(found)

    def _keep(
        self,
        connection: Connection,
        plain: PlainDecisions,
        decisions: Decisions | None,
        ids: Collection[str],
    ) -> None:
        scope = self._scope
        decided = plain.customers
        if decisions is not None:
            entries = decision_entries(scope, plain.rest, decisions, self._plan_id)
            trail.append(connection, entries, run=scope.run, vault=scope.vault)
            contacts.hand_over(connection, sync=scope.name, owners=decisions.owners)
            left = [bytes.fromhex(key) for key in decisions.left.email_key]
            contacts.release(connection, sync=scope.name, keys=left)
            decided += unhexed(decisions.customers, VERDICT_COLUMNS, hexed=())
        deciding.record_decisions(connection, sync=scope.name, decided=decided, ids=ids)


class _SharedIterator(Iterator[_Sharded]):
    """Iterator of chunks for several threads. The thread that takes a chunk also reads it."""

    def __init__(self, chunks: Iterator[_Sharded]) -> None:
        self._chunks, self._taking = chunks, threading.Lock()

    def __next__(self) -> _Sharded:
        with self._taking:
            return next(self._chunks)

    @contextmanager
    def ended_with_us(self) -> Iterator[None]:
        """Stop the iterator at the end of the block: all chunks are taken, or a thread failed."""
        try:
            yield
        finally:
            self._chunks = iter(())


class _AddressClaimedError(Exception):
    """Another chunk has one of the addresses."""


class _AddressClaims:
    """Addresses claimed by the chunks under the current lock; parallel chunks share none."""

    def __init__(self) -> None:
        self._taking = threading.Lock()
        self._taken: set[bytes] = set()

    def take(self, keys: Collection[bytes]) -> None:
        """Claim ``keys`` for a chunk.

        Raises ``_AddressClaimedError`` if another chunk has one of them.
        """
        with self._taking:
            if not self._taken.isdisjoint(keys):
                raise _AddressClaimedError
            self._taken.update(keys)


def _iter_waiting(
    scope: Scope, customer_ids: Collection[str], *, held: bool = False
) -> Iterator[list[deciding.Undecided]]:
    after: deciding.Undecided | None = None
    while True:
        with scope.database.begin() as connection:
            chunk = deciding.next_dirty(
                connection,
                sync=scope.name,
                ids=customer_ids or None,
                after=after,
                chunk=CUSTOMERS_A_CHUNK,
                held=held,
            )
        if not chunk:
            return
        chunk = _to_the_end_of_an_address(chunk)
        yield chunk
        after = chunk[-1]


def _to_the_end_of_an_address(chunk: list[deciding.Undecided]) -> list[deciding.Undecided]:
    """Return ``chunk`` without its last address, whose customers may continue in the next chunk.

    If two chunks share an address anyway, one of them is decided again.
    """
    last = chunk[-1].email_key
    if len(chunk) < CUSTOMERS_A_CHUNK or last is None:
        return chunk
    return [each for each in chunk if each.email_key != last] or chunk


def _addresses(chunk: Sequence[deciding.Undecided]) -> list[bytes | None]:
    """Return the addresses of ``chunk``, in its order."""
    return list(dict.fromkeys(each.email_key for each in chunk))


def _halves(chunk: list[deciding.Undecided]) -> Iterator[list[deciding.Undecided]]:
    """Yield ``chunk`` in two parts that share no present address."""
    addresses = _addresses(chunk)
    first = set(addresses[: len(addresses) // 2])
    yield [each for each in chunk if each.email_key in first]
    yield [each for each in chunk if each.email_key not in first]


def _apart(
    chunk: list[deciding.Undecided], plain: PlainDecisions
) -> tuple[list[deciding.Undecided], list[deciding.Undecided]]:
    """Return the customers of ``chunk`` that were decided on, and those that were not."""
    decided = {verdict[0] for verdict in plain.customers}
    return (
        [each for each in chunk if each.customer_id in decided],
        [each for each in chunk if each.customer_id not in decided],
    )


def _together(chunks: list[_Sharded]) -> Iterator[_Sharded]:
    """Yield ``chunks`` put together as far as a chunk goes. Chunks share no address."""
    together: list[deciding.Undecided] = []
    for chunk, shard in chunks:
        if together and len(together) + len(chunk) > CUSTOMERS_A_CHUNK:
            yield together, shard
            together = []
        together = together + chunk
    if together:
        yield together, chunks[-1][1]


def _keys_of(people: Sequence[CustomerRow] | Sequence[deciding.Undecided]) -> set[bytes]:
    """Return the addresses where ``people`` are or were."""
    return {key for each in people for key in (each.email_key, each.contact_key) if key}


class _Elsewhere(NamedTuple):
    """What the audience's other syncs own, await and archived, by key.

    ``archived`` maps to the status before.
    """

    foreign: set[bytes]
    awaited: set[bytes]
    archived: Mapping[bytes, str | None]

    def told(self, known: pd.DataFrame) -> pd.DataFrame:
        """Return contacts in view of the other syncs: what they archived, the connector did."""
        if not self.archived:
            return known
        past = {key.hex(): status for key, status in self.archived.items()}
        ours = (known.status == Status.ARCHIVED) & known.email_key.isin(list(past))
        return known.assign(
            archived_by=known.archived_by.mask(ours, "us"),
            previous_status=known.previous_status.mask(ours, known.email_key.map(past)),
        )


def _other_syncs(
    scope: Scope,
    connection: Connection,
    known: Mapping[bytes, ContactRow],
    keys: Collection[bytes],
) -> _Elsewhere:
    """Return what the audience's other syncs have to do with ``keys``.

    A contact with two owners belongs to the sync that comes first in the settings.
    """
    beside = scope.sync.beside
    if not beside:
        return _Elsewhere(set(), set(), {})
    audience = scope.sync.audience_id
    mine = {
        contact.email_key
        for contact in known.values()
        if contact.owner is not None and contact.status not in NOT_IN_AUDIENCE
    }
    owned = sharing.owned(connection, audience=audience, others=beside, keys=keys)
    archived = sharing.archived(connection, audience=audience, others=beside, keys=keys)
    return _Elsewhere(
        foreign={
            each.email_key for each in owned if each.email_key not in mine or beside[each.sync]
        },
        awaited=sharing.waiting_elsewhere(connection, others=beside, keys=keys),
        archived={each.email_key: each.previous_status for each in archived},
    )


CHANGES_A_SHARD = 40_000
"""Target number of changes in a shard; up to three more chunks may follow.

A mapped task costs Airflow about a second (bench/diary.md).
"""
PUSHED_AT_ONCE = 2
"""A sync pushes in this many tasks at a time: the slots of its pool (docs/reference/configuration.md)."""

WRITES = (Kind.CREATE, Kind.UPDATE, Kind.RESTORE)
_POLICY_CURSOR = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan's id, the shards to push, and its number of changes."""

    plan_id: int
    shards: tuple[int, ...]
    changes: int


@relaxed_gc()
def make_plan(
    scope: Scope, *, preview: bool = False, customer_ids: Collection[str] = ()
) -> Planned:
    """Decide on every waiting customer, or only on ``customer_ids``; return the plan.

    With ``preview`` the changes are stored for viewing, and nothing else is written.
    """
    plan_id = scope.plan_id("preview" if preview else "sync")
    if not preview:
        with scope.database.begin() as connection:
            settle_archives(scope, connection)
            record_unknown_outcomes(scope, connection)
    with scope.database.begin() as connection:
        if preview:
            changes.drop_preview(connection, plan_id=plan_id)
        else:
            lock_sync(connection, sync=scope.name, at="deciding")
            changes.supersede(connection, sync=scope.name)  # leftovers of an earlier run
            if customer_ids:
                plans.note_part(connection, plan_id=plan_id)
        deciding.mark_parked_due(connection, sync=scope.name, now=scope.clock())
        _invalidate_on_policy_change(scope, connection, preview=preview)
        edits.apply_new_rules(scope, connection, preview=preview)
        audience, others = scope.sync.audience_id, scope.sync.beside
        sharing.mark_released(connection, sync=scope.name, audience=audience, others=others)
    decider = Decider(scope, plan_id=plan_id, preview=preview)
    queued = 0 if customer_ids else decider.decide_orphaned()
    queued += decider.decide_waiting(customer_ids, shard_of=_shard_of)
    with scope.database.begin() as connection:
        if queued >= MANY_ROWS:
            analyze(connection, "customers", "changes", "change_batches")
        if preview:
            plans.note_rehearsed(connection, plan_id=plan_id, left_out=decider.left_out)
        shards = changes.pending_shards(connection, plan_id=plan_id, kinds=WRITES)
    return Planned(plan_id=plan_id, shards=tuple(shards), changes=queued)


def _shard_of(number: int, queued: int) -> int:
    """Return a chunk's shard: fill the shards that push in parallel in turn, then the next pair."""
    full = queued // (PUSHED_AT_ONCE * CHANGES_A_SHARD)
    return full * PUSHED_AT_ONCE + number % PUSHED_AT_ONCE


def _invalidate_on_policy_change(scope: Scope, connection: Connection, *, preview: bool) -> None:
    """Mark all customers for a new decision if the policy differs from the last run's."""
    rules = asdict(scope.policy) | {"inactive_tag": scope.sync.inactive_tag}
    if scope.policy.create == "all":
        del rules["create"]  # as stored before this setting existed
    past = cursors.get(connection, sync=scope.name, name=_POLICY_CURSOR)
    if past not in ({}, rules):
        deciding.mark_dirty(connection, sync=scope.name)
        if not preview:
            undos.release(connection, sync=scope.name, status=scope.policy.new_contact_status)
    if not preview and past != rules:
        cursors.put(connection, sync=scope.name, name=_POLICY_CURSOR, value=rules)


def decide_on(scope: Scope, *, plan_id: int, customer_ids: Collection[str], shard: int = 0) -> int:
    """Decide on the waiting customers among ``customer_ids``; return the number of changes queued.

    All changes go to one shard. Unlike ``make_plan``, this leaves the changes of other runs alone.
    """
    if not customer_ids:
        return 0
    return Decider(scope, plan_id=plan_id).decide_waiting(customer_ids, shard_of=lambda *_: shard)
