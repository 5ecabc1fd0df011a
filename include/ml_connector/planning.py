"""From dirty customers to a plan of queued changes: the daily one, and what is decided on its own."""

from collections.abc import Collection
from dataclasses import asdict, dataclass

from sqlalchemy import Connection

from ml_connector.batching import relaxed_gc
from ml_connector.decider import Decider
from ml_connector.interrupted import note_unheard, settle_archives
from ml_connector.model import Kind
from ml_connector.scope import Scope
from ml_connector.store import changes, cursors, deciding, sharing
from ml_connector.store.database import MANY_ROWS, look_over, take_turn

CHANGES_A_SHARD = 40_000
"""And up to three chunks more. A mapped task costs Airflow a second (docs/performance.md)."""
PUSHED_AT_ONCE = 2
"""So many tasks of a sync push at a time: the slots of its pool (docs/configuration.md)."""

WRITES = (Kind.CREATE, Kind.UPDATE, Kind.RESTORE)
_POLICY_CURSOR = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan's id, the shards to push, and how many changes it holds."""

    plan_id: int
    shards: tuple[int, ...]
    changes: int


@relaxed_gc()
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
        if preview:
            changes.drop_preview(connection, plan_id=plan_id)
        else:
            take_turn(connection, sync=scope.name, at="deciding")
            changes.drop(connection, sync=scope.name)  # what an earlier run has left behind
        deciding.mark_parked_due(connection, sync=scope.name, now=scope.clock())
        _follow_policy(scope, connection, preview=preview)
        audience, others = scope.sync.audience_id, scope.sync.beside
        sharing.mark_free(connection, sync=scope.name, audience=audience, others=others)
    decider = Decider(scope, plan_id=plan_id, preview=preview)
    queued = 0 if customer_ids else decider.decide_adrift()
    queued += decider.decide_waiting(customer_ids, shard_of=_shard_of)
    with scope.database.begin() as connection:
        if queued >= MANY_ROWS:
            look_over(connection, "customers", "changes")
        shards = changes.pending_shards(connection, plan_id=plan_id, kinds=WRITES)
    return Planned(plan_id=plan_id, shards=tuple(shards), changes=queued)


def _shard_of(number: int, queued: int) -> int:
    """Return the shard of a chunk: those that are pushed at once are filled in turn, then the next."""
    full = queued // (PUSHED_AT_ONCE * CHANGES_A_SHARD)
    return full * PUSHED_AT_ONCE + number % PUSHED_AT_ONCE


def _follow_policy(scope: Scope, connection: Connection, *, preview: bool) -> None:
    """Have everyone decided on again if the rules of deciding are no longer those of the last run."""
    rules = asdict(scope.policy) | {"inactive_tag": scope.sync.inactive_tag}
    past = cursors.get(connection, sync=scope.name, name=_POLICY_CURSOR)
    if past not in ({}, rules):
        deciding.mark_dirty(connection, sync=scope.name)
    if not preview and past != rules:
        cursors.put(connection, sync=scope.name, name=_POLICY_CURSOR, value=rules)


def decide_on(scope: Scope, *, plan_id: int, customer_ids: Collection[str], shard: int = 0) -> int:
    """Decide on the waiting ones of ``customer_ids``, into one shard; return how many changes.

    Unlike ``make_plan`` it leaves what other runs have decided elsewhere to them.
    """
    if not customer_ids:
        return 0
    return Decider(scope, plan_id=plan_id).decide_waiting(customer_ids, shard_of=lambda *_: shard)
