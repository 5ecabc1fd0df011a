"""Audit chain: link the batches of audit rows, and verify rows, batches and links.

A batch protects its rows from the moment they are written (``audit.trail``): editing, inserting,
swapping or removing a row takes a key that is not in the database. A seal links a batch with the
one before it. It holds the batch's keyed hash and a hash over the previous seal, so no batch can be
removed or inserted either.

The chain follows the order of ids. A batch is linked only after every transaction with a lower id
has ended. An id without a row at that time was rolled back. A row that appears there later was
inserted by an attacker.

Former releases wrote a seal for each row, at the end of a run. These seals stay and verify.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, text

from ml_connector.audit.digests import (
    FORMER_COLUMNS,
    batch_mac,
    checkpoint_mac,
    content_digest,
    former_digest,
    iter_digests,
    link_mac,
    rewrite_mac,
)
from ml_connector.audit.trail import APPENDING
from ml_connector.store.database import Database, copy_rows
from ml_connector.vault import Vault

PAGE = 5000
"""Rows or batches sealed at a time, and rows verified; sealing commits after each page."""
UNITS = 200
"""Batches verified at a time: each holds the digests of up to 10,000 rows, 160 kB."""
MAX_COMPARED = 300
"""Up to this many rows that do not match their digests are compared with one another, to detect
swaps."""

_SEALING = "ml_connector/audit_seals"
_SEAL_COLUMNS = {
    "position": "int8", "audit_id": "int8", "at": "timestamptz", "digest": "bytea", "mac": "bytea",
    "rows": "int4",
}  # fmt: skip
_LISTED = ", ".join(f"a.{column}" for column in FORMER_COLUMNS)
_ID, _AT, _CONTENT, _WIDTH = 0, 1, 2, len(FORMER_COLUMNS)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)

Wrong = Literal["edited", "removed", "inserted", "swapped", "seal altered", "seal missing"]


class Link(NamedTuple):
    """The end of the chain: rows sealed, the last one's id, and the hash to continue from."""

    position: int
    audit_id: int
    mac: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SealResult:
    """The result of sealing: rows newly sealed, rows in the chain, and its last hash (hex)."""

    rows: int
    position: int
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem with the row ``audit_id``, or with the batch or seal that ends with it."""

    wrong: Wrong
    audit_id: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The result of a verification: rows in the chain that match, rows not in it yet, findings.

    ``erased`` counts the sound rows whose personal data an erasure destroyed. ``head`` is the last
    hash (hex).
    """

    sound: int
    unsealed: int
    findings: Sequence[Finding]
    head: str
    erased: int = 0


# ── sealing ───────────────────────────────────────────────────────────────────────────────────


def seal(database: Database, vault: Vault, *, page: int = PAGE) -> SealResult:
    """Link every batch that is not in the chain yet. One process at a time; the others wait.

    Each page is a transaction, so a killed process leaves a shorter chain that is just as sound.
    """
    until, sealed, left = _horizon(database), 0, True
    while left:
        with database.begin() as connection:
            _take_seals(connection)
            last = _last(connection, vault)
            former = min(until, _former_until(connection))
            units = _former_rows(connection, vault, after=last.audit_id, until=former, page=page)
            units = units or _batches(connection, after=last.audit_id, until=until, page=page)
            links = list(_links(units, last, vault))
            copy_rows(connection, "ml_connector.audit_seals", _SEAL_COLUMNS, links)
        left = bool(units)
        sealed += sum(unit.rows or 1 for unit in units)
    with database.begin() as connection:
        last = _last(connection, vault)
    return SealResult(rows=sealed, position=last.position, head=last.mac.hex())


class _Unit(NamedTuple):
    """What a seal covers: a batch, or a single row of a former release (``rows`` is None)."""

    last_id: int
    rows: int | None
    at: datetime
    digest: bytes


def _horizon(database: Database) -> int:
    """Return an id up to which every row is committed or never will be."""
    with database.begin() as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": APPENDING}
        )
        found = connection.execute(
            text(
                "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ml_connector.audit_id_seq"
            )
        ).scalar_one()
        return int(found)


def _take_seals(connection: Connection) -> None:
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": _SEALING}
    )


def _last(connection: Connection, vault: Vault) -> Link:
    row = connection.execute(
        text("""SELECT position, audit_id, mac FROM ml_connector.audit_seals
                ORDER BY position DESC LIMIT 1""")
    ).one_or_none()
    if row is not None:
        return Link(row.position, row.audit_id, bytes(row.mac))
    start = checkpoint(connection, vault)
    return Link(start.position, start.audit_id, start.mac)


