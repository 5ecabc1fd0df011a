"""Webhook events that are long over are dropped, and nothing that still has to end."""

import pytest
from sqlalchemy import text

from ml_connector.retention import drop_old_events

AMY, BOB = "amy@birds-sanctuary.com", "bob@windsurf-shop.com"
ENDED = ("done", "ignored", "quarantined")


def put(firm, state: str, *, ended: int | None, received: int, number: int = 1) -> None:
    """Put events into the inbox that came and ended so many days ago."""
    with firm.database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.webhook_inbox
                        (system, source, kind, dedupe_key, payload, state, received_at, settled_at)
                    SELECT 'quickbooks', '1', 'customer.updated', gen_random_uuid()::text, '\\x00',
                           :state, now() - make_interval(days => :received),
                           now() - make_interval(days => CAST(:ended AS int))
                    FROM generate_series(1, :number)"""),
            {"state": state, "ended": ended, "received": received, "number": number},
        )


def age(firm, days: int) -> None:
    with firm.database.begin() as connection:
        connection.execute(
            text("""UPDATE ml_connector.webhook_inbox
                    SET received_at = received_at - make_interval(days => :days),
                        settled_at = settled_at - make_interval(days => :days)"""),
            {"days": days},
        )


@pytest.mark.parametrize("state", ENDED)
def test_what_ended_longer_ago_is_dropped_and_what_ended_since_stays(firm, state):
    put(firm, state, ended=91, received=91)
    put(firm, state, ended=89, received=89)
    put(firm, state, ended=1, received=400)  # waited long, or was tried again
    assert drop_old_events(firm.database, keep_days=90) == 1
    assert firm.inbox() == {state: 2}


@pytest.mark.parametrize("state", ["pending", "leased", "dead"])
def test_what_waits_and_what_a_person_must_look_at_stays_however_old(firm, state):
    put(firm, state, ended=900, received=900)
    assert drop_old_events(firm.database, keep_days=7) == 0
    assert firm.inbox() == {state: 1}


def test_for_ever_is_for_ever(firm):
    put(firm, "done", ended=9000, received=9000)
    assert drop_old_events(firm.database, keep_days=0) == 0


def test_many_are_dropped_in_batches_and_one_that_is_being_requeued_is_left_alone(firm):
    put(firm, "ignored", ended=100, received=100, number=25)
    with firm.database.begin() as other:
        other.execute(
            text("""UPDATE ml_connector.webhook_inbox SET state = 'pending', settled_at = NULL
                    WHERE id = (SELECT min(id) FROM ml_connector.webhook_inbox)""")
        )
        assert drop_old_events(firm.database, keep_days=90, batch=8) == 24
    assert firm.inbox() == {"pending": 1}


def test_a_delivery_that_comes_again_after_its_event_was_dropped_does_no_harm(firm):
    amy, bob = firm.customer("Amy", AMY), firm.customer("Bob", BOB)
    firm.sync()
    firm.quickbooks_control("POST", "customers/merge", {"survivor": amy, "loser": bob})
    firm.person(AMY, "unsubscribe")

    def deliver() -> dict[str, int]:
        firm.told_by_quickbooks(("updated", amy), ("merged", amy, bob))
        firm.told_by_mailchimp("unsubscribe", email=AMY)
        return firm.work_off()

    assert deliver()["done"] == 3
    before, decided = firm.statuses(), firm.decisions()
    age(firm, 100)
    assert drop_old_events(firm.database, keep_days=90) == 3
    firm.clear_journals()
    assert deliver()["done"] == 3
    assert (firm.statuses(), firm.decisions(), firm.writes()) == (before, decided, [])
