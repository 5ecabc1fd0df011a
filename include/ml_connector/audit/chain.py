"""Audit chain: seal each audit row with a keyed hash that includes the previous seal.

A seal holds its row's digest and a hash over the previous seal. Both are HMAC-SHA256 (RFC 2104)
under a key that is not in the database. An attacker with write access to the database can change a
row, but not its seal. The attacker cannot remove or insert a seal either.

The chain follows the order of ids. A row is sealed only after every transaction with a lower id has
ended. An id without a row at that time was rolled back. A row that appears there later was inserted
by an attacker.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, text

from ml_connector.audit.trail import APPENDING
from ml_connector.batching import prefetch
from ml_connector.store.database import Database, copy_rows
from ml_connector.vault import Vault

SEALED_COLUMNS = (
    "id", "at", "sync", "system", "action", "reason", "customer_id", "email_key", "outcome",
    "error", "attempts", "request_id", "cause", "dag_id", "run_id", "task_id", "try_number",
    "actor", "seal_id", "before", "after", "origin",
)  # fmt: skip
"""A digest covers these columns, in this order. Never add a column here: the digests of old rows
would no longer match. A new column needs a second form of digest."""

_AT = SEALED_COLUMNS.index("at")
_BINARY = [SEALED_COLUMNS.index(column) for column in ("email_key", "before", "after")]

PAGE = 5000
"""Rows sealed or verified at a time; sealing commits after each page."""
MAX_COMPARED = 300
"""Up to this many rows that do not match their seals are compared with one another, to detect
swaps."""

_SEALING = "ml_connector/audit_seals"
_SEAL_COLUMNS = {
    "position": "int8", "audit_id": "int8", "at": "timestamptz", "digest": "bytea", "mac": "bytea",
}  # fmt: skip
_LISTED = ", ".join(f"a.{column}" for column in SEALED_COLUMNS)
_encoder = msgspec.json.Encoder()

Wrong = Literal["edited", "removed", "inserted", "swapped", "seal altered", "seal missing"]


class Link(NamedTuple):
    """The end of the chain: last position, the row sealed there, and the hash to continue from."""

    position: int
    audit_id: int
    mac: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SealResult:
    """The result of sealing: rows newly sealed, length of the chain, and its last hash (hex)."""

    rows: int
    position: int
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem with the row ``audit_id`` or, for seals, at the position it names."""

    wrong: Wrong
    audit_id: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The result of a verification: rows that match their seals, unsealed rows, and findings.

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
    """Seal every unsealed row. One process seals at a time; the others wait, then continue.

    Each page is a transaction, so a killed process leaves a shorter chain that is just as sound.
    The next page is prefetched meanwhile, because an unsealed row never changes.
    """
    sealed = 0
    for rows in prefetch(_iter_unsealed(database, until=_horizon(database), page=page)):
        with database.begin() as connection:
            _take_seals(connection)
            last = _last(connection, vault)
            # Another process sealed the rows up to there after they were read.
            links = list(_links([row for row in rows if row[0] > last.audit_id], last, vault))
            copy_rows(connection, "ml_connector.audit_seals", _SEAL_COLUMNS, links)
        sealed += len(links)
    with database.begin() as connection:
        last = _last(connection, vault)
    return SealResult(rows=sealed, position=last.position, head=last.mac.hex())


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


def _iter_unsealed(database: Database, *, until: int, page: int) -> Iterator[Sequence[Row[Any]]]:
    after = 0
    while True:
        with database.begin() as connection:
            rows = connection.execute(
                text(f"""SELECT {_LISTED} FROM ml_connector.audit a
                         WHERE a.id > greatest(:after, (SELECT max(audit_id)
                                                        FROM ml_connector.audit_seals))
                           AND a.id <= :until ORDER BY a.id LIMIT :page"""),  # noqa: S608
                {"after": after, "until": until, "page": page},
            ).all()
        if not rows:
            return
        yield rows
        after = rows[-1][0]


