"""Read what a run wrote to the audience, contact by contact, from its audit rows."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from ml_connector.audit.trail import identity
from ml_connector.rules.undo import Written
from ml_connector.store.database import bytea_array
from ml_connector.vault import Vault

_SUCH = """sync = :sync AND run_id = :run_id AND at >= :since AND system = 'mailchimp'
           AND outcome = 'applied' AND email_key IS NOT NULL
           AND action IN ('create', 'update', 'restore', 'archive')"""
_BATCHED = """(SELECT b.last_id - b.rows < audit.id FROM ml_connector.audit_batches b
                WHERE b.last_id >= audit.id ORDER BY b.last_id LIMIT 1)"""
"""Whether a row is part of a batch. 0.1.0 wrote rows without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBy:
    """A run of a sync whose rows are read: those written at or after ``since``."""

    sync: str
    run_id: str
    since: datetime

    def __iter__(self) -> Iterator[tuple[str, object]]:
        """Yield the parameters of a query."""
        yield from (("sync", self.sync), ("run_id", self.run_id), ("since", self.since))


def count(connection: Connection, run: WrittenBy) -> int:
    """Return how many applied writes to contacts a run has."""
    found = connection.execute(
        text(f"SELECT count(*) FROM ml_connector.audit WHERE {_SUCH}"),  # noqa: S608 -- a constant
        dict(run),
    )
    return int(found.scalar_one())


def page(
    connection: Connection, run: WrittenBy, *, after: int, limit: int
) -> list[tuple[int, bytes]]:
    """Return (id, contact) of up to ``limit`` rows with a higher id than ``after``."""
    rows = connection.execute(
        text(f"""SELECT id, email_key FROM ml_connector.audit
                 WHERE {_SUCH} AND id > :after ORDER BY id LIMIT :limit"""),  # noqa: S608
        {**dict(run), "after": after, "limit": limit},
    ).all()
    return [(row.id, bytes(row.email_key)) for row in rows]


def rows_of(
    connection: Connection, run: WrittenBy, *, keys: Collection[bytes], vault: Vault
) -> dict[bytes, list[Written]]:
    """Return a run's rows about the contacts ``keys``, oldest first."""
    if not keys:
        return {}
    rows = connection.execute(
        text(f"""SELECT found.* FROM unnest(CAST(:keys AS bytea[])) AS k(key), LATERAL (
                     SELECT id, action, reason, customer_id, email_key, seal_id, before, after,
                            {_BATCHED} AS batched
                     FROM ml_connector.audit WHERE email_key = k.key AND {_SUCH}
                     OFFSET 0) found ORDER BY found.id"""),  # noqa: S608 -- a constant
        {**dict(run), "keys": bytea_array(keys)},
    ).all()
    found: dict[bytes, list[Written]] = defaultdict(list)
    for row in rows:
        before, after = (
            vault.decrypt(sealed, identity(row.seal_id, side)) if sealed else None
            for side, sealed in (("before", row.before), ("after", row.after))
        )
        found[bytes(row.email_key)].append(
            Written(
                id=row.id,
                action=row.action,
                reason=row.reason,
                customer_id=row.customer_id,
                before=before,
                after=after,
                tells_met=bool(row.batched),
            )
        )
    return found
