"""From dirty customers to queued changes: gathers the facts for ``plan.decide``, keeps its answer.

A chunk of customers at a time, each in one transaction, so that memory is flat and a killed run
leaves whole decisions behind. Runs that want the same contact wait for one another here (A35).
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import structlog
from sqlalchemy import Connection

from ml_connector.garbage import seldom_collected
from ml_connector.interrupted import note_unheard, settle_archives
from ml_connector.model import Kind, Status
from ml_connector.plan import NOT_THERE, Decisions, decide
from ml_connector.scope import Scope
from ml_connector.store import audit, changes, contacts, cursors, deciding, sharing
from ml_connector.store.audit import Entry
from ml_connector.store.database import look_over, take_turn

CUSTOMERS_A_CHUNK = 5_000
CHANGES_A_SHARD = 10_000
"""A mapped task costs Airflow about 0.15 s; ten thousand changes are twenty batches."""

WRITES = (Kind.CREATE, Kind.UPDATE, Kind.RESTORE)
_POLICY_CURSOR = "policy"
_REFUSALS = (
    "address_changed_in_mailchimp",
    "archived_by_marketer",
    "forgotten",
    "opted_out_elsewhere",
    "owned_by_another_sync",
    "suppressed",
)
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan's id, the shards to push, and how many changes it holds."""

    plan_id: int
    shards: tuple[int, ...]
    changes: int


@seldom_collected()
def make_plan(
    scope: Scope, *, preview: bool = False, customer_ids: Collection[str] = ()
) -> Planned:
    """Decide on every customer that waits for it (or just on ``customer_ids``).

    With ``preview`` the changes are stored to be looked at, and nothing else is touched.
    """
    plan_id = scope.plan_id("preview" if preview else "sync")
    if not preview:
        with scope.database.begin() as connection:
            settle_archives(scope, connection)
            note_unheard(scope, connection)
    with scope.database.begin() as connection:
        if not preview:
            left = changes.take_over(connection, sync=scope.name)
            deciding.mark_dirty(connection, sync=scope.name, keys=left)
        deciding.mark_parked_due(connection, sync=scope.name, now=scope.clock())
        _follow_policy(scope, connection, preview=preview)
        audience, others = scope.sync.audience_id, scope.sync.beside
        sharing.mark_free(connection, sync=scope.name, audience=audience, others=others)
    queued = 0
    if not customer_ids:
        with scope.database.begin() as connection:
            adrift = contacts.adrift(connection, sync=scope.name)
            queued = _decide(
                scope, connection, [], adrift=adrift, plan_id=plan_id, shard=0, preview=preview
            )
    for chunk in _iter_waiting(scope, customer_ids):
        with scope.database.begin() as connection:
            queued += _decide(
                scope,
                connection,
                chunk,
                plan_id=plan_id,
                shard=queued // CHANGES_A_SHARD,
                preview=preview,
            )
        log.info("customers_decided", sync=scope.name, changes=queued)
    with scope.database.begin() as connection:
        if queued >= CUSTOMERS_A_CHUNK:
            look_over(connection, "customers", "changes")
        shards = changes.pending_shards(connection, plan_id=plan_id, kinds=WRITES)
    return Planned(plan_id=plan_id, shards=tuple(shards), changes=queued)


def _follow_policy(scope: Scope, connection: Connection, *, preview: bool) -> None:
    """Have everyone decided on again if the rules of deciding are no longer those of the last run."""
    rules = asdict(scope.policy) | {"inactive_tag": scope.sync.inactive_tag}
    past = cursors.get(connection, sync=scope.name, name=_POLICY_CURSOR)
    if past not in ({}, rules):
        deciding.mark_dirty(connection, sync=scope.name)
    if not preview and past != rules:
        cursors.put(connection, sync=scope.name, name=_POLICY_CURSOR, value=rules)


def decide_on(scope: Scope, *, plan_id: int, customer_ids: Collection[str]) -> int:
    """Decide on the waiting ones of ``customer_ids``, into shard 0; return how many changes.

    Unlike ``make_plan`` it leaves what other runs have decided elsewhere to them.
    """
    return _decide_all(scope, customer_ids, plan_id=plan_id, shard=0)


def decide_again(scope: Scope, *, plan_id: int, shard: int) -> int:
    """Decide on what changed since ``plan_id`` was made, into one of its shards; return how many."""
    return _decide_all(scope, (), plan_id=plan_id, shard=shard)


def _decide_all(scope: Scope, customer_ids: Collection[str], *, plan_id: int, shard: int) -> int:
    queued = 0
    for chunk in _iter_waiting(scope, customer_ids):
        with scope.database.begin() as connection:
            queued += _decide(scope, connection, chunk, plan_id=plan_id, shard=shard, preview=False)
    return queued


def _iter_waiting(scope: Scope, customer_ids: Collection[str]) -> Iterator[list[deciding.Waiting]]:
    after: deciding.Waiting | None = None
    while True:
        with scope.database.begin() as connection:
            chunk = deciding.next_dirty(
                connection,
                sync=scope.name,
                ids=customer_ids or None,
                after=after,
                chunk=CUSTOMERS_A_CHUNK,
            )
        if not chunk:
            return
        yield chunk
        after = chunk[-1]


