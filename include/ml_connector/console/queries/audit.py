"""Audit queries of the console: newest first, paged by id. Read-only."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection, Row, text

from ml_connector.audit.filter import Filter, conditions
from ml_connector.console import words
from ml_connector.vault import Vault

PAGE = 50
"""Rows on a page."""
_EXPORT_CHUNK = 1000


def page(
    connection: Connection, *, sync: str, wanted: Filter, before: int = 0, limit: int = PAGE
) -> list[Row[Any]]:
    """Return up to ``limit`` rows with an id below ``before`` (0: from the newest).

    Payloads are left out.
    """
    where, values = conditions(wanted, sync=sync)
    if before:
        where.append("id < :before")
    listed = " AND ".join(where)
    return list(
        connection.execute(
            text(f"""SELECT id, at, sync, system, action, reason, customer_id, email_key, outcome,
                            error, attempts, request_id, cause, dag_id, run_id, task_id,
                            try_number, actor
                     FROM ml_connector.audit WHERE {listed}
                     ORDER BY id DESC LIMIT :limit"""),  # noqa: S608 -- written below
            {**values, "before": before, "limit": limit},
        ).all()
    )


def row(connection: Connection, *, sync: str, entry_id: int) -> Row[Any] | None:
    """Return one row with its encrypted payloads, None if it does not exist."""
    return connection.execute(
        text("SELECT * FROM ml_connector.audit WHERE id = :id AND sync = :sync"),
        {"id": entry_id, "sync": sync},
    ).one_or_none()


def decrypt_sides(row: Mapping[str, Any], *, vault: Vault) -> tuple[Any, Any]:
    """Return the decrypted ``before`` and ``after`` of a row; None where it has none."""
    before, after = (
        vault.decrypt(row[side], f"audit/{row['seal_id']}/{side}") if row[side] else None
        for side in ("before", "after")
    )
    return before, after


def iter_all(
    begin: Callable[[], AbstractContextManager[Connection]], *, sync: str, wanted: Filter
) -> Iterator[Row[Any]]:
    """Yield every row of a filter, newest first.

    A thousand rows are in memory at a time, each thousand read in its own transaction.
    """
    before = 0
    while True:
        with begin() as connection:
            rows = page(connection, sync=sync, wanted=wanted, before=before, limit=_EXPORT_CHUNK)
        yield from rows
        if len(rows) < _EXPORT_CHUNK:
            return
        before = rows[-1].id


def filter_choices(connection: Connection, *, sync: str) -> dict[str, list[str]]:
    """Return the filter choices: systems, actions and outcomes of the newest 20,000 rows."""
    rows = connection.execute(
        text("""SELECT DISTINCT system, action, outcome FROM (
                    SELECT system, action, outcome FROM ml_connector.audit
                    WHERE sync = :sync ORDER BY id DESC LIMIT 20000) newest"""),
        {"sync": sync},
    ).all()
    tables = {"system": words.SYSTEM, "action": words.ACTION, "outcome": words.OUTCOME}
    return {
        name: words.ordered({getattr(each, name) for each in rows}, table)
        for name, table in tables.items()
    }
