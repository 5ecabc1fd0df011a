"""End the wait of a ``process_webhooks`` run, as its trigger would.

A triggerer reports fired triggers once a second. The receiver knows of an event earlier, and it runs
where Airflow's database is at hand.
"""

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.triggers.base import TaskSuccessEvent
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

DAG_ID, SENSOR = "process_webhooks", "wait"


def release_waiting_run() -> bool:
    """Let the waiting run process events now; return whether a run was waiting.

    Changes nothing while a task is at work: no run waits then. The row lock keeps several API
    servers and the triggerer apart; a row that another one holds is passed over.

    Raises SQLAlchemy's errors if Airflow's database is unavailable.
    """
    waiting = (
        select(TaskInstance)
        .where(
            TaskInstance.dag_id == DAG_ID,
            TaskInstance.task_id == SENSOR,
            TaskInstance.state == TaskInstanceState.DEFERRED,
            TaskInstance.trigger_id.is_not(None),
        )
        .limit(1)
        .with_for_update(of=TaskInstance, skip_locked=True)
    )
    with create_session() as session:
        sensor = session.scalar(waiting)
        if sensor is None:
            return False
        Trigger.submit_event(sensor.trigger_id, TaskSuccessEvent(), session=session)
        return True