def _links(rows: Sequence[Row[Any]], last: Link, vault: Vault) -> Iterator[tuple[Any, ...]]:
    position, mac = last.position, last.mac
    for row in rows:
        position += 1
        id_, at = row[0], row[_AT]
        digest = digest_of(row, vault)
        mac = mac_of(mac, position, id_, at, digest, vault)
        yield position, id_, at, digest, mac


def digest_of(row: Sequence[Any], vault: Vault) -> bytes:
    """Return the keyed digest of a row's bytes, with payloads in encrypted form."""
    return vault.audit_mac(b"row" + _encoder.encode(_values(row)))


def _values(row: Sequence[Any]) -> list[Any]:
    """Return the values that a digest covers: times in UTC, bytes as hexadecimal digits."""
    values = list(row)
    values[_AT] = _utc(values[_AT])
    for place in _BINARY:
        if values[place] is not None:
            values[place] = values[place].hex()
    return values


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def mac_of(
    previous: bytes, position: int, audit_id: int, at: datetime, digest: bytes, vault: Vault
) -> bytes:
    """Return the keyed hash of a position in the chain."""
    place = _encoder.encode([position, audit_id, _utc(at)])
    return vault.audit_mac(b"seal" + previous + digest + place)


def rewrite_mac(audit_id: int, kind: str, sealed: bytes, digest: bytes, vault: Vault) -> bytes:
    """Return the keyed hash that permits the ``digest`` of a row in place of the ``sealed`` one."""
    content = _encoder.encode([audit_id, kind, bytes(sealed).hex(), bytes(digest).hex()])
    return vault.audit_mac(b"rewrite" + content)


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


def checkpoint_mac(
    dropped_before: datetime, position: int, audit_id: int, mac: bytes, vault: Vault
) -> bytes:
    """Return the keyed hash that signs a checkpoint."""
    place = [_utc(dropped_before), position, audit_id, mac.hex()]
    return vault.audit_mac(b"checkpoint" + _encoder.encode(place))


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
        text("DELETE FROM ml_connector.audit_rewrites WHERE at < :dropped_before"),
        {"dropped_before": dropped_before},
    )


# ── verification ──────────────────────────────────────────────────────────────────────────────


def verify(
    connection: Connection, vault: Vault, *, head: str | None = None, page: int = PAGE
) -> Verified:
    """Compare every row with its seal and every seal with the previous one.

    ``head`` is a hash noted earlier that must be in the chain. It detects a chain that was cut off
    at its end together with its rows.
    """
    return _Verifier(connection, vault, head).run(page)


