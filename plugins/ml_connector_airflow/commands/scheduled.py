"""Run a DAG by Airflow's own scheduler, and wait for its end.

Next to a scheduler that runs the DAG, ``dag.test()`` would write the same rows of Airflow's
database. Postgres then ends one of the two as a deadlock.
"""

import getpass
from time import sleep
from typing import Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.jobs.job import most_recent_job
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import State
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select

from ml_connector.errors import ConnectorError
from ml_connector_airflow.commands.migrate import airflows_database

POLL_SECONDS = 0.5


def is_scheduled(dag_id: str) -> bool:
    """Return whether a scheduler is alive and starts runs of the DAG: it is known and not paused."""
    with airflows_database(), create_session() as session:
        paused = session.scalar(
            select(DagModel.is_paused).where(DagModel.dag_id == dag_id, ~DagModel.is_stale)
        )
    return paused is False and _scheduler_lives()


def run_by_scheduler(dag_id: str, run_id: str, conf: dict[str, Any]) -> str:
    """Trigger a run on behalf of this user; return its final state, as ``success``.

    Raises:
        ConnectorError: the scheduler ended meanwhile, or a user deleted the run.
    """
    with airflows_database():
        trigger_dag(
            dag_id,
            triggered_by=DagRunTriggeredByType.CLI,
            triggering_user_name=getpass.getuser(),
            run_id=run_id,
            conf=conf,
        )
        while (state := _state_of(dag_id, run_id)) not in State.finished_dr_states:
            if state is None:
                raise ConnectorError(f"the run {run_id} was deleted in Airflow")
            if not _scheduler_lives():
                raise ConnectorError(
                    f"Airflow's scheduler has ended. The run {run_id} goes on when it is back"
                )
            sleep(POLL_SECONDS)
    return str(state)


def _scheduler_lives() -> bool:
    job = most_recent_job("SchedulerJob")
    return job is not None and bool(job.is_alive())


def _state_of(dag_id: str, run_id: str) -> Any:
    with create_session() as session:
        return session.scalar(
            select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        )
