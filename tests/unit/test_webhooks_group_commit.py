"""Deliveries that wait at the same time share a commit, and none is answered before it."""

import asyncio
import threading

import pytest

from ml_connector.errors import StorageError, Unavailable
from ml_connector.webhooks.receiver.group_commit import GroupCommit
from ml_connector.webhooks.receiver.keys import Keyring, Keys


def test_whoever_waits_at_the_same_time_is_committed_together():
    written: list[list[str]] = []
    go = threading.Event()

    def write(events):
        written.append(list(events))
        go.wait(10)

    async def deliver():
        commit = GroupCommit(write)
        first = asyncio.create_task(commit.store(["a"]))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(commit.store([name])) for name in "bcd"]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in [first, *others])
        go.set()
        await asyncio.gather(first, *others)
        await commit.store(["e"])

    asyncio.run(deliver())
    assert written == [["a"], ["b", "c", "d"], ["e"]]


def test_a_delivery_that_cannot_be_written_does_not_take_the_others_with_it():
    stored: list[str] = []

    def write(events):
        if "bad" in events:
            raise ValueError("bad")
        stored.extend(events)

    async def deliver():
        commit = GroupCommit(write)
        return await asyncio.gather(
            *(commit.store([name]) for name in ("a", "bad", "b")), return_exceptions=True
        )

    assert [type(result) for result in asyncio.run(deliver())] == [
        type(None),
        ValueError,
        type(None),
    ]
    assert stored == ["a", "b"]


def test_none_of_the_deliveries_of_a_commit_that_failed_is_answered_as_stored():
    def write(_):
        raise StorageError("the database is away")

    async def deliver():
        commit = GroupCommit(write)
        return await asyncio.gather(
            *(commit.store([name]) for name in "abc"), return_exceptions=True
        )

    assert [type(result) for result in asyncio.run(deliver())] == [StorageError] * 3


def test_a_frozen_database_is_waited_for_in_bounds_and_a_crowd_is_sent_away_at_once():
    thaw = threading.Event()

    async def deliver():
        commit = GroupCommit(lambda _: thaw.wait(10), patience=0.2, most_waiting=1)
        waiting = [asyncio.create_task(commit.store([0]))]
        await asyncio.sleep(0.05)  # its write has begun
        waiting.append(asyncio.create_task(commit.store([1])))
        await asyncio.sleep(0.05)
        results = await asyncio.gather(*waiting, commit.store([2]), return_exceptions=True)
        thaw.set()
        return results

    kinds = [type(result) for result in asyncio.run(deliver())]
    assert kinds == [StorageError, StorageError, Unavailable]


def test_old_keys_serve_on_while_new_ones_cannot_be_read():
    answers = [Keys(quickbooks={"t": frozenset()}), StorageError("away"), Keys()]
    now = [0.0]

    def load():
        answer = answers.pop(0)
        if isinstance(answer, StorageError):
            raise answer
        return answer

    async def use():
        ring = Keyring(load, clock=lambda: now[0])
        assert (await ring.current()).quickbooks
        assert await ring.newer() is None  # read just now
        now[0] = 10
        assert await ring.newer() is None  # cannot be read
        assert (await ring.current()).quickbooks
        now[0] = 100
        assert (await ring.current()).quickbooks  # read in the background
        await asyncio.sleep(0.05)
        assert not (await ring.current()).quickbooks

    asyncio.run(use())


def test_without_any_keys_nothing_is_refused_for_good():
    def load():
        raise StorageError("away")

    async def use():
        await Keyring(load).current()

    with pytest.raises(StorageError):
        asyncio.run(use())