class _Verifier:
    def __init__(self, connection: Connection, vault: Vault, head: str | None) -> None:
        self._connection, self._vault, self._head = connection, vault, head
        self._start = checkpoint(connection, vault)
        self._mac = self._start.mac
        self._position = self._start.position
        self._found: list[Finding] = []
        self._edited: dict[int, list[Any]] = {}
        self._digests: set[bytes] = set()
        self._head_seen = head in (None, self._mac.hex())
        self._sound = self._unsealed = self._erased = 0

    def run(self, page: int) -> Verified:
        if not self._start.signed:
            self._add("seal altered", self._start.audit_id, "the checkpoint of dropped rows")
        last = self._connection.execute(
            text("SELECT coalesce(max(audit_id), 0) FROM ml_connector.audit_seals")
        ).scalar_one()
        last = max(last, self._start.audit_id)
        for both in self._iter_pairs(page):
            if both.sealed_id is None:
                if both.id > last:
                    self._unsealed += 1
                else:
                    self._add("inserted", both.id)
                continue
            self._follow(both)
            self._compare(both)
        self._tell_swaps()
        if not self._head_seen:
            self._add("seal missing", last, f"the chain does not hold {self._head}")
        return Verified(
            sound=self._sound,
            unsealed=self._unsealed,
            findings=sorted(self._found, key=lambda finding: finding.audit_id),
            head=self._mac.hex(),
            erased=self._erased,
        )

    def _iter_pairs(self, page: int) -> Iterator[Row[Any]]:
        """Yield rows joined with their seals in the order of ids; either may be missing."""
        after = 0
        while True:
            rows = self._connection.execute(
                text(f"""WITH a AS (SELECT * FROM ml_connector.audit
                                    WHERE id > :after ORDER BY id LIMIT :page),
                              s AS (SELECT * FROM ml_connector.audit_seals
                                    WHERE audit_id > :after ORDER BY audit_id LIMIT :page)
                         SELECT {_LISTED}, s.audit_id AS sealed_id, s.position, s.at AS sealed_at,
                                s.digest, s.mac, coalesce(a.id, s.audit_id) AS place,
                                r.kind AS rewrite, r.digest AS rewritten, r.mac AS rewrite_mac
                         FROM a FULL JOIN s ON s.audit_id = a.id
                         LEFT JOIN ml_connector.audit_rewrites r ON r.audit_id = a.id
                         ORDER BY place LIMIT :page"""),  # noqa: S608 -- a constant
                {"after": after, "page": page},
            ).all()
            if not rows:
                return
            yield from rows
            after = rows[-1].place

    def _follow(self, both: Row[Any]) -> None:
        """Check that the seal follows from the previous one."""
        if both.position != self._position + 1:
            self._add("seal missing", both.place, f"no seal between {self._position} and it")
        mac = mac_of(
            self._mac,
            both.position,
            both.sealed_id,
            both.sealed_at,
            bytes(both.digest),
            self._vault,
        )
        if both.position == self._position + 1 and mac != bytes(both.mac):
            self._add("seal altered", both.sealed_id)
        self._position, self._mac = both.position, bytes(both.mac)
        self._head_seen = self._head_seen or self._mac.hex() == self._head

    def _compare(self, both: Row[Any]) -> None:
        if both.id is None:
            dropped = self._start.dropped_before
            if dropped is None or not self._start.signed or both.sealed_at >= dropped:
                self._add("removed", both.sealed_id)
            return
        digest = digest_of(both[: len(SEALED_COLUMNS)], self._vault)
        if digest == bytes(both.digest) or self._rewritten(both, digest):
            self._sound += 1
            self._erased += both.rewrite == "erased"
            return
        if len(self._edited) <= MAX_COMPARED:  # beyond the limit, no row is compared
            self._edited[both.id] = _values(both[: len(SEALED_COLUMNS)])
            self._digests.add(bytes(both.digest))
        self._add("edited", both.id)

    def _rewritten(self, both: Row[Any], digest: bytes) -> bool:
        """Return whether an erasure or a key rotation left the row as it is."""
        if both.rewrite is None or bytes(both.rewritten) != digest:
            return False
        mac = rewrite_mac(both.id, both.rewrite, both.digest, digest, self._vault)
        return mac == bytes(both.rewrite_mac)

    def _tell_swaps(self) -> None:
        """Reclassify edited rows that hold each other's content as swapped."""
        if len(self._edited) > MAX_COMPARED:
            return
        for number, finding in enumerate(self._found):
            if finding.wrong == "edited":
                others = (id_ for id_ in self._edited if id_ != finding.audit_id)
                held = next((id_ for id_ in others if self._holds(finding.audit_id, id_)), None)
                if held is not None:
                    self._found[number] = Finding(
                        wrong="swapped", audit_id=finding.audit_id, detail=f"it holds {held}"
                    )

    def _holds(self, audit_id: int, other: int) -> bool:
        """Return whether the row ``audit_id`` holds the content sealed for the row ``other``."""
        values = [other, *self._edited[audit_id][1:]]
        return self._vault.audit_mac(b"row" + _encoder.encode(values)) in self._digests

    def _add(self, wrong: Wrong, audit_id: int, detail: str = "") -> None:
        self._found.append(Finding(wrong=wrong, audit_id=audit_id, detail=detail))
