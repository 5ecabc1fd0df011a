"""The inbox: every event once, one holder at a time, and an end for each."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text

from ml_connector.webhooks import backlog, inbox
from ml_connector.wire.webhook_event import WebhookEvent, dedupe_key

LEASE = timedelta(minutes=5)


def event(number: int, **fields) -> WebhookEvent:
    return WebhookEvent(
        **{
            "system": "quickbooks",
            "source": "1",
            "kind": "customer.updated",
            "dedupe_key": dedupe_key("test", number),
            "payload": {"number": number},
            "entity_id": str(number),
            **fields,
        }
    )


@pytest.fixture
def deliver(company):
    def delivered(*events: WebhookEvent) -> int:
        with company.database.begin() as connection:
            return inbox.deliver(connection, events, vault=company.vault)

    return delivered


@pytest.fixture
def claim(company):
    def claimed(limit: int = 10, lease: timedelta = LEASE) -> list[inbox.ClaimedEvent]:
        with company.database.begin() as connection:
            fresh = inbox.claim(connection, limit=limit, lease=lease, vault=company.vault)
            tried = inbox.claim(
                connection, limit=limit - len(fresh), lease=lease, tried=True, vault=company.vault
            )
            return fresh + tried

    return claimed


def states(company) -> dict[str, int]:
    return company.inbox()


def make_due(company) -> None:
    with company.database.begin() as connection:
        connection.execute(
            text("""UPDATE ml_connector.webhook_inbox
                    SET next_try_at = now() - interval '1 s', lease_until = now() - interval '1 s'""")
        )


def test_an_event_delivered_again_alone_or_twice_at_once_is_one_row(company, deliver):
    assert deliver(event(1), event(2)) == 2
    assert deliver(event(2), event(3), event(3)) == 1
    assert states(company) == {"pending": 3}


def test_a_claimed_event_opens_and_is_nobody_elses(company, deliver, claim):
    deliver(*(event(n) for n in range(5)))
    first, second = claim(3), claim(3)
    assert [len(first), len(second)] == [3, 2]
    assert {one.id for one in first} & {one.id for one in second} == set()
    opened = {one.decrypted(company.vault)["number"] for one in first + second}
    assert opened == set(range(5))


def test_the_payload_of_another_row_does_not_open(company, deliver, claim):
    from ml_connector.errors import SettingsError

    deliver(event(1), event(2))
    one, other = claim()
    with pytest.raises(SettingsError):
        replace(one, payload=other.payload).decrypted(company.vault)


def test_two_claims_at_the_same_moment_share_nothing(company, deliver):
    deliver(*(event(n) for n in range(40)))
    found: list[list[int]] = []
    both = threading.Barrier(2)

    def take() -> None:
        with company.database.begin() as connection:
            both.wait(10)
            mine = inbox.claim(connection, limit=20, lease=LEASE, vault=company.vault)
            both.wait(10)  # neither has committed yet
            found.append([one.id for one in mine])

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [len(ids) for ids in found] == [20, 20]
    assert set(found[0]).isdisjoint(found[1])


def test_a_lease_that_ran_out_passes_on_and_its_former_holder_changes_nothing(
    company, deliver, claim
):
    deliver(event(1))
    late = claim()
    make_due(company)
    new = claim()
    assert [one.attempts for one in late + new] == [1, 2]
    with company.database.begin() as connection:
        assert inbox.settle(connection, late, vault=company.vault) == 0
        assert inbox.fail(connection, late, reason="too late", vault=company.vault) == 0
        assert inbox.settle(connection, new, vault=company.vault) == 1
    assert states(company) == {"done": 1}


def test_an_event_is_due_until_it_is_claimed_and_again_when_its_wait_ends(company, deliver, claim):
    def due() -> bool:
        with company.database.begin() as connection:
            return inbox.is_due(connection)

    assert not due()
    deliver(event(1), event(2, state="ignored", reason="entity_not_used"))
    assert due()
    (one,) = claim()
    assert not due()
    with company.database.begin() as connection:
        inbox.postpone(connection, [one], wait=timedelta(hours=1), reason="QuickBooks is away")
    assert not due()
    make_due(company)
    assert due()


def test_c10_a_failing_event_waits_longer_each_time_and_is_dead_after_five(company, deliver, claim):
    deliver(event(1))
    waits = []
    for _ in range(5):
        (one,) = claim()
        assert claim() == []
        with company.database.begin() as connection:
            assert inbox.fail(connection, [one], reason="no such thing", vault=company.vault) == 1
            due = connection.execute(text(inbox.NEXT_DUE)).scalar_one()
        waits.append(round((due - datetime.now(UTC)).total_seconds()) if due else None)
        make_due(company)
    assert waits == [10, 60, 300, 1800, None]
    assert states(company) == {"dead": 1}
    assert claim() == []


def test_an_event_that_ends_every_worker_is_dead_too(company, deliver, claim):
    deliver(event(1))
    for _ in range(5):
        assert len(claim()) == 1
        make_due(company)
    assert claim() == []
    assert states(company) == {"dead": 1}


def test_a_postponed_event_costs_no_try_and_a_dead_one_can_be_tried_again(company, deliver, claim):
    deliver(event(1))
    wait = timedelta(hours=1)
    for _ in range(7):
        with company.database.begin() as connection:
            inbox.postpone(connection, claim(), wait=wait, reason="QuickBooks is away")
            due = connection.execute(text(inbox.NEXT_DUE)).scalar_one()
            assert due is not None
            assert timedelta(minutes=59) < due - datetime.now(UTC) <= wait
        make_due(company)
    (one,) = claim()
    assert one.attempts == 1
    with company.database.begin() as connection:
        inbox.quarantine(connection, [one], reason="strange", vault=company.vault)
        assert backlog.count_backlog(connection).depth == 0
        assert inbox.requeue(connection, [one.id]) == 1
        assert backlog.count_backlog(connection).depth == 1
    assert [again.id for again in claim()] == [one.id]


def test_whoever_listens_is_told_of_new_work_and_of_nothing_else(company, deliver):
    url = company.database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as listener:
        listener.execute(f"LISTEN {inbox.CHANNEL}")
        deliver(event(1, state="ignored", reason="entity_not_used"))
        assert list(listener.notifies(timeout=0.5)) == []
        deliver(event(2), event(3))
        assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1
        deliver(event(2), event(3))
        assert list(listener.notifies(timeout=0.5)) == []


def test_no_address_is_in_clear(company, deliver):
    deliver(event(1, payload={"data": {"email": "ada@example.com"}}))
    with company.database.begin() as connection:
        row = connection.execute(text("SELECT * FROM ml_connector.webhook_inbox")).one()
    assert b"ada@example.com" not in b"".join(str(value).encode() for value in row) + bytes(
        row.payload
    )
