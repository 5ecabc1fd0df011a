"""``python -m bench.webhook_latency``: from a webhook's response to the contact changed at Mailchimp.

A whole machine as ``make run`` starts it. Each event is about a customer just edited; the clock
starts when the receiver has responded and stops when Mailchimp has responded to the write. Where the
time goes is read from the mock servers' journals and from Airflow's own record of the tasks.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from bench.table import Row
from tests.e2e import sender
from tests.e2e.airflow import Airflow, staying_up, wait_for

DAG = "process_webhooks"
SLOWEST = 60.0  # seconds an event may take before the benchmark fails
LONGEST_STAY = 13.0  # seconds a task stays for more, and ends


@dataclass(frozen=True)
class Told:
    """One event and the name that its customer was given; ``answered`` is wall-clock time."""

    name: str
    answered: float


@dataclass(frozen=True)
class Way:
    """Where the seconds of one event went."""

    woken: float
    started: float
    opened: float
    read: float
    decided: float
    written: float

    @property
    def total(self) -> float:
        """Seconds from the response to the contact changed."""
        return sum(vars(self).values())


PACES = (
    ("2 to 8 s apart", 2.0, 8.0),
    ("14 s apart: each finds the task gone", 14.0, 15.0),
)
MEDIAN, P95 = 1.0, 2.5  # seconds to reach
STAGES = {
    "woken": "sensor wakes and ends, in the triggerer",
    "started": "scheduler starts the task",
    "opened": "task claims, until its read is on the wire",
    "read": "QuickBooks read",
    "decided": "staged, decided, write prepared",
    "written": "Mailchimp write",
}


def main() -> None:
    """Print one table for each pace, and what a burst costs."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhook_latency")
    parser.add_argument("--events", type=int, default=50)
    options = parser.parse_args()
    with staying_up() as airflow:
        airflow.end_webhooks()
        ids = _contacts(airflow, "Told", options.events)
        for title, low, high in PACES:
            sys.stdout.write("\n".join(_table(title, measure(airflow, ids, low, high))) + "\n\n")
        sys.stdout.write(burst(airflow) + "\n")


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield both paces, with as many events as ``options.events``."""
    with staying_up() as airflow:
        airflow.end_webhooks()
        ids = _contacts(airflow, "Told", options.events)
        for title, low, high in PACES:
            totals = [way.total for way in measure(airflow, ids, low, high)]
            median, p95 = statistics.median(totals), statistics.quantiles(totals, n=20)[-1]
            yield Row(
                work=f"webhook to contact, {len(totals)} events {title}",
                measured=f"median {median:.2f} s, 95th percentile {p95:.2f} s",
                to_reach=f"{MEDIAN:g} s, {P95:g} s",
                reached=median <= MEDIAN and p95 <= P95,
            )


def measure(airflow: Airflow, ids: Sequence[str], low: float, high: float) -> list[Way]:
    """Announce an edit of each customer, some seconds apart; return each one's way."""
    airflow.forget_journal()
    told, chance = [], random.Random(7)
    for customer_id in ids:
        name = f"Announced {time.time_ns()}"
        airflow.edit(int(customer_id), GivenName=name)
        answer = sender.send(airflow.receiver, sender.customer_event(customer_id))
        told.append(Told(name, time.time()))
        assert answer.status == 200
        time.sleep(chance.uniform(low, high))
    wait_for(lambda: len(_writes(airflow)) >= len(ids), SLOWEST)
    time.sleep(LONGEST_STAY)  # the last task's end is part of Airflow's record only then
    writes, tasks = _writes(airflow), _tasks(airflow)
    reads = [_span(call) for call in airflow.reads()]
    return [_way(one.answered, writes[one.name], reads, tasks) for one in told]