def _batches(connection: Connection, *, after: int, until: int, page: int) -> Sequence[_Unit]:
    rows = connection.execute(
        text("""SELECT last_id, rows, at, mac FROM ml_connector.audit_batches
                WHERE last_id > :after AND last_id <= :until ORDER BY last_id LIMIT :page"""),
        {"after": after, "until": until, "page": page},
    ).all()
    return [_Unit(row.last_id, row.rows, row.at, bytes(row.mac)) for row in rows]


def _former_until(connection: Connection) -> int:
    """Return up to which id a row may be without a batch: a former release wrote it.

    0 once a batch is in the chain, since all rows before it are in the chain too.
    """
    return int(
        connection.execute(
            text("""SELECT CASE
                        WHEN EXISTS (SELECT 1 FROM ml_connector.audit_seals
                                     WHERE rows IS NOT NULL) THEN 0
                        ELSE coalesce((SELECT last_id - rows FROM ml_connector.audit_batches
                                       ORDER BY last_id LIMIT 1), 9223372036854775807) END""")
        ).scalar_one()
    )


def _former_rows(
    connection: Connection, vault: Vault, *, after: int, until: int, page: int
) -> Sequence[_Unit]:
    rows = connection.execute(
        text(f"""SELECT {_LISTED} FROM ml_connector.audit a
                 WHERE a.id > :after AND a.id <= :until ORDER BY a.id LIMIT :page"""),  # noqa: S608
        {"after": after, "until": until, "page": page},
    ).all()
    return [_Unit(row[_ID], None, row[_AT], former_digest(row, vault)) for row in rows]


def _links(units: Sequence[_Unit], last: Link, vault: Vault) -> Iterator[tuple[Any, ...]]:
    position, mac = last.position, last.mac
    for unit in units:
        position += unit.rows or 1
        mac = link_mac(mac, position, unit.last_id, unit.at, unit.digest, vault)
        yield position, unit.last_id, unit.at, unit.digest, mac, unit.rows


# ── start of the chain ────────────────────────────────────────────────────────────────────────


class Checkpoint(NamedTuple):
    """The start of the chain after retention: rows before ``dropped_before`` are gone.

    The chain continues after ``position``. ``signed`` is False if the checkpoint's own signature
    does not match.
    """

    dropped_before: datetime | None
    position: int
    audit_id: int
    mac: bytes
    signed: bool


def checkpoint(connection: Connection, vault: Vault) -> Checkpoint:
    """Return the start of the chain: its beginning, or the point where dropped rows end."""
    row = connection.execute(
        text("""SELECT dropped_before, position, audit_id, mac, signature
                FROM ml_connector.audit_checkpoints ORDER BY dropped_before DESC LIMIT 1""")
    ).one_or_none()
    if row is None:
        return Checkpoint(None, 0, 0, vault.audit_mac(b"start"), signed=True)
    mine = checkpoint_mac(row.dropped_before, row.position, row.audit_id, bytes(row.mac), vault)
    return Checkpoint(
        row.dropped_before,
        row.position,
        row.audit_id,
        bytes(row.mac),
        signed=mine == bytes(row.signature),
    )


def write_checkpoint(
    connection: Connection, vault: Vault, *, dropped_before: datetime, kept_from: int | None
) -> None:
    """Restart the chain before the row ``kept_from``; None if no sealed row remains.

    Later seals of dropped rows stay. Their time proves that the rows were dropped by age.
    """
    _take_seals(connection)
    before = "" if kept_from is None else "WHERE audit_id < :kept_from"
    last = connection.execute(
        text(f"""SELECT position, audit_id, mac FROM ml_connector.audit_seals {before}
                 ORDER BY position DESC LIMIT 1"""),  # noqa: S608
        {} if kept_from is None else {"kept_from": kept_from},
    ).one_or_none()
    start = checkpoint(connection, vault)
    link = Link(*last) if last is not None else Link(start.position, start.audit_id, start.mac)
    mac = bytes(link.mac)
    connection.execute(
        text("""INSERT INTO ml_connector.audit_checkpoints
                    (dropped_before, position, audit_id, mac, signature)
                VALUES (:dropped_before, :position, :audit_id, :mac, :signature)"""),
        {
            "dropped_before": dropped_before,
            "position": link.position,
            "audit_id": link.audit_id,
            "mac": mac,
            "signature": checkpoint_mac(dropped_before, link.position, link.audit_id, mac, vault),
        },
    )
    connection.execute(
        text("DELETE FROM ml_connector.audit_seals WHERE position <= :position"),
        {"position": link.position},
    )
    connection.execute(
        text("DELETE FROM ml_connector.audit_batches WHERE last_id <= :audit_id"),
        {"audit_id": link.audit_id},
    )
    connection.execute(
        text("DELETE FROM ml_connector.audit_rewrites WHERE at < :dropped_before"),
        {"dropped_before": dropped_before},
    )


