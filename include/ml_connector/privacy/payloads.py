"""Registry of every encrypted column, for jobs that have to process all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from ml_connector.audit import trail
from ml_connector.store import contacts, customers, member_events, observations
from ml_connector.vault import Vault
from ml_connector.webhooks import inbox

PAGE = 1000
"""Rows read at a time."""
_TYPES = {"id": "bigint", "at": "timestamptz", "email_key": "bytea"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedColumn:
    """A column of encrypted payloads.

    ``key`` is the table's primary key. ``named_by`` are the columns that ``identity`` takes.
    """

    table: str
    column: str
    key: tuple[str, ...]
    named_by: tuple[str, ...]
    identity: Callable[..., str]

    def identity_of(self, row: Row[Any]) -> str:
        """Return the identity that a row's payload is encrypted for."""
        values = (row._mapping[name] for name in self.named_by)  # noqa: SLF001 -- public accessor
        return self.identity(*(bytes(v) if isinstance(v, memoryview) else v for v in values))

    def keys_of(self, row: Row[Any]) -> tuple[Any, ...]:
        """Return a row's primary key."""
        return tuple(row._mapping[name] for name in self.key)  # noqa: SLF001 -- public accessor

    def type_of(self, name: str) -> str:
        """Return the SQL type of a key column."""
        return _TYPES.get(name, "text")


def _erasure(email_key: bytes) -> str:
    return f"erasures/{bytes(email_key).hex()}"


ERASURES = EncryptedColumn(
    table="erasures", column="payload", key=("id",), named_by=("email_key",), identity=_erasure
)
CUSTOMERS = EncryptedColumn(
    table="customers",
    column="payload",
    key=("sync", "customer_id"),
    named_by=("sync", "customer_id"),
    identity=customers.identity,
)
INBOX = EncryptedColumn(
    table="webhook_inbox",
    column="payload",
    key=("id",),
    named_by=("dedupe_key",),
    identity=inbox.identity,
)
AUDIT = tuple(
    EncryptedColumn(
        table="audit",
        column=side,
        key=("id", "at"),
        named_by=("seal_id",),
        identity=lambda seal_id, side=side: trail.identity(seal_id, side),
    )
    for side in ("before", "after")
)
ENCRYPTED = (
    CUSTOMERS,
    EncryptedColumn(
        table="contacts",
        column="payload",
        key=("sync", "email_key"),
        named_by=("sync", "email_key"),
        identity=contacts.identity,
    ),
    EncryptedColumn(
        table="observations",
        column="payload",
        key=("sync", "email_key"),
        named_by=("sync", "email_key"),
        identity=observations.identity,
    ),
    EncryptedColumn(
        table="member_events",
        column="payload",
        key=("id",),
        named_by=("sync", "email_key", "kind"),
        identity=member_events.identity,
    ),
    INBOX,
    ERASURES,
    *AUDIT,
)


def next_page(
    connection: Connection,
    column: EncryptedColumn,
    *,
    after: tuple[Any, ...] | None,
    where: str = "true",
    locking: str = "",
    page: int = PAGE,
    **values: Any,
) -> list[Row[Any]]:
    """Return up to ``page`` rows with a payload, following the primary key ``after``.

    Each row has its key, the columns of its identity, and the payload as ``sealed``. ``where`` and
    ``locking`` (``FOR UPDATE SKIP LOCKED``) are SQL. ``values`` are their parameters.
    """
    listed = ", ".join(dict.fromkeys((*column.key, *column.named_by)))
    key = ", ".join(column.key)
    places = ", ".join(f"CAST(:after_{name} AS {column.type_of(name)})" for name in column.key)
    further = f"AND ({key}) > ({places})" if after is not None else ""
    return list(
        connection.execute(
            text(f"""SELECT {listed}, {column.column} AS sealed
                     FROM ml_connector.{column.table}
                     WHERE {column.column} IS NOT NULL AND {where} {further}
                     ORDER BY {key} LIMIT :page {locking}"""),  # noqa: S608 -- constants
            {
                "page": page,
                **values,
                **{f"after_{name}": v for name, v in zip(column.key, after or (), strict=False)},
            },
        ).all()
    )


def decrypted(column: EncryptedColumn, row: Row[Any], vault: Vault) -> bytes:
    """Return a row's payload as JSON."""
    return vault.decrypt_encoded(bytes(row.sealed), column.identity_of(row))
