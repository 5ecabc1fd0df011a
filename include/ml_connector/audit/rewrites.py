"""Lawful rewrites of audit rows: destroy personal data, or re-encrypt payloads.

Batches and seals stay untouched. A rewritten row gets a second digest, bound to its first one by a
keyed hash. So the verifier can distinguish it from an edited row. A row that did not match its
digest before gets no second one: a rewrite never hides an edit.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, text

from ml_connector.audit.digests import (
    DIGEST_BYTES,
    FORMER_COLUMNS,
    content_digest,
    former_digest,
    rewrite_mac,
)
from ml_connector.vault import Vault

Kind = Literal["erased", "rotated"]
_LISTED = ", ".join(f"a.{column}" for column in FORMER_COLUMNS)


class Payloads(NamedTuple):
    """The new payloads of a row; None destroys one."""

    id: int
    before: bytes | None
    after: bytes | None


def reencrypt(connection: Connection, rows: Sequence[Payloads], *, vault: Vault) -> None:
    """Store the payloads of rows under another key."""
    _rewrite(connection, rows, kind="rotated", vault=vault)


def erase(connection: Connection, ids: Sequence[int], *, vault: Vault) -> None:
    """Destroy the personal data in rows: payloads, address index and error text."""
    _rewrite(connection, [Payloads(id_, None, None) for id_ in ids], kind="erased", vault=vault)


def _rewrite(connection: Connection, rows: Sequence[Payloads], *, kind: Kind, vault: Vault) -> None:
    if not rows:
        return
    ids = [row.id for row in rows]
    sound = {row.id for row in _with_digests(connection, ids) if _is_sound(row, vault)}
    connection.execute(text("SELECT set_config('ml_connector.audit_rewrite', 'on', true)"))
    forgotten = ", email_key = NULL, error = NULL" if kind == "erased" else ""
    connection.execute(
        text(f"""UPDATE ml_connector.audit a SET before = n.before, after = n.after {forgotten}
                 FROM unnest(CAST(:ids AS bigint[]), CAST(:befores AS bytea[]),
                             CAST(:afters AS bytea[])) AS n(id, before, after)
                 WHERE a.id = n.id"""),  # noqa: S608 -- constants
        {"ids": ids, "befores": [r.before for r in rows], "afters": [r.after for r in rows]},
    )
    connection.execute(text("SELECT set_config('ml_connector.audit_rewrite', '', true)"))
    stored = []
    for row in _with_digests(connection, sorted(sound)):
        digest = _digest(row, vault)
        mac = rewrite_mac(row.id, kind, row.sealed, digest, vault)
        stored.append({"id": row.id, "at": row.at, "kind": kind, "digest": digest, "mac": mac})
    if stored:
        connection.execute(
            text("""INSERT INTO ml_connector.audit_rewrites (audit_id, at, kind, digest, mac)
                    VALUES (:id, :at, :kind, :digest, :mac)
                    ON CONFLICT (audit_id) DO UPDATE SET kind = excluded.kind,
                        digest = excluded.digest, mac = excluded.mac, made_at = clock_timestamp()"""),
            stored,
        )


def _with_digests(connection: Connection, ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Return rows with the digest they were written with, ``sealed``, and the one of a rewrite.

    A row without the first is of a former release that did not seal it; it is left out.
    """
    return connection.execute(
        text(f"""SELECT {_LISTED}, coalesce(b.digest, s.digest) AS sealed,
                        b.digest IS NULL AS former,
                        r.kind AS rewrite, r.digest AS rewritten, r.mac AS rewrite_mac
                 FROM ml_connector.audit a
                 LEFT JOIN ml_connector.audit_seals s ON s.audit_id = a.id AND s.rows IS NULL
                 LEFT JOIN ml_connector.audit_rewrites r ON r.audit_id = a.id
                 LEFT JOIN LATERAL (
                     SELECT last_id - rows AS before,
                            substring(digests FROM ((a.id - (last_id - rows) - 1) * {DIGEST_BYTES}
                                                    + 1)::int FOR {DIGEST_BYTES}) AS digest
                     FROM ml_connector.audit_batches WHERE last_id >= a.id
                     ORDER BY last_id LIMIT 1) b ON b.before < a.id
                 WHERE a.id = ANY(:ids) AND coalesce(b.digest, s.digest) IS NOT NULL"""),  # noqa: S608
        {"ids": list(ids)},
    ).all()


def _digest(row: Row[Any], vault: Vault) -> bytes:
    columns = row[: len(FORMER_COLUMNS)]
    return former_digest(columns, vault) if row.former else content_digest(columns[2:], vault)


def _is_sound(row: Row[Any], vault: Vault) -> bool:
    digest = _digest(row, vault)
    if digest == bytes(row.sealed):
        return True
    if row.rewrite is None or digest != bytes(row.rewritten):
        return False
    return rewrite_mac(row.id, row.rewrite, row.sealed, digest, vault) == bytes(row.rewrite_mac)
