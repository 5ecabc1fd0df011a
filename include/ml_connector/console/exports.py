"""Audit of exports: who took a list of customers with phone numbers out, and which one."""

from collections.abc import Mapping

from sqlalchemy import Connection

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.model import RunContext
from ml_connector.vault import Vault


def note_export(
    connection: Connection,
    *,
    sync: str,
    customers: int,
    wanted: Mapping[str, str],
    actor: str,
    cause: str,
    vault: Vault,
) -> None:
    """Write the audit row of an export: the filter, and how many customers it has.

    ``cause``: ``console`` or ``command``.
    """
    entry = Entry(
        sync=sync,
        system="connector",
        action="export_customers",
        reason="call_list",
        outcome="requested",
        cause=cause,
        attempts=0,
        after={"filter": dict(wanted), "customers": customers},
    )
    trail.append(connection, [entry], run=RunContext(actor=actor), vault=vault)
