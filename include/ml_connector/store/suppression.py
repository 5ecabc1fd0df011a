"""Suppression: people who must never be imported again, whatever source brings them.

No data about them is stored.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import Connection, text

from ml_connector.model import Customer
from ml_connector.store.contacts import suppressed
from ml_connector.vault import Vault

SUPPRESSED = "suppressed"
"""The ``email_problem`` of a forgotten person's customer, and the reason why it is skipped."""


def redact(
    connection: Connection, page: Sequence[Customer], *, sync: str, vault: Vault
) -> list[Customer]:
    """Return customers as they may be staged: without personal data of forgotten people.

    A forgotten person's customer stays withheld, even with a new address. If the first address of a
    customer is another person's, only the forgotten address is removed.
    """
    if not _anybody(connection, sync=sync):
        return list(page)
    keys = {address: vault.email_key(address) for each in page for address in each.addresses}
    out = suppressed(connection, keys=list(keys.values()))
    gone = _forgotten(connection, [each.id for each in page], sync=sync)
    return [_withheld(each, keys, out, forgotten=each.id in gone) for each in page]


def _withheld(
    customer: Customer, keys: Mapping[str, bytes], out: Collection[bytes], *, forgotten: bool
) -> Customer:
    addresses = tuple(each for each in customer.addresses if keys[each] not in out)
    if forgotten or addresses[:1] != customer.addresses[:1]:
        return redacted_customer(
            customer.id,
            customer.sync_token,
            last_updated=customer.last_updated,
            active=customer.active,
        )
    if len(addresses) == len(customer.addresses):
        return customer
    return replace(customer, addresses=addresses)


def redacted_customer(
    customer_id: str, sync_token: str, *, last_updated: datetime, active: bool
) -> Customer:
    """Return what is staged of a forgotten person's customer."""
    return Customer(
        id=customer_id,
        sync_token=sync_token,
        active=active,
        is_job=False,
        is_project=False,
        last_updated=last_updated,
        display_name="",
        addresses=(),
        email_problem=SUPPRESSED,
        merge_fields={},
    )


def _anybody(connection: Connection, *, sync: str) -> bool:
    return bool(
        connection.execute(
            text("""SELECT EXISTS (SELECT 1 FROM ml_connector.suppressions)
                        OR EXISTS (SELECT 1 FROM ml_connector.customers
                                   WHERE sync = :sync AND forgotten)"""),
            {"sync": sync},
        ).scalar_one()
    )


def _forgotten(connection: Connection, ids: Sequence[str], *, sync: str) -> set[str]:
    rows = connection.execute(
        text("""SELECT customer_id FROM ml_connector.customers
                WHERE sync = :sync AND forgotten AND customer_id = ANY(:ids)"""),
        {"sync": sync, "ids": list(ids)},
    ).all()
    return {row.customer_id for row in rows}