def burst(airflow: Airflow, events: int = 500, seconds: float = 5.0) -> str:
    """Say what it costs if so many customers are edited within some seconds."""
    ids = _contacts(airflow, "Burst", events)
    airflow.edit_many(ids, GivenName="Burst {id}")
    airflow.forget_journal()
    sent = [sender.customer_event(id_) for id_ in ids]
    answers = sender.open_loop(airflow.receiver, sent, rate=events / seconds)
    ended = time.time()
    assert {answer.status for answer in answers} == {200}
    wait_for(lambda: len(_writes(airflow)) >= len(ids), SLOWEST)
    changed = max(end for _, end in _writes(airflow).values())
    posts = [call for call in airflow.writes() if call["method"] == "POST"]
    return (
        f"{events} events in {seconds:g} s: {len(airflow.reads())} reads, {len(posts)} writes, "
        f"all changed {changed - ended:.1f} s after the last response"
    )


def _contacts(airflow: Airflow, name: str, number: int) -> list[str]:
    """Create customers, bring them over, and wait until nothing is at work."""
    ids = [
        airflow.add_customer(f"{name} {n}", f"{name.lower()}{n}@{name.lower()}-firm.com")
        for n in range(number)
    ]
    assert airflow.finished(airflow.trigger()) == "success"
    time.sleep(LONGEST_STAY)
    return ids


def _writes(airflow: Airflow) -> dict[str, tuple[float, float]]:
    """Return when each new name was written: its call's begin and end."""
    return {
        member["merge_fields"]["FNAME"]: _span(call)
        for call in airflow.writes()
        if call["method"] == "POST"
        for member in call["body"]["members"]
    }


def _tasks(airflow: Airflow) -> list[tuple[float, float]]:
    """Return for each run when its sensor ended and when its task started, oldest first."""
    found = []
    runs = airflow.call("GET", f"/api/v2/dags/{DAG}/dagRuns?limit=200&order_by=-start_date")
    for run in runs["dag_runs"]:
        path = f"/api/v2/dags/{DAG}/dagRuns/{quote(run['dag_run_id'], safe='')}/taskInstances"
        tasks = {one["task_id"]: one for one in airflow.call("GET", path)["task_instances"]}
        times = (tasks["wait"]["end_date"], tasks["process"]["start_date"])
        if all(times):
            found.append((_seconds(times[0]), _seconds(times[1])))
    return sorted(found)


def _span(call: dict[str, Any]) -> tuple[float, float]:
    began = _seconds(call["at"])
    return began, began + call["duration_ms"] / 1000


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _table(title: str, ways: Sequence[Way]) -> list[str]:
    totals = [way.total for way in ways]
    whole = sum(totals)
    lines = [
        (
            f"{len(ways)} events, {title}: median {statistics.median(totals):.2f} s, "
            f"95th percentile {statistics.quantiles(totals, n=20)[-1]:.2f} s, "
            f"longest {max(totals):.2f} s"
        ),
        "",
        "| stage | median ms | 95th percentile ms | share |",
        "|---|---|---|---|",
    ]
    for stage, words in STAGES.items():
        each = [getattr(way, stage) for way in ways]
        lines.append(
            f"| {words} | {statistics.median(each) * 1000:.0f} "
            f"| {statistics.quantiles(each, n=20)[-1] * 1000:.0f} | {sum(each) / whole:.0%} |"
        )
    return lines


def _way(
    at: float,
    written: tuple[float, float],
    reads: Sequence[tuple[float, float]],
    tasks: Sequence[tuple[float, float]],
) -> Way:
    """Take one event's time apart; ``at`` is when its webhook got its response."""
    write_began, write_ended = written
    read_began, read_ended = [read for read in reads if read[0] <= write_began][-1]
    woken, started = [task for task in tasks if task[1] <= read_began][-1]
    there = started <= at  # the task was at work already
    woken = at if there else max(at, woken)
    started = at if there else max(woken, started)
    return Way(
        woken=woken - at,
        started=started - woken,
        opened=read_began - started,
        read=read_ended - read_began,
        decided=write_began - read_ended,
        written=write_ended - write_began,
    )


if __name__ == "__main__":
    main()
