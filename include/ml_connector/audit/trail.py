"""Audit trail: one row for every attempt to change an external system, or refusal to.

``before`` and ``after`` are encrypted for the row's own ``seal_id``, which is random: two rows
cannot trade payloads. The rows of one ``append`` are a batch. It is stored with a digest of each row
and one keyed hash over them, so rows are protected from the moment they are written
(``audit.digests``). Only lawful rewrites change a row. ``audit.chain`` links the batches,
``audit.partitions`` stores the rows by month.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, text

from ml_connector.audit.digests import batch_mac, content_digest
from ml_connector.audit.filter import Filter, conditions
from ml_connector.display import counted
from ml_connector.errors import SettingsError
from ml_connector.model import RunContext
from ml_connector.store.database import NOW, copy_rows
from ml_connector.vault import Vault

CONTENT = {
    "sync": "text", "system": "text", "action": "text", "reason": "text", "customer_id": "text",
    "email_key": "bytea", "outcome": "text", "error": "text", "attempts": "int4",
    "request_id": "text", "cause": "text", "dag_id": "text", "run_id": "text", "task_id": "text",
    "try_number": "int4", "actor": "text", "seal_id": "text", "before": "bytea", "after": "bytea",
    "origin": "text",
}  # fmt: skip
"""The columns of a row that a digest covers, in its order, with their types. The batch's keyed hash
covers the other two, ``id`` and ``at``, by the row's place in the batch. Never add a column here:
the digests of old rows would no longer match. A new column needs another form of digest."""
_BATCH = {"last_id": "int8", "rows": "int4", "at": "int8", "digests": "bytea", "mac": "bytea"}

SEAL_ID_BYTES = 8
"""Length of a ``seal_id``, in random bytes."""

APPENDING = "ml_connector/audit"
"""Transactions with new rows share this advisory lock, and a sealer takes it alone for a moment.
Every id issued by then is committed or never will be."""


UNKNOWN_OUTCOME = "unheard"
"""The outcome of a call whose worker died before it stored the response. The stored word is that
of release 0.1.0 and stays, because audit rows are sealed. Users read "outcome unknown"."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One audit row to write. ``outcome``: applied, failed, parked, refused, skipped or unknown.

    ``cause`` names what led to it: ``change:12``, ``event:7``, ``webhook:9``, ``replay:3`` (an
    audit row). ``origin`` is the webhook or replay that triggered a write. ``before`` and ``after``
    are JSON-able and may hold personal data. ``error`` may not.
    """

    sync: str
    action: str
    reason: str
    outcome: str
    cause: str
    system: str = "mailchimp"
    customer_id: str | None = None
    email_key: bytes | None = None
    error: str | None = None
    attempts: int = 1
    request_id: str | None = None
    before: Any = None
    after: Any = None
    origin: str | None = None


class Batch(NamedTuple):
    """Rows ready to be written (the columns ``CONTENT``), and the digests of all of them, joined."""

    rows: Sequence[Sequence[Any]]
    digests: bytes


def append(
    connection: Connection, entries: Iterable[Entry], *, run: RunContext, vault: Vault
) -> int:
    """Write the entries; return how many. Call it in the transaction of what they record."""
    return append_batch(connection, encrypted(entries, run=run, vault=vault), vault=vault)


def append_batch(connection: Connection, batch: Batch, *, vault: Vault) -> int:
    """Write a batch from ``encrypted``, so that no lock is held during encryption; return its rows.

    Call it last: appending before waiting for another lock could deadlock with a sealer.
    """
    if not batch.rows:
        return 0
    return write_batch(connection, batch, at=prepare_append(connection), vault=vault)


def write_batch(connection: Connection, batch: Batch, *, at: int, vault: Vault) -> int:
    """Write a batch whose first row has the time ``at`` (as ``NOW``); return its rows.

    The next rows are a microsecond apart, so that they stay in order. Their ids are consecutive.
    """
    number = len(batch.rows)
    first = connection.execute(
        text("SELECT ml_connector.take_audit_ids(:number)"), {"number": number}
    ).scalar_one()
    placed = ((first + n, at + n, *row) for n, row in enumerate(batch.rows))
    copy_rows(connection, "ml_connector.audit", {"id": "int8", "at": "int8", **CONTENT}, placed)
    last = first + number - 1
    mac = batch_mac(last, number, at, batch.digests, vault)
    copy_rows(
        connection, "ml_connector.audit_batches", _BATCH, [(last, number, at, batch.digests, mac)]
    )
    return number


def encrypted(entries: Iterable[Entry], *, run: RunContext, vault: Vault) -> Batch:
    """Return the entries as a batch for ``append_batch``."""
    listed = list(entries)
    random = secrets.token_hex(SEAL_ID_BYTES * len(listed))
    ids = [random[at : at + 2 * SEAL_ID_BYTES] for at in range(0, len(random), 2 * SEAL_ID_BYTES)]
    payloads = [
        (value, identity(seal_id, side))
        for seal_id, entry in zip(ids, listed, strict=True)
        for side, value in (("before", entry.before), ("after", entry.after))
        if value is not None
    ]
    seals = iter(vault.encrypt_each(payloads))
    rows = [
        (
            *_circumstances(entry, run),
            seal_id,
            None if entry.before is None else next(seals),
            None if entry.after is None else next(seals),
            entry.origin,
        )
        for seal_id, entry in zip(ids, listed, strict=True)
    ]
    return Batch(rows, b"".join([content_digest(row, vault) for row in rows]))


def prepare_append(connection: Connection) -> int:
    """Take the append lock for the transaction; create this month's partition if needed.

    Returns the time of the first row, as ``NOW``.
    """
    row = connection.execute(
        text(f"""SELECT pg_advisory_xact_lock_shared(hashtextextended(:name, 0)),
                        ml_connector.make_audit_partition(clock_timestamp()),
                        ml_connector.make_audit_partition(clock_timestamp() + interval '1 day'),
                        {NOW} AS now"""),
        {"name": APPENDING},
    ).one()
    return int(row.now)


def _circumstances(entry: Entry, run: RunContext) -> tuple[Any, ...]:
    return (
        entry.sync,
        entry.system,
        entry.action,
        entry.reason,
        entry.customer_id,
        entry.email_key,
        entry.outcome,
        entry.error,
        entry.attempts,
        entry.request_id,
        entry.cause,
        run.dag_id,
        run.run_id,
        run.task_id,
        run.try_number,
        run.actor,
    )


def identity(seal_id: str, side: str) -> str:
    """Return the identity that a row's ``before`` or ``after`` is encrypted for."""
    return f"audit/{seal_id}/{side}"


