"""Rotate encryption keys while syncs run: re-encrypt every payload under the newest key.

A round passes through every table once, in short transactions of one page. Kill and rerun it at any
point: values under the newest key are skipped. Rows locked by a writer are skipped too; a later
page or round processes them. A process with the old list of keys keeps writing under the former
key. That is why rounds repeat and a final count decides.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, text

from ml_connector.audit import chain, rewrites
from ml_connector.audit.rewrites import Payloads
from ml_connector.errors import SettingsError
from ml_connector.privacy.payloads import AUDIT, ENCRYPTED, EncryptedColumn, next_page
from ml_connector.store.database import Database
from ml_connector.vault import KEYS_VARIABLE, Vault

PAGE = 500
"""Rows re-encrypted in one transaction."""
_KEY = "substring({column} FROM 2 FOR 4)"
_AUDIT_STALE = " OR ".join(f"{_KEY.format(column=f'a.{each.column}')} <> :newest" for each in AUDIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class RotatedPage:
    """The result of a page: values re-encrypted, values that fail to decrypt, next start."""

    done: int
    closed: int
    after: tuple[Any, ...] | None


def count_by_key(connection: Connection) -> list[tuple[EncryptedColumn, bytes, int]]:
    """Return (column, key id, values) for each encrypted column and each of its keys."""
    found = []
    for column in ENCRYPTED:
        rows = connection.execute(
            text(f"""SELECT {_KEY.format(column=column.column)} AS key_id, count(*) AS number
                     FROM ml_connector.{column.table}
                     WHERE {column.column} IS NOT NULL GROUP BY 1 ORDER BY 1""")  # noqa: S608
        ).all()
        found += [(column, bytes(row.key_id), int(row.number)) for row in rows]
    return found


Step = Callable[..., RotatedPage]


def steps() -> list[tuple[str, Step]]:
    """Return the steps of a round: a table's name, and a function that rotates a page of it."""
    plain = [column for column in ENCRYPTED if column not in AUDIT]
    return [
        *((column.table, _step(column)) for column in plain),
        (AUDIT[0].table, _audit_page),
    ]


def _step(column: EncryptedColumn) -> Step:
    def step(
        connection: Connection, *, vault: Vault, after: tuple[Any, ...] | None, page: int = PAGE
    ) -> RotatedPage:
        rows = next_page(
            connection,
            column,
            after=after,
            where=f"{_KEY.format(column=column.column)} <> :newest",
            locking="FOR UPDATE SKIP LOCKED",
            page=page,
            newest=vault.newest,
        )
        fresh = [
            (row, _resealed(bytes(row.sealed), column.identity_of(row), vault)) for row in rows
        ]
        _store(connection, column, [(row, new) for row, new in fresh if new is not None])
        closed = sum(new is None for _, new in fresh)
        last = column.keys_of(rows[-1]) if rows else None
        return RotatedPage(done=len(rows) - closed, closed=closed, after=last)

    return step


def _store(
    connection: Connection, column: EncryptedColumn, fresh: Sequence[tuple[Row[Any], bytes]]
) -> None:
    if not fresh:
        return
    key = ", ".join(column.key)
    arrays = ", ".join(f"CAST(:{name} AS {column.type_of(name)}[])" for name in column.key)
    matches = " AND ".join(f"t.{name} = n.{name}" for name in column.key)
    keys = list(zip(*(column.keys_of(row) for row, _ in fresh), strict=True))
    connection.execute(
        text(f"""UPDATE ml_connector.{column.table} t SET {column.column} = n.fresh
                 FROM unnest({arrays}, CAST(:fresh AS bytea[])) AS n({key}, fresh)
                 WHERE {matches}"""),  # noqa: S608 -- constants
        {
            **{name: list(values) for name, values in zip(column.key, keys, strict=True)},
            "fresh": [new for _, new in fresh],
        },
    )


def _audit_page(
    connection: Connection, *, vault: Vault, after: tuple[Any, ...] | None, page: int = PAGE
) -> RotatedPage:
    """Re-encrypt a page of audit rows."""
    rows = connection.execute(
        text(f"""SELECT a.id, a.seal_id, a.before, a.after FROM ml_connector.audit a
                 WHERE a.id > :after AND ({_AUDIT_STALE})
                 ORDER BY a.id LIMIT :page FOR UPDATE OF a SKIP LOCKED"""),  # noqa: S608
        {"after": after[0] if after else 0, "page": page, "newest": vault.newest},
    ).all()
    fresh, values = [], 0
    for row in rows:
        sides = []
        for column, sealed in zip(AUDIT, (row.before, row.after), strict=True):
            new = sealed and _resealed(bytes(sealed), column.identity(row.seal_id), vault)
            sides.append((sealed, new))
        if all(sealed is None or new is not None for sealed, new in sides):
            fresh.append(Payloads(row.id, sides[0][1], sides[1][1]))
            values += sum(sealed is not None for sealed, _ in sides)
    rewrites.reencrypt(connection, fresh, vault=vault)
    last = (rows[-1].id,) if rows else None
    return RotatedPage(done=values, closed=len(rows) - len(fresh), after=last)


def _resealed(sealed: bytes, identity: str, vault: Vault) -> bytes | None:
    """Return the value under the newest key; None if it was altered and fails to decrypt."""
    try:
        return vault.reencrypt(sealed, identity)
    except SettingsError:
        return None


ROUNDS = 10
"""A rotation stops after this many rounds."""
PAUSE = 1.0
"""Seconds between two rounds. Rows locked by a writer are free by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """Values not under the newest key, by table. ``closed`` counts those that fail to decrypt."""

    former: Counter[str] = field(default_factory=Counter)
    total: int = 0
    closed: int = 0


def count_remaining(database: Database, vault: Vault) -> Remaining:
    """Return what is still under former keys.

    Raises ``SettingsError`` if a value was encrypted with a key that is not available.
    """
    with database.begin() as connection:
        found = count_by_key(connection)
    unknown = Counter[str]()
    former = Counter[str]()
    for column, key_id, number in found:
        if not vault.has(key_id):
            unknown[column.table] += number
        elif key_id != vault.newest:
            former[column.table] += number
    if unknown:
        places = ", ".join(f"{number} in {table}" for table, number in sorted(unknown.items()))
        raise SettingsError(
            f"stored payloads were sealed with a key that is not in {KEYS_VARIABLE} ({places});"
            " add the former key to the end of the list"
        )
    return Remaining(former=former, total=sum(number for *_, number in found))


def rotate(
    database: Database,
    vault: Vault,
    *,
    page: int = PAGE,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Remaining]:
    """Re-encrypt everything under the newest key; yield what remains before and after each round.

    Raises ``SettingsError`` as ``count_remaining`` does. What remains at the end is still written
    under a former key, or fails to decrypt.
    """
    left = count_remaining(database, vault)
    yield left
    for number in range(ROUNDS):
        if not left.former:
            return
        if number:
            sleep(PAUSE)
        chain.seal(database, vault)  # rows of a former release have no digest before
        closed = sum(_round(database, vault, step, page) for _, step in steps())
        left = count_remaining(database, vault)
        left = Remaining(former=left.former, total=left.total, closed=closed)
        yield left
        if closed and closed >= sum(left.former.values()):
            return


def _round(database: Database, vault: Vault, step: Step, page: int) -> int:
    after, closed = None, 0
    while True:
        with database.begin() as connection:
            done = step(connection, vault=vault, after=after, page=page)
        closed += done.closed
        if done.after is None:
            return closed
        after = done.after
