"""Webhooks in a real Airflow: from an edit to the contact, whatever is killed on the way."""

import pytest

from tests.e2e import sender
from tests.e2e.airflow import wait_for
from tests.e2e.webhook_faults import api_server_killed, contacts, parts_killed


@pytest.fixture
def quiet(airflow):
    """Only the tests' own sender sends."""
    airflow.end_webhooks()
    yield airflow
    airflow.begin_webhooks()


def test_an_edit_reaches_the_contact_by_its_webhook_alone(quiet):
    (customer,) = contacts(quiet, "Told", 1)
    quiet.edit(int(customer), GivenName="Told At Once")
    assert sender.send(quiet.receiver, sender.customer_event(customer)).status == 200
    member = wait_for(lambda: next(iter(m for m in quiet.members() if told(m)), None), 60)
    assert member["status"] == "subscribed"


def told(member: dict) -> bool:
    return member["merge_fields"]["FNAME"] == "Told At Once"


def test_an_api_server_killed_under_webhooks_loses_and_doubles_nothing(quiet):
    seen = api_server_killed(quiet, kills=1, customers=60, rate=30)
    assert seen.right, seen
    assert (seen.kills, seen.tries > seen.events) == (1, True)


def test_a_killed_triggerer_and_lost_notifies_delay_events_and_lose_none(quiet):
    seen = parts_killed(quiet, triggerers=1, schedulers=0)
    assert seen.right, seen
