"""Audit pages: filter, page, open, export and replay the audit rows."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection, Row
from starlette.responses import Response, StreamingResponse

from ml_connector.audit.filter import Filter
from ml_connector.console.access import HEADERS
from ml_connector.console.difference import compare
from ml_connector.console.queries import audit
from ml_connector.console.queries.customers import display_names
from ml_connector.console.sheet import iter_csv
from ml_connector.console.visit import PageRequest, number
from ml_connector.rules.addresses import normalised
from ml_connector.sync import targets

LONGEST = 200
"""A filter value has at most this many characters."""
MAX_REPLAYED = 1000
"""One replay of failed rows takes at most this many."""
_TEXTS = ("system", "action", "outcome", "reason", "customer_id", "run_id", "cause")
_COLUMNS = (
    "id", "at", "system", "action", "reason", "outcome", "error", "customer_id", "attempts",
    "request_id", "cause", "dag_id", "run_id", "task_id", "try_number", "actor",
)  # fmt: skip


def trail(visit: PageRequest) -> Response:
    """Show a page of the trail. The filter is in the URL and contains no personal data."""
    wanted = trail_filter(visit)
    before = number(visit.query.get("before"))
    with visit.services.database.begin() as connection:
        rows = audit.page(
            connection,
            sync=visit.sync.name,
            wanted=wanted,
            before=before,
            limit=audit.PAGE + 1,
        )
        chosen = audit.filter_choices(connection, sync=visit.sync.name)
        page = rows[: audit.PAGE]
        people = _people(visit, connection, page)
    return visit.page(
        "audit.html",
        rows=page,
        people=people,
        wanted=wanted,
        chosen=chosen,
        given={name: visit.query.get(name, "") for name in (*_TEXTS, "since", "until", "key")},
        older=page[-1].id if len(rows) > len(page) else 0,
        first=not before,
        can_replay=visit.services.replay is not None,
    )


def of_address(visit: PageRequest) -> Response:
    """Redirect to the rows of an address by its key, which keeps the address out of URLs."""
    address = visit.form.get("email", "").strip()[:LONGEST]
    if not address:
        return visit.elsewhere("/audit")
    key = visit.services.vault.email_key(normalised(address) or address.lower())
    return visit.elsewhere(f"/audit?key={key.hex()}")


def entry(visit: PageRequest) -> Response:
    """Show one row and what it changed."""
    row = _row(visit)
    if row is None:
        return visit.page(
            "message.html",
            status=404,
            title="No such row",
            said="The audit has no row with this number.",
        )
    before, after = audit.decrypt_sides(row._asdict(), vault=visit.services.vault)
    with visit.services.database.begin() as connection:
        people = _people(visit, connection, [row])
        names = targets.field_names(visit.sync, connection)
    return visit.page(
        "audit_entry.html",
        row=row,
        people=people,
        fields=compare(before, after, names),
        can_replay=visit.services.replay is not None,
    )


def _people(visit: PageRequest, connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, str]:
    """Return the names of the rows' customers, by id."""
    return display_names(
        connection,
        sync=visit.sync.name,
        ids={row.customer_id for row in rows if row.customer_id},
        vault=visit.services.vault,
    )


def replay(visit: PageRequest) -> Response:
    """Replay a row: evaluate its record against current data."""
    row = _row(visit)
    return _replayed(visit, [] if row is None else [row.id])


def replay_failed(visit: PageRequest) -> Response:
    """Replay the failed rows that match the filter, newest first."""
    wanted = replace(trail_filter(visit), outcome="failed")
    with visit.services.database.begin() as connection:
        rows = audit.page(connection, sync=visit.sync.name, wanted=wanted, limit=MAX_REPLAYED)
    return _replayed(visit, [row.id for row in rows])


def _replayed(visit: PageRequest, ids: list[int]) -> Response:
    if visit.services.replay is None or not ids:
        return visit.page("notice.html", status=404, ok=False, said="There is nothing to replay.")
    started = visit.services.replay(visit.sync, ids, actor=visit.caller.name)
    return visit.told(started)


def export(visit: PageRequest) -> Response:
    """Stream the filtered trail as CSV. ``before`` and ``after`` are left out as personal data."""
    rows = audit.iter_all(
        visit.services.database.begin, sync=visit.sync.name, wanted=trail_filter(visit)
    )
    lines = iter_csv(_COLUMNS, (_cells(row) for row in rows))
    name = f"audit-{visit.sync.name}-{visit.now:%Y%m%d-%H%M}.csv"
    return StreamingResponse(
        lines,
        media_type="text/csv; charset=utf-8",
        headers={**HEADERS, "content-disposition": f'attachment; filename="{name}"'},
    )


def _cells(row: Row[Any]) -> list[object]:
    return [row.at.isoformat() if name == "at" else getattr(row, name) for name in _COLUMNS]


def _row(visit: PageRequest) -> Row[Any] | None:
    with visit.services.database.begin() as connection:
        return audit.row(connection, sync=visit.sync.name, entry_id=number(visit.path.get("id")))


def trail_filter(visit: PageRequest) -> Filter:
    """Return the filter in a URL; what cannot be read is left out."""
    texts = {name: visit.query.get(name, "").strip()[:LONGEST] for name in _TEXTS}
    try:
        key = bytes.fromhex(visit.query.get("key", "")) or None
    except ValueError:
        key = None
    until = _day(visit, "until")
    return Filter(
        **texts,
        email_key=key,
        since=_at(visit, _day(visit, "since")),
        # The calendar ends with its last day, and so does every row.
        until=_at(visit, until + timedelta(days=1) if until and until < date.max else None),
    )


def _day(visit: PageRequest, name: str) -> date | None:
    """Return a parameter in the format of a date field as a day."""
    try:
        return date.fromisoformat(visit.query.get(name, ""))
    except ValueError:
        return None


def _at(visit: PageRequest, day: date | None) -> datetime | None:
    """Return the start of a day in the sync's time zone."""
    return datetime.combine(day, time(), visit.zone) if day else None
