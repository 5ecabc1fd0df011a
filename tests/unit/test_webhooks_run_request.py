"""A run is requested behind the response: one request at a time, and a failed one harms nothing."""

import asyncio
import threading

from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from ml_connector.errors import StorageError
from ml_connector.webhooks.receiver.run_request import ATTEMPTS, PAUSE, RunRequester


async def quiet() -> None:
    """Wait for what goes on behind a response."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)  # for the callbacks


def test_many_deliveries_make_one_request_and_one_more_for_those_that_came_meanwhile():
    go, begun = threading.Event(), []

    def request() -> bool:
        begun.append(1)
        go.wait(10)
        return True

    async def deliver():
        requester = RunRequester(request)
        requester()
        await asyncio.sleep(0.05)
        for _ in range(1000):
            requester()
        assert len(begun) == 1
        go.set()
        await quiet()

    asyncio.run(deliver())
    assert len(begun) == 2


def test_a_request_is_repeated_until_a_run_waits():
    answers = [False, False, True]

    async def deliver():
        requester = RunRequester(lambda: answers.pop(0), interval=0)
        requester()
        await quiet()

    asyncio.run(deliver())
    assert answers == []


def test_the_sensor_is_left_to_it_if_no_run_comes():
    begun = []

    async def deliver():
        requester = RunRequester(lambda: begun.append(1) is not None, interval=0)
        requester()
        await quiet()
        assert len(begun) == ATTEMPTS
        requester()
        await quiet()

    asyncio.run(deliver())
    assert len(begun) == 2 * ATTEMPTS


def test_a_failed_request_is_told_once_and_not_repeated_for_a_while():
    begun, now = [], [0.0]
    errors = [
        StorageError("Airflow's database cannot be used"),
        OperationalError("SELECT 'ada@example.com'", {}, ValueError("ada@example.com")),
    ]

    def request() -> bool:
        begun.append(1)
        raise errors[len(begun) - 1]

    async def deliver():
        requester = RunRequester(request, clock=lambda: now[0])
        for seconds in (0.0, PAUSE - 1, PAUSE + 1, PAUSE + 2):
            now[0] = seconds
            requester()
            await quiet()

    with capture_logs() as said:
        asyncio.run(deliver())
    assert len(begun) == 2
    assert [line["error"] for line in said] == [str(errors[0]), "OperationalError"]
