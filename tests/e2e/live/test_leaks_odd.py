"""No person is in any log, XCom or rendered field, whatever odd responses both vendors send.

The daily run and the webhooks' run read both mock servers through a proxy. It plants a person into
every attribute of every record, into refusals, and into what is no JSON. Then all that Airflow's
REST API tells is looked through: the log of every try of every task, XComs, rendered fields.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import quote

import pytest

from tests.e2e.airflow import Airflow, wait_for
from tests.e2e.live import odd_vendors
from tests.e2e.live.test_leaks import answers, databases, logs, told
from tests.integration.test_nothing_personal_said import MARKS

LAST = True
"""Run after the other tests of this folder, test_leaks.py included."""

PLANTS = (
    odd_vendors.odd_records,
    odd_vendors.unreadable,
    odd_vendors.odd_values,
    odd_vendors.refusals,
)


@contextmanager
def odd(airflow: Airflow, plant: odd_vendors.Plant) -> Iterator[None]:
    """Send all calls of both connections through the proxy."""
    with ExitStack() as stack:
        for system in ("quickbooks", "mailchimp"):
            path = f"/api/v2/connections/{system}_default"
            known = airflow.call("GET", path)
            scheme, _, rest = known["host"].partition("://")
            server, _, below = rest.partition("/")
            proxy = stack.enter_context(odd_vendors.planting(system, f"{scheme}://{server}", plant))
            host = f"{proxy}/{below}".rstrip("/")
            stack.callback(point, airflow, path, known, known["host"])
            point(airflow, path, known, host)
        yield


def point(airflow: Airflow, path: str, known: dict, host: str) -> None:
    body = {"connection_id": known["connection_id"], "conn_type": known["conn_type"], "host": host}
    airflow.call("PATCH", f"{path}?update_mask=host", body)


@pytest.fixture(scope="module")
def runs(airflow: Airflow) -> dict[str, str]:
    """How the daily run ended with each kind of odd responses; webhooks were at work beside it."""
    name = f"Odd{time.time_ns()}"
    customer = airflow.add_customer(name, f"{name.lower()}@leaks-watched.com")
    assert airflow.finished(airflow.trigger()) == "success"
    ended = {}
    for plant in PLANTS:
        with odd(airflow, plant):
            airflow.edit(int(customer), GivenName=plant.__name__)
            run_id = airflow.trigger(full_sync=True)
            wait_for(lambda run_id=run_id: over(airflow, run_id))
            ended[plant.__name__] = ended_now(airflow, run_id)
    return ended


def over(airflow: Airflow, run_id: str) -> bool:
    """Whether a run has ended, or only waits for a retry: an outage of ours lasts as long as we say."""
    if airflow.run(run_id)["state"] in ("success", "failed"):
        return True
    states = {task["state"] for task in airflow.tasks(run_id)}
    return "up_for_retry" in states and not states & {"running", "queued", "scheduled"}


def ended_now(airflow: Airflow, run_id: str) -> str:
    """How a run ended. One that waits for a retry ends here: the next would queue behind it."""
    run = airflow.run(run_id)
    if run["state"] not in ("success", "failed"):
        path = f"/api/v2/dags/sync_customers__main/dagRuns/{quote(run_id, safe='')}"
        run = airflow.call("PATCH", f"{path}?update_mask=state", {"state": "failed"})
    return run["state"]


@pytest.fixture(scope="module")
def places_after(runs: dict[str, str], airflow: Airflow) -> dict[str, str]:
    """All that is looked at, in lower case, by where it was found."""
    found = dict(logs(airflow.machine.home / "logs"))
    found |= dict(databases(airflow))
    found |= dict(answers(airflow))
    found |= dict(every_log(airflow))
    return found


def every_log(airflow: Airflow) -> Iterator[tuple[str, str]]:
    """The log of every try of every task of the daily run's and the webhooks' newest runs."""
    for dag_id in ("sync_customers__main", "process_webhooks"):
        base = f"/api/v2/dags/{dag_id}/dagRuns"
        for run in airflow.call("GET", f"{base}?limit=8&order_by=-run_after")["dag_runs"]:
            id_ = quote(run["dag_run_id"], safe="")
            for task in airflow.call("GET", f"{base}/{id_}/taskInstances")["task_instances"]:
                for number in range(1, (task["try_number"] or 0) + 1):
                    path = (
                        f"{base}/{id_}/taskInstances/{task['task_id']}/logs/{number}"
                        f"?map_index={task['map_index']}"
                    )
                    yield (
                        f"every log {dag_id} {id_} {task['task_id']} {number}",
                        told(airflow, path),
                    )


def test_the_daily_run_went_through_all_odd_responses(runs, places_after):
    assert runs["odd_records"] == "success", failures(places_after)
    assert set(runs) == {plant.__name__ for plant in PLANTS}
    read = [text for name, text in places_after.items() if name.startswith("every log sync")]
    assert any("customers_unreadable" in text for text in read)
    assert any("members_read" in text for text in read)


def failures(places_after: dict[str, str]) -> list[str]:
    """What the logs say of errors."""
    lines = [
        line
        for name, text in places_after.items()
        for line in text.splitlines()
        if name[:5] == "every"
    ]
    return [line[:400] for line in lines if '"level":"error"' in line or "level': 'error" in line][
        :20
    ]


def test_no_planted_person_is_in_logs_dumps_or_answers(places_after):
    leaks = {
        name: [line for line in text.splitlines() if any(mark in line for mark in MARKS)][:3]
        for name, text in places_after.items()
    }
    assert {name: lines for name, lines in leaks.items() if lines} == {}