# ── verification ──────────────────────────────────────────────────────────────────────────────


def verify(
    connection: Connection, vault: Vault, *, head: str | None = None, page: int = PAGE
) -> Verified:
    """Compare every row with its digest, every batch with its hash, every seal with the previous.

    ``head`` is a hash noted earlier that must be in the chain. It detects a chain that was cut off
    at its end together with its rows. The transaction must be new: all of it sees one moment.
    """
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    return _Verifier(connection, vault, head).run(page)


class _Expected(NamedTuple):
    """A row as its batch has it."""

    id: int
    at: datetime
    digest: bytes


class _Verifier:
    def __init__(self, connection: Connection, vault: Vault, head: str | None) -> None:
        self._connection, self._vault, self._head = connection, vault, head
        self._start = checkpoint(connection, vault)
        self._mac = self._start.mac
        self._position = self._start.position
        self._found: list[Finding] = []
        self._edited: dict[int, Row[Any]] = {}
        self._digests: dict[bytes, int] = {}
        self._head_seen = head in (None, self._mac.hex())
        self._sound = self._unsealed = self._erased = 0

    def run(self, page: int) -> Verified:
        if not self._start.signed:
            self._add("seal altered", self._start.audit_id, "the checkpoint of dropped rows")
        last = self._connection.execute(
            text("SELECT coalesce(max(audit_id), 0) FROM ml_connector.audit_seals")
        ).scalar_one()
        self._last = max(last, self._start.audit_id)
        self._former = _former_until(self._connection)
        rows = _Rows(self._iter_rows(page))
        for unit in self._iter_units(min(page, UNITS)):
            first = unit.place - (unit.rows or unit.sealed_rows or 1) + 1
            self._without_batch(rows.below(first))
            within = {row.id: row for row in rows.below(unit.place + 1)}
            if unit.position is not None:
                self._follow(unit)
            if unit.rows is not None:
                self._compare_batch(unit, within)
            elif unit.sealed_rows is None:
                self._compare_former(unit, within.get(unit.place))
            else:
                self._lost_batch(unit, first, within)
        self._without_batch(rows.below(None))
        self._tell_swaps()
        if not self._head_seen:
            self._add("seal missing", self._last, f"the chain does not hold {self._head}")
        return Verified(
            sound=self._sound,
            unsealed=self._unsealed,
            findings=sorted(self._found, key=lambda finding: finding.audit_id),
            head=self._mac.hex(),
            erased=self._erased,
        )

    def _iter_rows(self, page: int) -> Iterator[Row[Any]]:
        after = 0
        while True:
            rows = self._connection.execute(
                text(f"""SELECT {_LISTED}, r.kind AS rewrite, r.digest AS rewritten,
                                r.mac AS rewrite_mac
                         FROM (SELECT * FROM ml_connector.audit WHERE id > :after
                               ORDER BY id LIMIT :page) a
                         LEFT JOIN ml_connector.audit_rewrites r ON r.audit_id = a.id
                         ORDER BY a.id"""),  # noqa: S608 -- a constant
                {"after": after, "page": page},
            ).all()
            if not rows:
                return
            yield from rows
            after = rows[-1].id

    def _iter_units(self, page: int) -> Iterator[Row[Any]]:
        """Yield batches joined with their seals in the order of ids; either may be missing."""
        after = 0
        while True:
            units = self._connection.execute(
                text("""WITH b AS (SELECT * FROM ml_connector.audit_batches
                                   WHERE last_id > :after ORDER BY last_id LIMIT :page),
                             s AS (SELECT * FROM ml_connector.audit_seals
                                   WHERE audit_id > :after ORDER BY audit_id LIMIT :page)
                        SELECT coalesce(b.last_id, s.audit_id) AS place, b.rows, b.at, b.digests,
                               b.mac AS batch_mac, s.position, s.rows AS sealed_rows,
                               s.at AS sealed_at, s.digest, s.mac
                        FROM b FULL JOIN s ON s.audit_id = b.last_id
                        ORDER BY place LIMIT :page"""),
                {"after": after, "page": page},
            ).all()
            if not units:
                return
            yield from units
            after = units[-1].place

    def _without_batch(self, rows: Sequence[Row[Any]]) -> None:
        for row in rows:
            if self._last < row.id <= self._former:
                self._unsealed += 1
            else:
                self._add("inserted", row.id)

    def _follow(self, unit: Row[Any]) -> None:
        """Check that the seal follows from the previous one."""
        follows = unit.position == self._position + (unit.sealed_rows or 1)
        if not follows:
            self._add("seal missing", unit.place, f"no seal between {self._position} and it")
        mac = link_mac(
            self._mac, unit.position, unit.place, unit.sealed_at, bytes(unit.digest), self._vault
        )
        if follows and mac != bytes(unit.mac):
            self._add("seal altered", unit.place)
        self._position, self._mac = unit.position, bytes(unit.mac)
        self._head_seen = self._head_seen or self._mac.hex() == self._head

    def _compare_batch(self, unit: Row[Any], within: dict[int, Row[Any]]) -> None:
        if unit.position is None and unit.place <= self._last:
            for id_ in within:  # whole again, after its neighbours had been sealed without it
                self._add("inserted", id_)
            return
        digests = bytes(unit.digests)
        at = (unit.at - _EPOCH) // _TICK
        mac = batch_mac(unit.place, unit.rows, at, digests, self._vault)
        sealed = mac if unit.position is None else bytes(unit.digest)
        if mac != bytes(unit.batch_mac) or mac != sealed:
            self._add("seal altered", unit.place, "the digests of its batch")
        first, sound = unit.place - unit.rows + 1, 0
        for place, digest in enumerate(iter_digests(digests)):
            expected = _Expected(first + place, unit.at + place * _TICK, digest)
            sound += self._matches(within.get(expected.id), expected)
        if unit.position is None:
            self._unsealed += sound
        else:
            self._sound += sound

    def _matches(self, row: Row[Any] | None, expected: _Expected) -> bool:
        if row is None:
            self._missing(expected.id, expected.at)
            return False
        digest = content_digest(row[_CONTENT:_WIDTH], self._vault)
        if row.at == expected.at and self._permitted(row, digest, expected.digest):
            return True
        self._differs(row, expected.digest)
        return False

    def _compare_former(self, unit: Row[Any], row: Row[Any] | None) -> None:
        if row is None:
            self._missing(unit.place, unit.sealed_at)
        elif self._permitted(row, former_digest(row[:_WIDTH], self._vault), bytes(unit.digest)):
            self._sound += 1
        else:
            self._differs(row, bytes(unit.digest))

    def _lost_batch(self, unit: Row[Any], first: int, within: dict[int, Row[Any]]) -> None:
        """Judge a seal whose batch is gone: dropped by age with its rows, or removed."""
        for id_ in range(first, unit.place + 1):
            if id_ not in within:
                self._missing(id_, unit.sealed_at + (id_ - first) * _TICK)
        if within:
            self._add("seal missing", unit.place, "the digests of its batch")

    def _missing(self, audit_id: int, at: datetime) -> None:
        dropped = self._start.dropped_before
        if dropped is None or not self._start.signed or at >= dropped:
            self._add("removed", audit_id)

    def _permitted(self, row: Row[Any], digest: bytes, sealed: bytes) -> bool:
        """Return whether a row is as written, or as an erasure or a key rotation left it."""
        if digest != sealed:
            if row.rewrite is None or bytes(row.rewritten) != digest:
                return False
            mac = rewrite_mac(row.id, row.rewrite, sealed, digest, self._vault)
            if mac != bytes(row.rewrite_mac):
                return False
        self._erased += row.rewrite == "erased"
        return True

    def _differs(self, row: Row[Any], sealed: bytes) -> None:
        if len(self._edited) <= MAX_COMPARED:  # beyond the limit, no row is compared
            self._edited[row.id] = row
            self._digests[sealed] = row.id
        self._add("edited", row.id)

    def _tell_swaps(self) -> None:
        """Reclassify edited rows that hold each other's content as swapped."""
        if len(self._edited) > MAX_COMPARED:
            return
        for number, finding in enumerate(self._found):
            if finding.wrong == "edited":
                held = self._held(self._edited[finding.audit_id])
                if held is not None and held != finding.audit_id:
                    self._found[number] = Finding(
                        wrong="swapped", audit_id=finding.audit_id, detail=f"it holds {held}"
                    )

    def _held(self, row: Row[Any]) -> int | None:
        """Return whose content an edited row holds, None if no other edited row's."""
        content = content_digest(row[_CONTENT:_WIDTH], self._vault)
        if content in self._digests:
            return self._digests[content]
        for id_ in self._edited:
            former = former_digest((id_, *row[_AT:_WIDTH]), self._vault)
            if id_ != row.id and former in self._digests:
                return id_
        return None

    def _add(self, wrong: Wrong, audit_id: int, detail: str = "") -> None:
        self._found.append(Finding(wrong=wrong, audit_id=audit_id, detail=detail))


class _Rows:
    """Rows in the order of ids, taken part by part."""

    def __init__(self, rows: Iterator[Row[Any]]) -> None:
        self._rows, self._next = rows, next(rows, None)

    def below(self, id_: int | None) -> list[Row[Any]]:
        """Take the rows with ids below ``id_``; None takes all."""
        taken = []
        while self._next is not None and (id_ is None or self._next.id < id_):
            taken.append(self._next)
            self._next = next(self._rows, None)
        return taken
