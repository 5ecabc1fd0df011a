"""Lawful rewrites of audit rows: destroy personal data, or re-encrypt payloads.

The chain of seals stays untouched. A rewritten row gets a second digest, bound to its seal by a
keyed hash. So the verifier can distinguish it from an edited row. A row that did not match its seal
before gets no second digest: a rewrite never hides an edit.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, text

from ml_connector.audit.chain import SEALED_COLUMNS, digest_of, rewrite_mac
from ml_connector.vault import Vault

Kind = Literal["erased", "rotated"]
_LISTED = ", ".join(f"a.{column}" for column in SEALED_COLUMNS)


class Payloads(NamedTuple):
    """The new payloads of a row; None destroys one."""

    id: int
    before: bytes | None
    after: bytes | None


def reencrypt(connection: Connection, rows: Sequence[Payloads], *, vault: Vault) -> None:
    """Store the payloads of sealed rows under another key."""
    _rewrite(connection, rows, kind="rotated", vault=vault)


def erase(connection: Connection, ids: Sequence[int], *, vault: Vault) -> None:
    """Destroy the personal data in sealed rows: payloads, address index and error text."""
    _rewrite(connection, [Payloads(id_, None, None) for id_ in ids], kind="erased", vault=vault)


def _rewrite(connection: Connection, rows: Sequence[Payloads], *, kind: Kind, vault: Vault) -> None:
    if not rows:
        return
    ids = [row.id for row in rows]
    sound = {row.id for row in _sealed(connection, ids) if _is_sound(row, vault)}
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
    for row in _sealed(connection, sorted(sound)):
        digest = digest_of(row[: len(SEALED_COLUMNS)], vault)
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


def _sealed(connection: Connection, ids: Sequence[int]) -> Sequence[Row[Any]]:
    return connection.execute(
        text(f"""SELECT {_LISTED}, s.digest AS sealed, r.kind AS rewrite,
                        r.digest AS rewritten, r.mac AS rewrite_mac
                 FROM ml_connector.audit a
                 JOIN ml_connector.audit_seals s ON s.audit_id = a.id
                 LEFT JOIN ml_connector.audit_rewrites r ON r.audit_id = a.id
                 WHERE a.id = ANY(:ids)"""),  # noqa: S608 -- a constant
        {"ids": list(ids)},
    ).all()


def _is_sound(row: Row[Any], vault: Vault) -> bool:
    digest = digest_of(row[: len(SEALED_COLUMNS)], vault)
    if digest == bytes(row.sealed):
        return True
    if row.rewrite is None or digest != bytes(row.rewritten):
        return False
    return rewrite_mac(row.id, row.rewrite, row.sealed, digest, vault) == bytes(row.rewrite_mac)
