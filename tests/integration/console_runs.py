"""Start runs as the console does, in a process with an Airflow of its own; print what was said."""

import json
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import delete, update

from ml_connector.settings import load_sync
from ml_connector_airflow.mounts import triggering

DAG = "sync_customers__main"


def main() -> None:
    """Go through what Airflow refuses, and what it does not."""
    sync = load_sync("main")
    told: dict[str, Any] = {}

    def start(name: str, *, preview: bool = False) -> None:
        told[name] = said(triggering.start_sync(sync, preview=preview, actor="amy"))

    start("paused")
    told["would_refuse"] = said(triggering.sync_refusal(sync))
    set_dag(is_paused=False, is_stale=True)
    start("stale")
    set_dag(is_stale=False, has_import_errors=True)
    start("broken")
    set_dag(has_import_errors=False)
    told["would_start"] = triggering.sync_refusal(sync)
    start("started", preview=True)
    start("queued")
    told["under_way"] = shown(sync)
    change(update(DagRun).values(state="running"))
    change(update(TaskInstance).where(TaskInstance.task_id == "plan").values(state="running"))
    start("running")
    told["running_tasks"] = shown(sync)
    told["runs"] = runs()
    change(delete(DagRun))
    told["ended"] = shown(sync)

    set_dag(dag_id="undo_run", is_paused=False)
    for plan_id, name in ((7, "undo"), (7, "undo_again"), (8, "undo_another")):
        started = triggering.undo(sync, plan_id, dry_run=False, actor="amy")
        told[name] = said(started)
    print(json.dumps(told))  # noqa: T201 -- read by the test


def said(started: Any) -> list[Any]:
    return [started.ok, started.said, started.link]


def shown(sync: Any) -> list[Any] | None:
    found = triggering.run_under_way(sync)
    return found and [found.preview, found.queued, sorted(found.tasks), found.link]


def runs() -> list[Any]:
    with create_session() as session:
        found = session.query(DagRun).all()
        return [[run.dag_id, run.triggering_user_name, run.conf] for run in found]


def set_dag(dag_id: str = DAG, **values: Any) -> None:
    change(update(DagModel).where(DagModel.dag_id == dag_id).values(**values))


def change(statement: Any) -> None:
    with create_session() as session:
        session.execute(statement)