def counts(
    connection: Connection, *, run: RunContext, system: str, since: datetime
) -> dict[str, int]:
    """Return how many rows a run wrote about ``system`` since ``since``, by outcome."""
    rows = connection.execute(
        text("""SELECT outcome, count(*) AS entries FROM ml_connector.audit
                WHERE at >= :since AND dag_id = :dag_id AND run_id = :run_id AND system = :system
                GROUP BY outcome ORDER BY outcome"""),
        {"since": since, "dag_id": run.dag_id, "run_id": run.run_id, "system": system},
    ).all()
    return {row.outcome: row.entries for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The audit rows chosen for a replay: rows by id, or all failed rows that match."""

    ids: Sequence[int] = ()
    failed: bool = False
    since: datetime | None = None
    until: datetime | None = None
    sync: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """An audit row as a replay reads it."""

    id: int
    sync: str
    system: str
    action: str
    reason: str
    outcome: str
    cause: str
    customer_id: str | None
    email_key: bytes | None


FAILED = ("failed", "parked", "dead", "quarantined")
"""Outcomes that are worth a replay."""


MAX_CHOSEN = 10_000
"""One replay takes at most this many rows, by their ids."""


def select(connection: Connection, chosen: Selection, *, most: int = MAX_CHOSEN) -> list[AuditRow]:
    """Return the selected rows, oldest first. ``since`` is inclusive, ``until`` exclusive.

    Raises ``SettingsError`` if more than ``most`` rows match.
    """
    rows = connection.execute(
        text("""SELECT id, sync, system, action, reason, outcome, cause, customer_id, email_key
                FROM ml_connector.audit
                WHERE (id = ANY(:ids) OR :failed AND outcome = ANY(:outcomes))
                  AND (CAST(:since AS timestamptz) IS NULL OR at >= :since)
                  AND (CAST(:until AS timestamptz) IS NULL OR at < :until)
                  AND (CAST(:sync AS text) IS NULL OR sync = :sync)
                  AND (CAST(:reason AS text) IS NULL OR reason = :reason)
                ORDER BY id LIMIT :most"""),
        {
            "most": most + 1,
            "ids": list(chosen.ids),
            "failed": chosen.failed,
            "outcomes": list(FAILED),
            "since": chosen.since,
            "until": chosen.until,
            "sync": chosen.sync,
            "reason": chosen.reason,
        },
    ).all()
    if len(rows) > most:
        raise SettingsError(
            f"more than {counted(most, 'row')} of the audit fit; choose fewer, by sync, reason or time"
        )
    return [AuditRow(**row._mapping) for row in rows]  # noqa: SLF001 -- SQLAlchemy's public accessor


def iter_entries(
    begin: Callable[[], AbstractContextManager[Connection]],
    *,
    vault: Vault,
    sync: str | None = None,
    wanted: Filter | None = None,
    newest: int = 0,
    page: int = 1000,
) -> Iterator[dict[str, Any]]:
    """Yield rows oldest first, with decrypted payloads, one page in memory at a time.

    ``newest`` limits the result to that many of the latest rows; 0 means all. An open transaction
    would keep a month of the audit from being dropped. So each page has its own, and a slow
    consumer blocks no work.
    """
    where, values = conditions(wanted or Filter(), sync=sync)
    listed = " AND ".join(where)
    last = 0
    if newest:
        with begin() as connection:
            last = connection.execute(
                text(f"""SELECT coalesce(min(id), 1) - 1 FROM (
                             SELECT id FROM ml_connector.audit WHERE {listed}
                             ORDER BY id DESC LIMIT :newest) chosen"""),  # noqa: S608 -- our own words
                {**values, "newest": newest},
            ).scalar_one()
    while True:
        with begin() as connection:
            rows = connection.execute(
                text(f"""SELECT * FROM ml_connector.audit WHERE {listed} AND id > :last
                         ORDER BY id LIMIT :page"""),  # noqa: S608 -- as above
                {**values, "last": last, "page": page},
            ).all()
        if not rows:
            return
        last = rows[-1].id
        for row in rows:
            yield _opened(row, vault)


def entry_by_id(connection: Connection, *, vault: Vault, entry_id: int) -> dict[str, Any] | None:
    """Return one row as ``iter_entries`` does, None if it does not exist."""
    row = connection.execute(
        text("SELECT * FROM ml_connector.audit WHERE id = :id"), {"id": entry_id}
    ).one_or_none()
    return None if row is None else _opened(row, vault)


def _opened(row: Row[Any], vault: Vault) -> dict[str, Any]:
    entry = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public accessor
    seal_id = entry.pop("seal_id")
    entry["at"] = entry["at"].isoformat()
    entry["email_key"] = bytes(entry["email_key"]).hex() if entry["email_key"] else None
    for side in ("before", "after"):
        sealed = entry[side]
        entry[side] = vault.decrypt(sealed, identity(seal_id, side)) if sealed else None
    return entry
