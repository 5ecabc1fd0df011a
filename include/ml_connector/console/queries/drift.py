"""Contacts that showed other values than QuickBooks when last read. Read-only; calls no system."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from ml_connector.model import Customer
from ml_connector.store import customers, observations
from ml_connector.store.observations import Observation
from ml_connector.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferingContact:
    """A contact that differs, and its customer as far as it has one."""

    email_key: bytes
    observed_at: datetime | None
    seen: Observation
    customer: Customer | None

    @property
    def differences(self) -> Mapping[str, str]:
        """Return since when each field differs (ISO 8601); ``""``: there before the sync."""
        return self.seen.since


def page(
    connection: Connection, *, sync: str, vault: Vault, after: bytes, limit: int
) -> list[DifferingContact]:
    """Return up to ``limit`` contacts with a key after ``after``, by key."""
    rows = connection.execute(
        text("""SELECT o.email_key, o.observed_at, o.payload, c.customer_id, c.payload AS customer
                FROM (SELECT * FROM ml_connector.observations
                      WHERE sync = :sync AND email_key > :after
                      ORDER BY email_key LIMIT :limit) o
                LEFT JOIN ml_connector.contacts k
                  ON k.sync = o.sync AND k.email_key = o.email_key
                LEFT JOIN ml_connector.customers c
                  ON c.sync = o.sync AND c.customer_id = k.owner
                ORDER BY o.email_key"""),
        {"sync": sync, "after": after, "limit": limit},
    ).all()
    return [
        DifferingContact(
            email_key=bytes(row.email_key),
            observed_at=row.observed_at,
            seen=observations.decrypted(
                row.payload, sync=sync, email_key=bytes(row.email_key), vault=vault
            ),
            customer=customers.decrypted(
                row.customer, sync=sync, customer_id=row.customer_id, vault=vault
            )
            if row.customer
            else None,
        )
        for row in rows
    ]