def _decide(
    scope: Scope,
    connection: Connection,
    chunk: list[deciding.Waiting],
    *,
    plan_id: int,
    shard: int,
    preview: bool,
    adrift: Collection[bytes] = (),
) -> int:
    """Decide on the customers of ``chunk`` and on the contacts ``adrift``."""
    ids = [waiting.customer_id for waiting in chunk]
    keys = {*adrift, *(key for w in chunk for key in (w.email_key, w.contact_key) if key)}
    if not keys and not ids:
        return 0
    if not preview:
        changes.take_over(connection, sync=scope.name, keys=keys, besides_plan=plan_id)
        if scope.sync.beside:
            take_turn(connection, sync=scope.sync.audience_id, at="sharing")
        take_turn(connection, sync=scope.name)  # what is read here stays true until it is decided
    people = deciding.frame(connection, sync=scope.name, keys=keys, ids=ids)
    elsewhere = {*people.email_key.dropna(), *people.contact_key.dropna()}
    around = keys | {bytes.fromhex(key) for key in elsewhere}
    known = contacts.frame(connection, sync=scope.name, keys=around)
    known, foreign, awaited = _beside(scope, connection, known, around)
    decisions = decide(
        people,
        known,
        keys={key.hex() for key in keys},
        suppressed={key.hex() for key in contacts.suppressed(connection, keys=around)},
        policy=scope.policy,
        now=scope.clock(),
        foreign=foreign,
        awaited=awaited,
    )
    state = "preview" if preview else "pending"
    origins = {
        bytes(key): scope.origins[waiting.customer_id]
        for waiting in chunk
        if waiting.customer_id in scope.origins
        for key in (waiting.email_key, waiting.contact_key)
        if key
    }
    if not preview:
        _keep(scope, connection, people, decisions, plan_id, ids)
    return changes.insert(
        connection,
        decisions.changes,
        plan_id=plan_id,
        sync=scope.name,
        state=state,
        shard=shard,
        origins=origins,
    )


def _beside(
    scope: Scope, connection: Connection, known: pd.DataFrame, keys: Collection[bytes]
) -> tuple[pd.DataFrame, set[str], set[str]]:
    """Return what is known in view of the audience's other syncs, what they own, what they await.

    A contact that two own belongs to the one that the settings name first. One that another sync
    archived was archived by us.
    """
    beside = scope.sync.beside
    if not beside:
        return known, set(), set()
    audience = scope.sync.audience_id
    live = known.owner.notna() & ~known.status.isin(NOT_THERE)
    mine = set(known.email_key[live])
    foreign = {
        each.email_key.hex()
        for each in sharing.owned(connection, audience=audience, others=beside, keys=keys)
        if each.email_key.hex() not in mine or beside[each.sync]
    }
    past = {
        each.email_key.hex(): each.previous_status
        for each in sharing.archived(connection, audience=audience, others=beside, keys=keys)
    }
    ours = (known.status == Status.ARCHIVED) & known.email_key.isin(list(past))
    known = known.assign(
        archived_by=known.archived_by.mask(ours, "us"),
        previous_status=known.previous_status.mask(ours, known.email_key.map(past)),
    )
    awaited = sharing.awaited(connection, others=beside, keys=keys)
    return known, foreign, {key.hex() for key in awaited}


def _keep(
    scope: Scope,
    connection: Connection,
    people: pd.DataFrame,
    decisions: Decisions,
    plan_id: int,
    ids: Collection[str],
) -> None:
    entries = [*_verdicts(scope, people, decisions, plan_id), *_left(scope, decisions, plan_id)]
    audit.append(connection, entries, run=scope.run, vault=scope.vault)
    deciding.record_decisions(connection, sync=scope.name, decided=decisions.customers, ids=ids)
    contacts.hand_over(connection, sync=scope.name, owners=decisions.owners)
    contacts.disown(connection, sync=scope.name, keys=list(_unhexed(decisions.left.email_key)))


def _verdicts(
    scope: Scope, people: pd.DataFrame, decisions: Decisions, plan_id: int
) -> Iterator[Entry]:
    """One entry for every customer that is newly skipped or linked, or for another reason."""
    told = ["decision", "reason", "linked_to"]
    others = decisions.customers[decisions.customers.decision != "contact"]
    columns = people[["customer_id", "email_key", *told]]
    past = columns[columns.customer_id.isin(others.customer_id)].itertuples(index=False, name=None)
    known = {customer_id: (key, values) for customer_id, key, *values in past}
    for row in others.itertuples(index=False):
        key, values = known[row.customer_id]
        after = {name: _plain(getattr(row, name)) for name in told}
        before = {name: _plain(value) for name, value in zip(told, values, strict=True)}
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
            email_key=next(_unhexed([key]), None),
            attempts=0,
            before=before,
            after=after,
        )


def _left(scope: Scope, decisions: Decisions, plan_id: int) -> Iterator[Entry]:
    """One entry for every contact that stays though no customer is left (A16b, A39)."""
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


def _unhexed(keys: Iterable[Any]) -> Iterator[bytes]:
    return (bytes.fromhex(key) for key in keys if isinstance(key, str))
