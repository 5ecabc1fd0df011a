"""The sensor at the head of ``process_webhooks``."""

from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.triggers.base import StartTriggerArgs

from ml_connector_airflow.triggers.inbox import CLASSPATH, InboxTrigger


class InboxSensor(BaseSensorOperator):
    """Succeeds when an event of the webhook inbox is due.

    It starts and ends in the triggerer: no worker is used while it waits, and none to go on.
    """

    start_from_trigger = True
    start_trigger_args = StartTriggerArgs(
        trigger_cls=CLASSPATH, next_method="execute_complete", trigger_kwargs={}
    )

    def execute(self, context: Context) -> None:  # noqa: ARG002 -- Airflow's signature
        """Defer. Only where a task is run without a scheduler (``dag.test()``)."""
        trigger = InboxTrigger()  # type: ignore[no-untyped-call]
        self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Context, event: Any = None) -> None:
        """Go on: there is nothing to look at, the next task claims for itself."""
