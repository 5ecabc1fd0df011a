"""What may go wrong around webhooks, on a whole machine, and what must be true afterwards.

Short in CI (live/test_webhooks.py), long by ``make torture`` (bench/webhook_faults.py).
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import psycopg
import requests

from tests.e2e import sender
from tests.e2e.airflow import Airflow, our_database, wait_for

UP = 120.0  # seconds a killed part may take to be up again on a busy machine
SETTLED = 420.0  # seconds; a killed task's events are due again after two minutes


@dataclass
class Seen:
    """What a scenario saw; every list must be empty.

    Attributes:
        miscounted: Customers with more or fewer events stored than were answered 2xx in the end.
        not_carried: Customers whose contact does not show the last edit.
        doubled: Writes of the same name to the same contact, more than once.
        unsettled: States of events that were not processed.
    """

    events: int = 0
    kills: int = 0
    tries: int = 0
    miscounted: list[str] = field(default_factory=list)
    not_carried: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unsettled: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether every promise held."""
        return not (self.miscounted or self.not_carried or self.doubled or self.unsettled)


def api_server_killed(airflow: Airflow, *, kills: int, customers: int, rate: float) -> Seen:
    """SIGKILL of the API server again and again under webhooks of edited customers.

    The sender comes again until it is answered 2xx, as Intuit does.
    """
    seen = Seen()
    ids = contacts(airflow, f"Kill{time.time_ns()}", customers)
    airflow.forget_journal()
    done = threading.Event()
    killer = threading.Thread(target=_kill_api_server, args=(airflow, kills, seen, done))
    killer.start()
    answers: list[sender.Answer] = []
    edits = 0
    while not done.is_set() or not edits:
        edits += 1
        airflow.edit_many(ids, GivenName=f"Edit {edits} of {{id}}")
        events = [sender.customer_event(id_) for id_ in ids]
        answers += sender.open_loop(airflow.receiver, events, rate=rate, until_taken=True)
    killer.join()
    seen.events = len(answers)
    seen.tries = sum(answer.tries for answer in answers)
    _check(airflow, seen, answers, {id_: f"Edit {edits} of {id_}" for id_ in ids})
    return seen


def parts_killed(airflow: Airflow, *, triggerers: int, schedulers: int) -> Seen:
    """SIGKILL of triggerer and scheduler with every NOTIFY dropped; how long each event took.

    Seconds count from the killed part's new start until the contact is changed.
    """
    seen = Seen()
    ids = contacts(airflow, f"Part{time.time_ns()}", 5)
    airflow.forget_journal()
    answers: list[sender.Answer] = []
    expected: dict[str, str] = {}
    with no_notify(airflow):
        for number, part in enumerate(["triggerer"] * triggerers + ["scheduler"] * schedulers):
            kill(airflow, part)
            seen.kills += 1
            airflow.edit_many(ids, GivenName=f"Part {number} of {{id}}")
            events = [sender.customer_event(id_) for id_ in ids]
            answers += sender.open_loop(airflow.receiver, events, rate=50, until_taken=True)
            wait_for(lambda part=part: running(airflow, part), UP)
            again = time.monotonic()
            expected = {id_: f"Part {number} of {id_}" for id_ in ids}
            wait_for(lambda wanted=expected: not _not_carried(airflow, wanted), SETTLED)
            seen.seconds.append(time.monotonic() - again)
        # What follows ends all sessions: a call whose response is not stored yet would be repeated.
        wait_until_processed(airflow)
    seen.events = len(answers)
    seen.tries = sum(answer.tries for answer in answers)
    _check(airflow, seen, answers, expected)
    return seen


def contacts(airflow: Airflow, name: str, number: int) -> list[str]:
    """Create customers and bring them over by a run, webhooks of the sandbox's own switched off."""
    ids = [
        airflow.add_customer(f"{name} {n}", f"{name.lower()}.{n}@webhook-faults.com")
        for n in range(number)
    ]
    assert airflow.finished(airflow.trigger()) == "success"
    return ids


def running(airflow: Airflow, part: str) -> psutil.Process | None:
    """The machine's process of one of Airflow's parts."""
    sessions = airflow.machine.sessions()
    for process in psutil.process_iter(["cmdline", "status"]):
        # As started, and as the API server calls itself later.
        command = " ".join(process.info["cmdline"] or ())
        named = (
            command.endswith(f"airflow {part}") or f"airflow {part.replace('-', '_')}" in command
        )
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if alive and named and process.pid in sessions:
            return process
    return None


