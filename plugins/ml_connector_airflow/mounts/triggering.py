"""Runs that console users start, in their name, and the run of a sync that is under way."""

from typing import Any
from urllib.parse import quote

from airflow.api.common.trigger_dag import trigger_dag
from airflow.exceptions import DagNotFound
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select

from ml_connector.console.outside import RunUnderWay
from ml_connector.console.visit import Started
from ml_connector.console.words import sentence
from ml_connector.display import counted
from ml_connector.settings import Sync
from ml_connector_airflow.waiting import NO_CHOICE, missing_accounts

REPLAY, UNDO = "replay_audit", "undo_run"
_ACTIVE = (DagRunState.RUNNING, DagRunState.QUEUED)
_AT_WORK = ("running", "queued", "deferred", "awaiting_input", "up_for_retry", "restarting")
"""States of a task that the run is at. Airflow below 3.3 has no ``awaiting_input``."""


def start_sync(sync: Sync, *, preview: bool, actor: str) -> Started:
    """Start a run of a sync, or its preview, unless one is under way."""
    if refused := _not_set_up(sync):
        return refused
    given = {"preview": True} if preview else {}
    said = "The preview has started. It writes nothing." if preview else "The sync has started."
    return _started(dag_of(sync), given, said, actor=actor, alone=True)


def sync_refusal(sync: Sync) -> Started | None:
    """Return why no run of a sync can be started; None if one can, or is under way."""
    if refused := _not_set_up(sync):
        return refused
    dag_id = dag_of(sync)
    with create_session() as session:
        known = session.scalar(select(DagModel).where(DagModel.dag_id == dag_id))
        return _refused_by(known, dag_id)


def _not_set_up(sync: Sync) -> Started | None:
    if missing := missing_accounts(sync):
        said = f"{missing[0]} is not connected yet; run `ml-connector connect {missing[0].lower()}`"
        return Started(said=said, ok=False)
    return None if sync.audience_chosen else Started(said=f"{sentence(NO_CHOICE)}.", ok=False)


def replay(sync: Sync, ids: list[int], *, actor: str) -> Started:  # noqa: ARG001 -- as asked for
    """Start a run of ``replay_audit`` for these rows."""
    rows = counted(len(ids), "row")
    return _started(REPLAY, {"ids": ids}, f"Replay of {rows} has started.", actor=actor)


def undo(sync: Sync, plan_id: int, *, dry_run: bool, actor: str) -> Started:
    """Start a run of ``undo_run`` for a run's plan."""
    said = "The preview of the undo" if dry_run else f"The undo of plan {plan_id}"
    given = {"run": str(plan_id), "sync": sync.name, "dry_run": dry_run}
    return _started(UNDO, given, f"{said} has started.", actor=actor)


def _started(
    dag_id: str, given: dict[str, Any], said: str, *, actor: str, alone: bool = False
) -> Started:
    """Trigger a run, or say why Airflow would not run it.

    The DAG's row is locked, so that of two clicks the second meets the first one's run. That is the
    same request again or, if a run has to be ``alone``, any run of the DAG.
    """
    # Not scoped: Airflow looks for duplicates in the thread's session, and commits it. In it the
    # lock would end before the run is stored.
    with create_session(scoped=False) as session:
        known = session.scalar(
            select(DagModel).where(DagModel.dag_id == dag_id).with_for_update(key_share=True)
        )
        if refused := _refused_by(known, dag_id):
            return refused
        for run_id, state, conf in session.execute(
            select(DagRun.run_id, DagRun.state, DagRun.conf).where(
                DagRun.dag_id == dag_id, DagRun.state.in_(_ACTIVE)
            )
        ):
            if alone or conf == given:
                way = "queued" if state == DagRunState.QUEUED else "under way"
                said = f"A run is already {way}. Wait until it ends, then try again."
                return Started(said=said, link=_page(dag_id, run_id), ok=False)
        try:
            run = trigger_dag(
                dag_id,
                triggered_by=DagRunTriggeredByType.UI,
                triggering_user_name=actor,
                conf=given,
                session=session,
            )
        except DagNotFound:
            return _unknown(dag_id)
        except ValueError as error:  # from 3.2 on, a DAG may not allow manual runs
            return Started(said=f"Airflow refuses the run: {error}.", ok=False)
        return Started(said=said, link=_page(dag_id, str(run.run_id)) if run else "")


def _refused_by(known: DagModel | None, dag_id: str) -> Started | None:
    if known is None or known.is_stale:
        return _unknown(dag_id)
    page = f"/dags/{dag_id}"
    if known.has_import_errors:
        said = f"The file of the DAG {dag_id} does not load. Fix the error that Airflow shows."
        return Started(said=said, link=page, ok=False)
    if known.is_paused:
        said = f"The DAG {dag_id} is paused. Switch it on in Airflow, then try again."
        return Started(said=said, link=page, ok=False)
    return None


def _unknown(dag_id: str) -> Started:
    said = f"Airflow knows no DAG {dag_id}. Check the DAG folder and the DAG processor."
    return Started(said=said, ok=False)


def _page(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/runs/{quote(run_id, safe='')}"


def dag_of(sync: Sync) -> str:
    """Return the id of a sync's DAG."""
    return f"sync_customers__{sync.name}"


def run_under_way(sync: Sync) -> RunUnderWay | None:
    """Return the running run of the sync's DAG, else a queued one, else None."""
    dag_id = dag_of(sync)
    with create_session() as session:
        runs = session.execute(
            select(DagRun.run_id, DagRun.state, DagRun.start_date, DagRun.queued_at, DagRun.conf)
            .where(DagRun.dag_id == dag_id, DagRun.state.in_(_ACTIVE))
            .order_by(DagRun.id)
        ).all()
        if not runs:
            return None
        run = next((run for run in runs if run.state == DagRunState.RUNNING), runs[0])
        tasks = session.scalars(
            select(TaskInstance.task_id)
            .where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id == run.run_id,
                TaskInstance.state.in_(_AT_WORK),
            )
            .distinct()
        )
        return RunUnderWay(
            run_id=run.run_id,
            preview=bool((run.conf or {}).get("preview")),
            queued=run.state == DagRunState.QUEUED,
            since=run.start_date or run.queued_at,
            tasks=frozenset(tasks),
            link=_page(dag_id, run.run_id),
        )
