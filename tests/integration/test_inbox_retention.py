"""Webhook events that are long over are dropped, and nothing that still has to end."""

import pytest
from sqlalchemy import text

from ml_connector.retention import drop_old_events

AMY, BOB = "amy@birds-sanctuary.com", "bob@windsurf-shop.com"
ENDED = ("done", "ignored", "quarantined")


def put(company, state: str, *, ended: int | None, received: int, number: int = 1) -> None:
    """Put events into the inbox that came and ended so many days ago."""
    with company.database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.webhook_inbox
                        (system, source, kind, dedupe_key, payload, state, received_at, settled_at)
                    SELECT 'quickbooks', '1', 'customer.updated', gen_random_uuid()::text, '\\x00',
                           :state, now() - make_interval(days => :received),
                           now() - make_interval(days => CAST(:ended AS int))
                    FROM generate_series(1, :number)"""),
            {"state": state, "ended": ended, "received": received, "number": number},
        )


def age(company, days: int) -> None:
    with company.database.begin() as connection:
        connection.execute(
            text("""UPDATE ml_connector.webhook_inbox
                    SET received_at = received_at - make_interval(days => :days),
                        settled_at = settled_at - make_interval(days => :days)"""),
            {"days": days},
        )


@pytest.mark.parametrize("state", ENDED)
def test_what_ended_longer_ago_is_dropped_and_what_ended_since_stays(company, state):
    put(company, state, ended=91, received=91)
    put(company, state, ended=89, received=89)
    put(company, state, ended=1, received=400)  # waited long, or was tried again
    assert drop_old_events(company.database, keep_days=90) == 1
    assert company.inbox() == {state: 2}


@pytest.mark.parametrize("state", ["pending", "leased", "dead"])
def test_what_waits_and_what_a_person_must_look_at_stays_however_old(company, state):
    put(company, state, ended=900, received=900)
    assert drop_old_events(company.database, keep_days=7) == 0
    assert company.inbox() == {state: 1}


def test_for_ever_is_for_ever(company):
    put(company, "done", ended=9000, received=9000)
    assert drop_old_events(company.database, keep_days=0) == 0


def test_many_are_dropped_in_batches_and_one_that_is_being_requeued_is_left_alone(company):
    put(company, "ignored", ended=100, received=100, number=25)
    with company.database.begin() as other:
        other.execute(
            text("""UPDATE ml_connector.webhook_inbox SET state = 'pending', settled_at = NULL
                    WHERE id = (SELECT min(id) FROM ml_connector.webhook_inbox)""")
        )
        assert drop_old_events(company.database, keep_days=90, batch=8) == 24
    assert company.inbox() == {"pending": 1}


def test_a_delivery_that_comes_again_after_its_event_was_dropped_does_no_harm(company):
    amy, bob = company.customer("Amy", AMY), company.customer("Bob", BOB)
    company.sync()
    company.quickbooks_control("POST", "customers/merge", {"survivor": amy, "loser": bob})
    company.person(AMY, "unsubscribe")

    def deliver() -> dict[str, int]:
        company.told_by_quickbooks(("updated", amy), ("merged", amy, bob))
        company.told_by_mailchimp("unsubscribe", email=AMY)
        return company.work_off()

    assert deliver()["done"] == 3
    before, decided = company.statuses(), company.decisions()
    age(company, 100)
    assert drop_old_events(company.database, keep_days=90) == 3
    company.clear_journals()
    assert deliver()["done"] == 3
    assert (company.statuses(), company.decisions(), company.writes()) == (before, decided, [])
