"""What `ml-connector audit verify`, `audit seal` and `replay` print."""

import os
from collections.abc import Iterator
from contextlib import closing

from ml_connector.audit_keeping import keep_audit
from ml_connector.errors import ConnectorError
from ml_connector.settings import home, load_audit
from ml_connector.store import audit_seal
from ml_connector.store.database import Database
from ml_connector.vault import vault_from
from ml_connector_airflow.notifications import end_alert, raise_alert
from ml_connector_airflow.wiring import database_url

_CAUSE = "audit_broken:audit"


class Tampered(ConnectorError):
    """The audit is not as it was sealed."""


def seal() -> Iterator[str]:
    """Seal what is not sealed yet; yield what to print."""
    vault = vault_from(os.environ, home())
    with closing(Database(database_url(), connections=2)) as database:
        sealed = keep_audit(database, vault, keep_months=load_audit().keep_months)
    yield f"Sealed {sealed.rows} rows; the chain has {sealed.position}."
    yield f"head {sealed.head}"


def verify(head: str | None) -> Iterator[str]:
    """Compare rows and seals; yield a line for each fault, then raise ``Tampered`` if any."""
    vault = vault_from(os.environ, home())
    with (
        closing(Database(database_url(), connections=2)) as database,
        database.begin() as connection,
    ):
        told = audit_seal.verify(connection, vault, head=head)
    _alert(len(told.findings))
    for found in told.findings:
        detail = f" ({found.detail})" if found.detail else ""
        yield f"row {found.audit_id}: {found.wrong}{detail}"
    yield f"{told.sound} rows are as they were sealed, {told.unsealed} are not sealed yet."
    if told.erased:
        yield f"{told.erased} of these were erased: a person's data in them was destroyed."
    yield f"head {told.head}"
    if told.findings:
        raise Tampered(f"the audit is not as it was sealed: {len(told.findings)} faults")


def _alert(faults: int) -> None:
    with closing(Database(database_url(), connections=2)) as database:
        if faults:
            message = f"the audit is not as it was sealed: {faults} faults"
            raise_alert(database, cause=_CAUSE, message=message)
        else:
            end_alert(database, cause=_CAUSE)
