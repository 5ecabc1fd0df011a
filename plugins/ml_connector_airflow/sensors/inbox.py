"""The sensor at the head of ``process_webhooks``."""

from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.triggers.base import StartTriggerArgs

from ml_connector_airflow.triggers.inbox import CLASSPATH, InboxTrigger


class InboxSensor(BaseSensorOperator):
    """Sensor that succeeds when an event of the webhook inbox is due.

    It starts and ends in the triggerer, so neither the wait nor its end takes a worker slot.
    """

    start_from_trigger = True
    start_trigger_args = StartTriggerArgs(
        trigger_cls=CLASSPATH, next_method="execute_complete", trigger_kwargs={}
    )

    def execute(self, context: Context) -> None:  # noqa: ARG002 -- Airflow's signature
        """Defer. Runs only without a scheduler (``dag.test()``)."""
        trigger = InboxTrigger()  # type: ignore[no-untyped-call]
        self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Context, event: Any = None) -> None:
        """Succeed. There is nothing to check: the next task claims events itself."""
