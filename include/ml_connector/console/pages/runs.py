"""Start a run of the sync or its preview, and follow the one under way."""

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.console.access import HEADERS
from ml_connector.console.progress import RunProgress, progress_of_run, read_mark
from ml_connector.console.queries import plans as plan_queries
from ml_connector.console.queries import runs
from ml_connector.console.visit import PageRequest, Started
from ml_connector.model import RunContext
from ml_connector.store import plans

_LEFT = {"plan": runs.count_undecided, "write_activity": runs.count_due_blocks}


def run_card(visit: PageRequest) -> dict[str, Any]:
    """Return what the card of the run shows: its progress, or the buttons that start one.

    It asks Airflow before it takes a connection from the pool, which other pages need meanwhile.
    """
    return {"run": _progress(visit), "refused_run": None}


def _progress(visit: PageRequest) -> RunProgress | None:
    under_way = visit.services.outside.run_under_way(visit.sync)
    if under_way is None:
        return None
    sync = visit.sync.name
    counted = [count for task, count in _LEFT.items() if task in under_way.tasks]
    with visit.services.database.begin() as connection:
        plan = plans.progress_of(connection, sync=sync, run_id=under_way.run_id)
        left = counted[0](connection, sync=sync) if counted else None
    mark = read_mark(visit.query.get("mark", ""), now=visit.now)
    return progress_of_run(under_way, plan, now=visit.now, left=left, mark=mark)


def follow(visit: PageRequest) -> Response:
    """Show how far the run is. Once it has ended, have the page loaded again."""
    if not visit.partial:
        return visit.elsewhere("")
    asked = visit.query.get("run", "")
    card = run_card(visit)
    if asked and (card["run"] is None or card["run"].under_way.run_id != asked):
        with visit.services.database.begin() as connection:
            ended = plans.progress_of(connection, sync=visit.sync.name, run_id=asked)
        if ended and visit.query.get("preview") == "1":
            return visit.elsewhere(f"/plans/{ended.plan_id}")
        return Response(headers={**HEADERS, "hx-refresh": "true"})
    return visit.page("run.html", **card)


def start(visit: PageRequest) -> Response:
    """Start a run of the sync, or its preview."""
    preview = visit.query.get("preview") == "1"
    started = begin_run(visit, preview=preview)
    card = run_card(visit)
    if not started.ok:
        return visit.page("run.html", status=409, **{**card, "refused_run": started})
    return visit.page("run.html", **card)


def begin_run(visit: PageRequest, *, preview: bool = False) -> Started:
    """Start a run, or return why there is none and what to do."""
    if visit.services.start is None:
        return Started(said="This installation cannot start runs.", ok=False)
    started = visit.services.start(visit.sync, preview=preview, actor=visit.caller.name)
    if started.ok:
        _note_start(visit, preview=preview)
        return started
    waits = first_to_approve(visit)
    return replace(started, said=waits) if waits else started


def _note_start(visit: PageRequest, *, preview: bool) -> None:
    """Write the audit row of a run that a user started."""
    entry = Entry(
        sync=visit.sync.name,
        system="connector",
        action="start_preview" if preview else "start_run",
        reason="by_hand",
        outcome="requested",
        cause="console",
        attempts=0,
    )
    run = RunContext(actor=visit.caller.name)
    with visit.services.database.begin() as connection:
        trail.append(connection, [entry], run=run, vault=visit.services.vault)


def first_to_approve(visit: PageRequest) -> str:
    """Return which plan a person has to decide on, or to wait for; empty if there is none."""
    run_id = run_id_under_way(visit)
    with visit.services.database.begin() as connection:
        return plan_queries.approval_first(connection, sync=visit.sync.name, run_id=run_id)


def run_id_under_way(visit: PageRequest) -> str:
    """Return the id of the sync's run under way, empty without one."""
    under_way = visit.services.outside.run_under_way(visit.sync)
    return under_way.run_id if under_way else ""
