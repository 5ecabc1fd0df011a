"""Webhook pages: the inbox by state, one event with its body, and retries."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row
from starlette.responses import Response

from ml_connector.console import words
from ml_connector.console.access import Right
from ml_connector.console.queries import inbox as inbox_queries
from ml_connector.console.queries.customers import display_names
from ml_connector.console.visit import PageRequest, number
from ml_connector.display import counted
from ml_connector.quickbooks.webhooks import SYSTEM as QUICKBOOKS
from ml_connector.webhooks import inbox

STATES = tuple(words.INBOX)
"""States of an event, in the order of the page's filter."""
RETRYABLE = ("quarantined", "dead", "ignored")
"""An event in one of these states can be retried."""


def list_events(visit: PageRequest) -> Response:
    """Show a page of the inbox."""
    state = visit.query.get("state", "")
    state = state if state in STATES else ""
    before = number(visit.query.get("before"))
    whose = visit.events(Right.READ)
    with visit.services.database.begin() as connection:
        counts = inbox_queries.counts(connection, whose)
        rows = inbox_queries.page(
            connection,
            whose,
            state=state,
            before=before,
            limit=inbox_queries.PAGE + 1,
        )
        page = rows[: inbox_queries.PAGE]
        people = _people(visit, connection, page)
    return visit.page(
        "webhooks.html",
        rows=page,
        people=people,
        counts=counts,
        states=STATES,
        state=state,
        older=page[-1].id if len(rows) > len(page) else 0,
        first=not before,
        again=RETRYABLE,
    )


def _people(visit: PageRequest, connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, str]:
    """Return the names of the events' customers, by id. Ids of other kinds or companies get none."""
    realm = visit.realm
    return display_names(
        connection,
        sync=visit.sync.name,
        ids={
            row.entity_id
            for row in rows
            if row.kind.startswith("customer.")
            and row.entity_id
            and row.system == QUICKBOOKS
            and row.source == realm
        },
        vault=visit.services.vault,
    )


def event(visit: PageRequest) -> Response:
    """Show one event as received."""
    whose = visit.events(Right.READ)
    with visit.services.database.begin() as connection:
        row = inbox_queries.event_row(connection, whose, event_id=number(visit.path.get("id")))
        people = _people(visit, connection, [row] if row is not None else [])
    if row is None:
        return visit.page(
            "message.html",
            status=404,
            title="No such event",
            said="The inbox has no event with this number.",
        )
    body = inbox_queries.event_body(row, vault=visit.services.vault)
    return visit.page(
        "webhook.html",
        row=row,
        people=people,
        body=json.dumps(body, indent=2, ensure_ascii=False),
        again=RETRYABLE,
    )


def retry(visit: PageRequest) -> Response:
    """Requeue one event or, without an id, the events in a state, oldest first."""
    state = visit.form.get("state", "")
    whose = visit.events(Right.RUN)
    with visit.services.database.begin() as connection:
        if "id" in visit.path:
            row = inbox_queries.event_row(connection, whose, event_id=number(visit.path["id"]))
            ids = [row.id] if row is not None else []
        elif state in RETRYABLE:
            ids = inbox_queries.in_state(connection, whose, state=state)
        else:
            ids = []
        changed = inbox.requeue(connection, ids)
    said = (
        f"{counted(changed, 'event is', 'events are')} due again."
        if changed
        else "There was nothing to try again."
    )
    return visit.page("notice.html", ok=bool(changed), said=said)
