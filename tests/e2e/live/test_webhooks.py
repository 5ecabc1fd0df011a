"""Webhooks in a real Airflow: from an edit to the contact, whatever is killed on the way."""

import signal
from urllib.parse import quote

import pytest

from tests.e2e import sender
from tests.e2e.airflow import Airflow, wait_for
from tests.e2e.webhook_faults import api_server_killed, contacts, parts_killed, running

DAG = "process_webhooks"


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


def told(member: dict, name: str = "Told At Once") -> bool:
    return member["merge_fields"]["FNAME"] == name


def test_the_receiver_starts_the_waiting_run_without_the_triggerer(quiet):
    (customer,) = contacts(quiet, "Hangs", 1)
    wait_for(lambda: waits(quiet), 60)
    quiet.edit(int(customer), GivenName="Told Without It")
    triggerer = running(quiet, "triggerer")
    triggerer.send_signal(signal.SIGSTOP)
    try:
        assert sender.send(quiet.receiver, sender.customer_event(customer)).status == 200
        wait_for(lambda: any(told(m, "Told Without It") for m in quiet.members()), 60)
        assert not waits(quiet)
    finally:
        triggerer.send_signal(signal.SIGCONT)


def waits(airflow: Airflow) -> bool:
    """Whether the latest run of the webhooks' DAG waits for events."""
    runs = airflow.call("GET", f"/api/v2/dags/{DAG}/dagRuns?limit=1&order_by=-run_after")
    path = f"/api/v2/dags/{DAG}/dagRuns/{quote(runs['dag_runs'][0]['dag_run_id'], safe='')}"
    tasks = airflow.call("GET", f"{path}/taskInstances")["task_instances"]
    return any(task["task_id"] == "wait" and task["state"] == "deferred" for task in tasks)


def test_an_api_server_killed_under_webhooks_loses_and_doubles_nothing(quiet):
    seen = api_server_killed(quiet, kills=1, customers=60, rate=30)
    assert seen.right, seen
    assert (seen.kills, seen.tries > seen.events) == (1, True)


def test_a_killed_triggerer_and_lost_notifies_delay_events_and_lose_none(quiet):
    seen = parts_killed(quiet, triggerers=1, schedulers=0)
    assert seen.right, seen
