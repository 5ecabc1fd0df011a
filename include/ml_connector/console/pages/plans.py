"""Plan pages: what a run changed, or what a preview would change, contact by contact."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Row
from starlette.responses import Response, StreamingResponse

from ml_connector.console import words
from ml_connector.console.access import HEADERS
from ml_connector.console.accounts import refused_accounts
from ml_connector.console.pages.runs import run_card
from ml_connector.console.queries import plans
from ml_connector.console.sheet import iter_csv
from ml_connector.console.visit import PageRequest, number
from ml_connector.display import counted
from ml_connector.model import ChangeState, Kind
from ml_connector.scope import Scope
from ml_connector.store import changes, contacts, customers, undos
from ml_connector.store.undos import UNDO_KINDS
from ml_connector.sync import forecast, permissions
from ml_connector.sync.overwrites import OverwriteSample, overwrite_samples

_HEADER = (
    "change", "kind", "reason", "reason in words", "state", "error", "customer_id", "customer",
    "email", "new status",
)  # fmt: skip
KINDS = ("sync", "preview", "webhooks", "replay", *UNDO_KINDS)


UNDOABLE = ("sync", "webhooks", "replay", "undo")
_QUESTION = "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/approval/-1/hitlDetails"
"""Airflow's public REST API; the browser calls it with the user's own session.

https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""
_BACK = {
    Kind.CREATE: "archive",
    Kind.UPDATE: "update",
    Kind.RESTORE: "archive",
    Kind.ARCHIVE: "restore",
}


def list_plans(visit: PageRequest) -> Response:
    """Show a page of plans."""
    kind = visit.query.get("kind", "")
    kind = kind if kind in KINDS else ""
    before = number(visit.query.get("before"))
    with visit.services.database.begin() as connection:
        rows = plans.page(
            connection,
            sync=visit.sync.name,
            kind=kind,
            before=before,
            limit=plans.PAGE + 1,
        )
    page = rows[: plans.PAGE]
    older = page[-1].id if len(rows) > len(page) else 0
    return visit.page(
        "plans.html", rows=page, kind=kind, kinds=KINDS, older=older, first=not before
    )


def plan(visit: PageRequest) -> Response:
    """Show a plan's changes, one page at a time."""
    kind, state = visit.query.get("kind", ""), visit.query.get("state", "")
    after = number(visit.query.get("after"))
    with visit.services.database.begin() as connection:
        row = _plan(visit, connection)
        if row is None:
            return visit.page(
                "message.html",
                status=404,
                title="No such plan",
                said="There is no plan with this number.",
            )
        rows = plans.changes(
            connection,
            plan_id=row.id,
            kind=kind,
            state=state,
            after=after,
            limit=plans.PAGE + 1,
        )
        counts = _ordered(changes.counts(connection, plan_id=row.id))
        warning = permissions.warning(visit.sync, connection)
        refused = refused_accounts(visit, connection)
        undone = undos.run_of_plan(connection, plan_id=row.id)
        undone_by = undos.plan_that_undid(connection, plan_id=row.id)
        expected = forecast.shown(row.counts.get("forecast"))
        overwritten = _overwritten(visit, connection, row, expected)
    page = rows[: plans.PAGE]
    return visit.page(
        "plan.html",
        refused=refused,
        plan=row,
        expected=expected,
        overwritten=overwritten,
        rows=[(each, *_who(visit, each)) for each in page],
        counts=counts,
        warning=warning,
        undone=undone,
        undone_by=undone_by,
        question=_question(visit, row),
        undoing=_undoing(visit, row, counts),
        kind=kind,
        state=state,
        newer=page[-1].id if len(rows) > len(page) else 0,
        first=not after,
        **run_card(visit),
    )


def _ordered(counts: Iterable[tuple[str, str, str, int]]) -> list[tuple[str, str, str, int]]:
    """Return a plan's counts in the order of their changes and states, most contacts first."""
    kinds, states = list(words.KIND), list(words.CHANGE_STATE)
    return sorted(
        counts, key=lambda each: (kinds.index(each[0]), states.index(each[2]), -each[3], each[1])
    )


