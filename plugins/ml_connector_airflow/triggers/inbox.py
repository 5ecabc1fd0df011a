"""The trigger that ends when a webhook's event is due."""

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from ml_connector.webhooks import listen
from ml_connector_airflow.wiring import database_url_in_trigger

CLASSPATH = "ml_connector_airflow.triggers.inbox.InboxTrigger"


class InboxTrigger(BaseTrigger):
    """Waits for the inbox; two at once do no harm, and none takes anything out of it.

    It has no arguments, so nothing secret is kept of it: the database's address is the connection
    ``ml_connector_db``, resolved where it runs. Nothing is handed on either; the task claims.
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how another triggerer makes the same trigger."""
        return CLASSPATH, {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """End the task once an event is due; fail it if the connection is missing."""
        await database_url_in_trigger()  # a person has to see that, so it is not waited for
        await listen.until_due(database_url_in_trigger)
        yield TaskSuccessEvent()
