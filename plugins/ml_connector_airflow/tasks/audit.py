"""Audit chain tasks: `ml-connector audit verify` and `audit seal`, and the daily verification."""

import os
from collections.abc import Iterator
from contextlib import closing

import structlog

from ml_connector.audit import chain
from ml_connector.audit.chain import Verified
from ml_connector.display import counted, grouped
from ml_connector.errors import Tampered, values_withheld
from ml_connector.retention import maintain_audit
from ml_connector.settings import home, load_audit
from ml_connector.store.database import Database
from ml_connector.vault import vault_from
from ml_connector_airflow.alerts.callbacks import run_succeeded
from ml_connector_airflow.alerts.delivery import end_alert, raise_alert
from ml_connector_airflow.wiring import database_url

_CAUSE = "audit_broken:audit"

log = structlog.get_logger(__name__)


def seal() -> Iterator[str]:
    """Seal the unsealed rows; yield the lines to print."""
    vault = vault_from(os.environ, home())
    with closing(Database(database_url(), connections=2)) as database:
        sealed = maintain_audit(database, vault, keep_months=load_audit().keep_months)
    yield f"Sealed {counted(sealed.rows, 'row')}; the chain has {grouped(sealed.position)}."
    yield f"head {sealed.head}"


def verify(head: str | None) -> Iterator[str]:
    """Verify rows against seals; yield a line per fault.

    Raises ``Tampered`` at the end if there is any.
    """
    told = _verified(head)
    for found in told.findings:
        detail = f" ({found.detail})" if found.detail else ""
        yield f"row {found.audit_id}: {found.wrong}{detail}"
    yield f"{counted(told.sound, 'row is', 'rows are')} as sealed, {counted(told.unsealed, 'is', 'are')} not sealed yet."
    if told.erased:
        yield f"{told.erased} of these were erased: a person's data in them was destroyed."
    yield f"head {told.head}"
    if told.findings:
        raise _tampered(told)


@values_withheld()
def verify_daily() -> dict[str, int]:
    """Verify rows against seals, as a task; return counts. Raises ``Tampered`` on any fault."""
    told = _verified(None)
    counts = {"sound": told.sound, "unsealed": told.unsealed, "erased": told.erased}
    log.info("audit_verified", head=told.head, faults=len(told.findings), **counts)
    if told.findings:
        raise _tampered(told)
    with closing(Database(database_url(), connections=2)) as database:
        run_succeeded(database, "verify_audit")
    return counts


def _verified(head: str | None) -> Verified:
    """Verify the chain; raise the alert on faults, or end it if there are none."""
    vault = vault_from(os.environ, home())
    with closing(Database(database_url(), connections=2)) as database:
        with database.begin() as connection:
            told = chain.verify(connection, vault, head=head)
        if told.findings:
            raise_alert(database, cause=_CAUSE, message=str(_tampered(told)))
        else:
            end_alert(database, cause=_CAUSE)
    return told


def _tampered(told: Verified) -> Tampered:
    return Tampered(f"the audit is not as it was sealed: {len(told.findings)} faults")
