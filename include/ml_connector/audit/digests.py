"""Digests of audit rows and keyed hashes of batches and seals.

All are HMAC-SHA256 (RFC 2104) under a key that is not in the database. Each kind has a prefix of its
own, so that none passes for another.

A row has one of two forms of digest. The current one is made when the row is written and covers the
columns ``trail.CONTENT``; the keyed hash of its batch covers the id and the time. The former one
covers the columns ``FORMER_COLUMNS``. Releases that sealed rows one by one at the end of a run made
it, and rows that such a release left unsealed still get it.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ml_connector.vault import Vault

DIGEST_BYTES = 16
"""Length of a row's digest in its batch."""

FORMER_COLUMNS = (
    "id", "at", "sync", "system", "action", "reason", "customer_id", "email_key", "outcome",
    "error", "attempts", "request_id", "cause", "dag_id", "run_id", "task_id", "try_number",
    "actor", "seal_id", "before", "after", "origin",
)  # fmt: skip
"""A former digest covers these columns, in this order: ``id``, ``at`` and the content."""

_AT = FORMER_COLUMNS.index("at")
_BINARY = [FORMER_COLUMNS.index(column) for column in ("email_key", "before", "after")]
_json = msgspec.json.Encoder()
_packed = msgspec.msgpack.Encoder()


def content_digest(content: Sequence[Any], vault: Vault) -> bytes:
    """Return the digest of a row's content (columns ``trail.CONTENT``), payloads encrypted."""
    return vault.audit_mac(b"content" + _packed.encode(content))[:DIGEST_BYTES]


def batch_mac(last_id: int, rows: int, at: int, digests: bytes, vault: Vault) -> bytes:
    """Return the keyed hash of a batch: its rows' digests in order, their ids and times.

    ``at`` is the time of the first row, in microseconds since 2000.
    """
    return vault.audit_mac(b"batch" + _packed.encode([last_id, rows, at]) + digests)


def iter_digests(digests: bytes) -> Iterator[bytes]:
    """Yield the digest of each row of a batch."""
    for at in range(0, len(digests), DIGEST_BYTES):
        yield digests[at : at + DIGEST_BYTES]


def former_digest(row: Sequence[Any], vault: Vault) -> bytes:
    """Return the former digest of a row (columns ``FORMER_COLUMNS``), payloads encrypted."""
    return vault.audit_mac(b"row" + _json.encode(former_values(row)))


def former_values(row: Sequence[Any]) -> list[Any]:
    """Return the values that a former digest covers: times in UTC, bytes in hexadecimal."""
    values = list(row)
    values[_AT] = utc(values[_AT])
    for place in _BINARY:
        if values[place] is not None:
            values[place] = values[place].hex()
    return values


def utc(at: datetime) -> str:
    """Return a time as keyed hashes cover it."""
    return at.astimezone(UTC).isoformat()


def link_mac(
    previous: bytes, position: int, audit_id: int, at: datetime, digest: bytes, vault: Vault
) -> bytes:
    """Return the keyed hash of a seal. ``digest``: of a row, or the keyed hash of a batch."""
    place = _json.encode([position, audit_id, utc(at)])
    return vault.audit_mac(b"seal" + previous + digest + place)


def rewrite_mac(audit_id: int, kind: str, sealed: bytes, digest: bytes, vault: Vault) -> bytes:
    """Return the keyed hash that permits the ``digest`` of a row in place of the ``sealed`` one."""
    content = _json.encode([audit_id, kind, bytes(sealed).hex(), bytes(digest).hex()])
    return vault.audit_mac(b"rewrite" + content)


def checkpoint_mac(
    dropped_before: datetime, position: int, audit_id: int, mac: bytes, vault: Vault
) -> bytes:
    """Return the keyed hash that signs a checkpoint."""
    place = [utc(dropped_before), position, audit_id, mac.hex()]
    return vault.audit_mac(b"checkpoint" + _json.encode(place))
