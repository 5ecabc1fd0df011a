"""What the store knows of members as they are listed, for a comparison. Writes nothing that stays."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from ml_connector.model import Customer
from ml_connector.store import contacts, customers, observations
from ml_connector.store.database import bytea_array, copy_rows
from ml_connector.store.observations import Observation
from ml_connector.vault import Vault

PAGE = 1000
"""Customers read at a time."""

# Customers that the settings or their own data leave out are on one side on purpose.
_MEANT = """('inactive', 'job_excluded', 'customer_type_excluded', 'currency_excluded',
             'custom_field_excluded', 'project', 'gone', 'no_email', 'invalid_email')"""


class KnownContact(NamedTuple):
    """A contact of ours, its customer, and whether the customer still has the former address.

    Payloads are still encrypted.
    """

    email_key: bytes
    customer_id: str
    changed_at: datetime | None
    moved: bool
    sent_fields: list[str]
    customer_payload: bytes
    contact_payload: bytes | None
    observation: bytes | None

    def customer(self, sync: str, vault: Vault) -> Customer:
        """Return the customer as staged."""
        return customers.decrypted(
            self.customer_payload, sync=sync, customer_id=self.customer_id, vault=vault
        )

    def sent(self, sync: str, vault: Vault) -> Mapping[str, Any]:
        """Return QuickBooks' values that were last taken into account."""
        if self.contact_payload is None:
            return {}
        payload = vault.decrypt(self.contact_payload, contacts.identity(sync, self.email_key))
        return dict(payload.get("merge_fields", {}))

    def seen(self, sync: str, vault: Vault) -> Observation | None:
        """Return the stored observation."""
        if self.observation is None:
            return None
        return observations.decrypted(
            self.observation, sync=sync, email_key=self.email_key, vault=vault
        )


class MissingContact(NamedTuple):
    """A customer without a member in the audience, and why by our records."""

    customer_id: str
    customer: Customer
    reason: str | None


def start_comparison(connection: Connection) -> None:
    """Start a comparison: it lasts as long as the transaction."""
    connection.execute(text("CREATE TEMP TABLE listed_members (email_key bytea) ON COMMIT DROP"))


def known_members(
    connection: Connection, keys: Collection[bytes], *, sync: str
) -> dict[bytes, KnownContact]:
    """Return those listed members that stand for a customer, and remember all of them."""
    copy_rows(connection, "listed_members", {"email_key": "bytea"}, ((key,) for key in keys))
    rows = connection.execute(
        text("""SELECT k.email_key, c.customer_id, c.last_updated, c.email_key <> k.email_key,
                       k.sent_fields, c.payload, k.payload, o.payload
                FROM unnest(CAST(:keys AS bytea[])) AS wanted(key)
                CROSS JOIN LATERAL (
                    SELECT * FROM ml_connector.contacts
                    WHERE sync = :sync AND email_key = wanted.key OFFSET 0) k
                CROSS JOIN LATERAL (
                    SELECT * FROM ml_connector.customers
                    WHERE sync = :sync AND customer_id = k.owner
                    UNION ALL
                    SELECT * FROM ml_connector.customers
                    WHERE sync = :sync AND k.owner IS NULL AND email_key = k.alias_of
                      AND active AND NOT gone
                    LIMIT 1) c
                LEFT JOIN LATERAL (
                    SELECT payload FROM ml_connector.observations
                    WHERE sync = :sync AND email_key = wanted.key OFFSET 0) o ON true
                WHERE c.payload IS NOT NULL"""),
        {"sync": sync, "keys": bytea_array(keys)},
    ).all()
    found = {bytes(row[0]): KnownContact(bytes(row[0]), *row[1:]) for row in rows}
    if moved := [key for key, each in found.items() if each.moved]:
        connection.execute(
            text("""INSERT INTO listed_members
                    SELECT alias_of FROM ml_connector.contacts
                    WHERE sync = :sync AND email_key = ANY(:keys) AND alias_of IS NOT NULL"""),
            {"sync": sync, "keys": bytea_array(moved)},
        )
    return found


def missing_members(
    connection: Connection, *, sync: str, vault: Vault, page: int = PAGE
) -> Iterator[MissingContact]:
    """Yield the customers with an address that no listed member has, by customer id.

    Reads ``page`` customers at a time.
    """
    connection.execute(text("CREATE INDEX ON listed_members (email_key)"))
    connection.execute(text("ANALYZE listed_members"))
    after = ""
    while True:
        rows = connection.execute(
            text(f"""SELECT c.customer_id, c.payload, c.reason FROM ml_connector.customers c
                     WHERE c.sync = :sync AND c.customer_id > :after AND c.active AND NOT c.gone
                       AND NOT c.is_project AND c.left_out IS NULL AND c.email_key IS NOT NULL
                       AND c.payload IS NOT NULL AND c.decision IS DISTINCT FROM 'linked'
                       AND (c.reason IS NULL OR c.reason NOT IN {_MEANT})
                       AND NOT EXISTS (SELECT 1 FROM listed_members l
                                       WHERE l.email_key = c.email_key)
                     ORDER BY c.customer_id LIMIT :page"""),  # noqa: S608 -- a constant
            {"sync": sync, "after": after, "page": page},
        ).all()
        for row in rows:
            customer = customers.decrypted(
                row.payload, sync=sync, customer_id=row.customer_id, vault=vault
            )
            yield MissingContact(row.customer_id, customer, row.reason)
        if len(rows) < page:
            return
        after = rows[-1].customer_id
