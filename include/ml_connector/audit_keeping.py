"""What the audit needs after every run: its next months, its seals, and an end to what is too old."""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from ml_connector.audit import chain, partitions
from ml_connector.audit.chain import Sealed
from ml_connector.errors import RetryLater
from ml_connector.store.database import Database
from ml_connector.vault import Vault

log = structlog.get_logger(__name__)


def keep_audit(
    database: Database,
    vault: Vault,
    *,
    keep_months: int = 0,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Sealed:
    """Make partitions ahead, seal, and drop months older than ``keep_months`` (0: none, ever).

    The line it logs holds the chain's last hash. Kept outside the database, it tells a trail that
    was cut off at its end from one that was not (``ml-connector audit verify --head``).
    """
    with database.begin() as connection:
        partitions.make_ahead(connection, now=clock())
    sealed = chain.seal(database, vault)
    dropped = _drop_old(database, vault, clock(), keep_months) if keep_months else 0
    log.info(
        "audit_sealed",
        rows=sealed.rows,
        length=sealed.position,
        head=sealed.head,
        months_dropped=dropped,
    )
    return sealed


def _drop_old(database: Database, vault: Vault, now: datetime, keep_months: int) -> int:
    """Drop what is too old; nothing, if somebody is at it: then the next run does."""
    try:
        with database.begin() as connection:
            months = partitions.drop_old(connection, vault, now=now, keep_months=keep_months)
    except RetryLater:
        log.info("audit_months_kept", reason="the audit is being read; the next run drops them")
        return 0
    return len(months)
