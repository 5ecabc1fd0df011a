"""The audit trail as the console pages through it: newest first, by id. Reads only."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection, Row, text

from ml_connector.audit.filter import Filter, conditions
from ml_connector.vault import Vault

PAGE = 50
_EXPORT_CHUNK = 1000


def page(
    connection: Connection, *, sync: str, wanted: Filter, before: int = 0, limit: int = PAGE
) -> list[Row[Any]]:
    """Return up to ``limit`` rows with an id below ``before`` (0: from the newest), payloads sealed."""
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
    """Return one row with its sealed payloads."""
    return connection.execute(
        text("SELECT * FROM ml_connector.audit WHERE id = :id AND sync = :sync"),
        {"id": entry_id, "sync": sync},
    ).one_or_none()


def opened_sides(row: Mapping[str, Any], *, vault: Vault) -> tuple[Any, Any]:
    """Return the state before and after that a row holds; None where it holds none."""
    before, after = (
        vault.decrypt(row[side], f"audit/{row['seal_id']}/{side}") if row[side] else None
        for side in ("before", "after")
    )
    return before, after


def iter_all(
    begin: Callable[[], AbstractContextManager[Connection]], *, sync: str, wanted: Filter
) -> Iterator[Row[Any]]:
    """Yield every row of a filter, newest first, a thousand in memory, each in its own transaction."""
    before = 0
    while True:
        with begin() as connection:
            rows = page(connection, sync=sync, wanted=wanted, before=before, limit=_EXPORT_CHUNK)
        yield from rows
        if len(rows) < _EXPORT_CHUNK:
            return
        before = rows[-1].id


def chosen(connection: Connection, *, sync: str) -> dict[str, list[str]]:
    """Return what there is to filter by: systems, actions and outcomes of the newest 20,000 rows."""
    rows = connection.execute(
        text("""SELECT DISTINCT system, action, outcome FROM (
                    SELECT system, action, outcome FROM ml_connector.audit
                    WHERE sync = :sync ORDER BY id DESC LIMIT 20000) newest"""),
        {"sync": sync},
    ).all()
    return {
        name: sorted({getattr(each, name) for each in rows})
        for name in ("system", "action", "outcome")
    }
