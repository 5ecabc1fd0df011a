"""Start a run of the sync or its preview, and follow the one under way."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from ml_connector.console.access import HEADERS
from ml_connector.console.progress import RunProgress, progress_of_run, read_mark
from ml_connector.console.queries import plans as plan_queries
from ml_connector.console.queries import runs
from ml_connector.console.visit import PageRequest, Started
from ml_connector.store import plans

_LEFT = {"plan": runs.count_undecided, "write_activity": runs.count_due_blocks}


def run_card(visit: PageRequest, connection: Connection) -> dict[str, Any]:
    """Return what the card of the run shows: its progress, or the buttons that start one."""
    return {"run": _progress(visit, connection), "refused_run": None}


def _progress(visit: PageRequest, connection: Connection) -> RunProgress | None:
    under_way = visit.services.outside.run_under_way(visit.sync)
    if under_way is None:
        return None
    sync = visit.sync.name
    counted = [count for task, count in _LEFT.items() if task in under_way.tasks]
    return progress_of_run(
        under_way,
        plans.progress_of(connection, sync=sync, run_id=under_way.run_id),
        now=visit.now,
        left=counted[0](connection, sync=sync) if counted else None,
        mark=read_mark(visit.query.get("mark", ""), now=visit.now),
    )


def follow(visit: PageRequest) -> Response:
    """Show how far the run is. Once it has ended, have the page loaded again."""
    if not visit.partial:
        return visit.elsewhere("")
    asked = visit.query.get("run", "")
    with visit.services.database.begin() as connection:
        card = run_card(visit, connection)
        if asked and (card["run"] is None or card["run"].under_way.run_id != asked):
            ended = plans.progress_of(connection, sync=visit.sync.name, run_id=asked)
            if ended and visit.query.get("preview") == "1":
                return visit.elsewhere(f"/plans/{ended.plan_id}")
            return Response(headers={**HEADERS, "hx-refresh": "true"})
    return visit.page("run.html", **card)


def start(visit: PageRequest) -> Response:
    """Start a run of the sync, or its preview."""
    preview = visit.query.get("preview") == "1"
    started = begin_run(visit, preview=preview)
    with visit.services.database.begin() as connection:
        card = run_card(visit, connection)
    if not started.ok:
        return visit.page("run.html", status=409, **{**card, "refused_run": started})
    return visit.page("run.html", **card)


def begin_run(visit: PageRequest, *, preview: bool = False) -> Started:
    """Start a run, or return why there is none and what to do."""
    if visit.services.start is None:
        return Started(said="This installation cannot start runs.", ok=False)
    started = visit.services.start(visit.sync, preview=preview, actor=visit.caller.name)
    if started.ok:
        return started
    waits = approval_first(visit)
    return replace(started, said=waits) if waits else started


def approval_first(visit: PageRequest) -> str:
    """Return which plan of the run under way a person has to decide on; empty if none waits."""
    with visit.services.database.begin() as connection:
        waiting = plan_queries.waiting_plan(connection, sync=visit.sync.name)
    under_way = visit.services.outside.run_under_way(visit.sync)
    if waiting and under_way and waiting.run_id == under_way.run_id:
        return f"A run waits for approval. Approve or reject plan {waiting.id} first."
    return ""