def _question(visit: PageRequest, row: Row[Any]) -> str:
    """Return where a waiting plan's question is answered in Airflow; empty if it does not wait."""
    if row.state != "waiting" or not row.run_id:
        return ""
    dag = "undo_run" if row.kind == "undo" else f"sync_customers__{visit.sync.name}"
    return visit.airflow + _QUESTION.format(dag=quote(dag, safe=""), run=quote(row.run_id, safe=""))


def _overwritten(
    visit: PageRequest, connection: Connection, row: Row[Any], expected: forecast.Forecast | None
) -> list[OverwriteSample]:
    """Return samples of what the plan would overwrite, as long as it is not written."""
    if expected is None or not (row.kind == "preview" or row.state == "waiting"):
        return []
    services = visit.services
    scope = Scope(sync=visit.sync, database=services.database, vault=services.vault, read_only=True)
    return overwrite_samples(scope, connection, plan_id=row.id, counts=expected.overwrites)


def undo(visit: PageRequest) -> Response:
    """Start the undo of a plan's run, or its preview."""
    with visit.services.database.begin() as connection:
        row = _plan(visit, connection)
    if row is None or visit.services.undo is None or row.kind not in UNDOABLE:
        return visit.page("notice.html", status=404, ok=False, said="There is nothing to undo.")
    started = visit.services.undo(
        visit.sync,
        row.id,
        dry_run=visit.query.get("preview") == "1",
        actor=visit.caller.name,
    )
    return visit.told(started)


def _undoing(
    visit: PageRequest, row: Row[Any], counts: Sequence[tuple[str, str, str, int]]
) -> list[str]:
    """Return what an undo would do, a phrase for each kind of change: ``archives 3 contacts``."""
    if visit.services.undo is None or row.kind not in UNDOABLE:
        return []
    found: Counter[str] = Counter()
    for kind, _, state, contacts_of in counts:
        if state == ChangeState.APPLIED:
            found[_BACK[Kind(kind)]] += contacts_of
    phrases = {
        "update": "writes former values back to",
        "archive": "archives",
        "restore": "restores",
    }
    return [
        f"{said} {counted(found[kind], 'contact')}" for kind, said in phrases.items() if found[kind]
    ]


def download(visit: PageRequest) -> Response:
    """Stream a plan as CSV with names and addresses, for users who may read it."""
    with visit.services.database.begin() as connection:
        row = _plan(visit, connection)
    if row is None:
        return visit.page(
            "message.html",
            status=404,
            title="No such plan",
            said="There is no plan with this number.",
        )
    rows = plans.iter_changes(visit.services.database.begin, plan_id=row.id)
    return StreamingResponse(
        iter_csv(_HEADER, _cells(visit, rows)),
        media_type="text/csv; charset=utf-8",
        headers={
            **HEADERS,
            "content-disposition": f'attachment; filename="plan-{visit.sync.name}-{row.id}.csv"',
        },
    )


def _plan(visit: PageRequest, connection: Any) -> Row[Any] | None:
    return plans.plan_row(connection, sync=visit.sync.name, plan_id=number(visit.path.get("id")))


def _who(visit: PageRequest, row: Row[Any]) -> tuple[str, str]:
    """Return the customer's name and the contact's address, as far as they are known."""
    sync, vault = visit.sync.name, visit.services.vault
    name = email = ""
    if row.customer_payload is not None:
        found = customers.decrypted(
            row.customer_payload, sync=sync, customer_id=row.customer_id, vault=vault
        )
        name = found.display_name
        if found.addresses and vault.email_key(found.addresses[0]) == bytes(row.email_key):
            email = found.addresses[0]
    if not email and row.contact_payload is not None:
        identity = contacts.identity(sync, bytes(row.email_key))
        email = str(vault.decrypt(row.contact_payload, identity).get("email", ""))
    return name, email


def _cells(visit: PageRequest, rows: Iterator[Row[Any]]) -> Iterator[list[object]]:
    for row in rows:
        name, email = _who(visit, row)
        yield [
            *(row.id, row.kind, row.reason, words.reason(row.reason), row.state, row.error),
            *(row.customer_id, name, email, row.status),
        ]
