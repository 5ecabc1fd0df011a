"""``python -m bench.webhook_load``: how many webhooks a second, on the API server and alone.

Through the API server of a whole machine at a steady rate, whatever the responses, while events are
processed at the same time; then the receiver in a process of its own as fast as clients can, and with
more clients than it has room for.
"""

import argparse
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import requests

from bench.table import Row
from sandbox.ports import free_port
from tests.e2e import sender
from tests.e2e.airflow import Airflow, staying_up, wait_for

PATH = "/ml-connector/webhooks/quickbooks"
CLIENTS = (32, 1_000)
ACKNOWLEDGED = 800  # a second, to reach


def main() -> None:
    """Print the responses to each load."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhook_load")
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--closed", type=int, default=10_000)
    options = parser.parse_args()
    with staying_up() as airflow:
        airflow.end_webhooks()
        ids = airflow.active_customers()
        time.sleep(10)
        events = _events(ids, int(options.rate * options.seconds))
        before = _stored(airflow)
        with _health(airflow) as health:
            answers = sender.open_loop(airflow.receiver, events, rate=options.rate)
        _say(
            f"API server, open loop, {options.rate:g} a second for {options.seconds:g} s",
            answers,
            _stored(airflow) - before,
        )
        sys.stdout.write(
            f"  Airflow's health endpoint: longest {max(health):.3f} s of {len(health)} calls\n"
        )
        with _receiver_alone(airflow) as url:
            for clients in CLIENTS:
                rate, answers, stored = _closed(airflow, url, ids, options.closed, clients)
                _say(f"alone, closed loop, {clients} clients, {rate:.0f} a second", answers, stored)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the receiver in a process of its own, as fast as clients can."""
    with staying_up() as airflow, _receiver_alone(airflow) as url:
        airflow.end_webhooks()
        ids = airflow.active_customers()
        for clients in CLIENTS:
            rate, answers, stored = _closed(airflow, url, ids, options.webhooks, clients)
            taken = [answer.seconds for answer in answers if answer.status == 200]
            p99 = statistics.quantiles(taken, n=100)[-1]
            goal = clients == CLIENTS[0]  # the others are more than it has room for
            yield Row(
                work=f"receiver, one worker, {clients:,} clients: {len(answers):,} webhooks",
                measured=(
                    f"{rate:,.0f} a second, {len(taken):,} acknowledged, {stored:,} stored, "
                    f"99th percentile {p99 * 1000:.0f} ms"
                ),
                to_reach=f"{ACKNOWLEDGED} a second" if goal else "",
                reached=rate >= ACKNOWLEDGED and len(taken) == stored if goal else None,
            )


def _closed(
    airflow: Airflow, url: str, ids: Sequence[str], number: int, clients: int
) -> tuple[float, list[sender.Answer], int]:
    """Send so many; return how many a second, the responses, and how many were stored."""
    events, before = _events(ids, number), _stored(airflow)
    began = time.monotonic()
    answers = sender.closed_loop(url, events, clients=clients)
    return len(answers) / (time.monotonic() - began), answers, _stored(airflow) - before


def _events(ids: Sequence[str], number: int) -> list[sender.Event]:
    return [sender.customer_event(ids[each % len(ids)]) for each in range(number)]


def _stored(airflow: Airflow) -> int:
    with psycopg.connect(airflow.database_url) as connection:
        (count,) = connection.execute("SELECT count(*) FROM ml_connector.webhook_inbox").fetchone()
    return count


def _say(title: str, answers: Sequence[sender.Answer], stored: int) -> None:
    taken = [answer.seconds for answer in answers if answer.status == 200]
    cuts = statistics.quantiles(taken, n=100)
    sys.stdout.write(
        f"{title}\n  responses {dict(Counter(answer.status for answer in answers))}, stored {stored}; "
        f"200 after: median {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms, "
        f"longest {max(taken) * 1000:.0f} ms\n"
    )
    sys.stdout.flush()


@contextmanager
def _health(airflow: Airflow) -> Iterator[list[float]]:
    """Ask the health endpoint twice a second meanwhile; the list fills with seconds."""
    took: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.5):
            began = time.monotonic()
            requests.get(f"{airflow.url}/api/v2/monitor/health", timeout=30).raise_for_status()
            took.append(time.monotonic() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield took
    finally:
        stop.set()
        asking.join()


@contextmanager
def _receiver_alone(airflow: Airflow) -> Iterator[str]:
    """Run ``ml-connector receiver`` with the machine's own settings."""
    lines = (airflow.machine.home / "env").read_text().splitlines()
    given = {name: shlex.split(text)[0] for name, text in (line.split("=", 1) for line in lines)}
    port = free_port()
    program = Path(sys.executable).with_name("ml-connector")
    with subprocess.Popen(
        [program, "receiver", "--port", str(port)],
        env={"PATH": "/usr/bin:/bin", **given},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: _up(address), 60)
        try:
            yield f"{address}{PATH}"
        finally:
            process.terminate()


def _up(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=5).ok
    except requests.RequestException:
        return False


if __name__ == "__main__":
    main()