def kill(airflow: Airflow, part: str) -> None:
    """SIGKILL one of Airflow's parts; `make run` starts it again."""
    process = wait_for(lambda: running(airflow, part), UP)
    # Younger than that, and `make run` takes it for one that cannot start.
    wait_for(lambda: time.time() - process.create_time() > 11, UP)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: (found := running(airflow, part)) and found.pid != process.pid, UP)


@contextmanager
def no_notify(airflow: Airflow) -> Iterator[None]:
    """Every NOTIFY of the connector dropped: its function is hidden by one that does nothing."""
    with psycopg.connect(airflow.database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS deaf")
        connection.execute(
            "CREATE OR REPLACE FUNCTION deaf.pg_notify(text, text) RETURNS void "
            "LANGUAGE sql AS 'SELECT NULL::void'"
        )
        database = connection.info.dbname
        connection.execute(
            f'ALTER DATABASE "{database}" SET search_path = deaf, pg_catalog, public'
        )
        _end_sessions(connection)
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{database}" RESET search_path')
            connection.execute("DROP SCHEMA deaf CASCADE")
            _end_sessions(connection)


def _end_sessions(connection: psycopg.Connection) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def _kill_api_server(airflow: Airflow, kills: int, seen: Seen, done: threading.Event) -> None:
    chance = random.Random(5)
    try:
        for _ in range(kills):
            wait_for(lambda: healthy(airflow), UP)
            enough = stored(airflow) + chance.randint(5, 60)
            wait_for(lambda enough=enough: stored(airflow) >= enough, UP)
            kill(airflow, "api-server")
            seen.kills += 1
        wait_for(lambda: healthy(airflow), UP)
    finally:
        done.set()


def stored(airflow: Airflow) -> int:
    """How many events the inbox has."""
    with psycopg.connect(our_database(airflow)) as connection:
        row = connection.execute("SELECT count(*) FROM ml_connector.webhook_inbox").fetchone()
    return row[0] if row else 0


def healthy(airflow: Airflow) -> bool:
    """Whether the API server answers."""
    try:
        return requests.get(f"{airflow.url}/api/v2/monitor/health", timeout=5).ok
    except requests.RequestException:
        return False


def wait_until_processed(airflow: Airflow) -> None:
    """Wait until no event is in work."""
    with psycopg.connect(airflow.database_url, autocommit=True) as connection:

        def at_rest() -> bool:
            return not connection.execute(
                "SELECT 1 FROM ml_connector.webhook_inbox "
                "WHERE state IN ('pending', 'leased') LIMIT 1"
            ).fetchone()

        wait_for(at_rest, SETTLED)


def _check(
    airflow: Airflow, seen: Seen, answers: list[sender.Answer], expected: dict[str, str]
) -> None:
    """Wait until every event was processed, and compare both ends with what was sent."""
    wait_until_processed(airflow)
    with psycopg.connect(airflow.database_url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT entity_id, count(*) FROM ml_connector.webhook_inbox GROUP BY entity_id"
        )
        stored = dict(rows.fetchall())
        states = connection.execute(
            "SELECT state, count(*) FROM ml_connector.webhook_inbox "
            "WHERE state NOT IN ('done', 'ignored') GROUP BY state"
        )
        seen.unsettled = dict(states.fetchall())
    taken = Counter(one.event.customer_id for one in answers if 200 <= one.status < 300)
    seen.miscounted = [
        f"customer {id_}: {count} taken, {stored.get(id_, 0)} stored"
        for id_, count in taken.items()
        if stored.get(id_, 0) != count
    ]
    seen.not_carried = _not_carried(airflow, expected)
    written = Counter(
        (member["email_address"], member["merge_fields"]["FNAME"])
        for call in airflow.writes()
        if call["method"] == "POST" and call["applied"]
        for member in call["body"].get("members", ())
    )
    seen.doubled = [f"{what}: {count}" for what, count in written.items() if count > 1]


def _not_carried(airflow: Airflow, expected: dict[str, str]) -> list[str]:
    shown = {member["merge_fields"]["FNAME"] for member in airflow.members()}
    return [id_ for id_, name in expected.items() if name not in shown]
