"""The trigger that fires when a webhook event is due."""

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from ml_connector.webhooks import listen
from ml_connector_airflow.wiring import database_url_in_trigger

CLASSPATH = "ml_connector_airflow.triggers.inbox.InboxTrigger"


class InboxTrigger(BaseTrigger):
    """Trigger that waits for the inbox; several at once are harmless, and none consumes events.

    It has no arguments, so Airflow stores no secret with it. The database's address is the
    connection ``ml_connector_db``, resolved where the trigger runs. It passes nothing on either:
    the task claims.
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how another triggerer recreates this trigger."""
        return CLASSPATH, {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """End the task when an event is due; fail it if the connection is missing."""
        await database_url_in_trigger()  # a person must see this error, so do not wait it out
        await listen.until_due(database_url_in_trigger)
        yield TaskSuccessEvent()
