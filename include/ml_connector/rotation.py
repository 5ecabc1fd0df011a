"""Keys rotated while everything else goes on: in rounds, until nothing is under a former key.

A round goes through every table once, a short transaction a page. It may end at any point and be
started again: what is under the newest key is not touched. A process that was not restarted with
the new list goes on writing under the former key, which is why rounds are repeated, and why the
last word is a count.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ml_connector.audit import chain
from ml_connector.errors import SettingsError
from ml_connector.store import rotation
from ml_connector.store.database import Database
from ml_connector.vault import KEYS_VARIABLE, Vault

ROUNDS = 10
PAUSE = 1.0
"""Seconds between two rounds: rows that were being written are free by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is not under the newest key: values by table; ``closed``: of these, do not open."""

    former: Counter[str] = field(default_factory=Counter)
    total: int = 0
    closed: int = 0


def count(database: Database, vault: Vault) -> Left:
    """Return what is still under former keys.

    Raises ``SettingsError`` if something was sealed with a key that is not at hand.
    """
    with database.begin() as connection:
        found = rotation.by_key(connection)
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
    return Left(former=former, total=sum(number for *_, number in found))


def rotate(
    database: Database,
    vault: Vault,
    *,
    page: int = rotation.PAGE,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Left]:
    """Re-encrypt everything under the newest key; yield what is left before each round and at the end.

    Raises ``SettingsError`` as ``count``. What is left at the end is still being written under a
    former key, or does not open.
    """
    left = count(database, vault)
    yield left
    for number in range(ROUNDS):
        if not left.former:
            return
        if number:
            sleep(PAUSE)
        chain.seal(database, vault)  # only sealed rows of the audit can be rewritten
        closed = sum(_round(database, vault, step, page) for _, step in rotation.steps())
        left = count(database, vault)
        left = Left(former=left.former, total=left.total, closed=closed)
        yield left
        if closed and closed >= sum(left.former.values()):
            return


def _round(database: Database, vault: Vault, step: rotation.Step, page: int) -> int:
    after, closed = None, 0
    while True:
        with database.begin() as connection:
            done = step(connection, vault=vault, after=after, page=page)
        closed += done.closed
        if done.after is None:
            return closed
        after = done.after
