"""Metrics arrive at a StatsD under the names of docs/reference/metrics.md; a task's log ends with counts."""

import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from local.postgres import temporary
from ml_connector.errors import RateLimited
from ml_connector.store.database import Database
from ml_connector.store.migrate import upgrade

LISTED = (Path(__file__).resolve().parents[2] / "docs/reference/metrics.md").read_text()


@pytest.fixture
def statsd(monkeypatch):
    """What a StatsD hears, a list of lines at each call."""
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics import stats_utils

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.3)
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(server.getsockname()[1]))
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)

        def heard() -> list[str]:
            lines = []
            while True:
                try:
                    lines += server.recv(65536).decode().splitlines()
                except TimeoutError:
                    return lines

        yield heard
    monkeypatch.undo()
    stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)


@pytest.fixture(scope="module")
def database():
    with temporary() as postgres:
        postgres.create_database("metrics")
        upgrade(postgres.url("metrics"))
        database = Database(postgres.url("metrics"))
        with database.begin() as connection:
            connection.execute(
                text("""INSERT INTO ml_connector.webhook_inbox
                            (system, source, kind, dedupe_key, payload, state, received_at, settled_at)
                        SELECT 'quickbooks', 'r', 'k', state, '', state,
                               clock_timestamp() - interval '9 seconds',
                               CASE WHEN state = 'done' THEN clock_timestamp() END
                        FROM unnest(ARRAY['pending', 'dead', 'done']) AS state""")
            )
        yield database
        database.close()


def test_every_metric_is_heard_under_a_name_that_the_docs_list(statsd, database):
    from ml_connector_airflow import metrics

    metrics.calls("main", {"quickbooks.query": 3})
    metrics.writes("main", "mailchimp", {"applied": 2, "failed": 0})
    metrics.plan_size("main", 5)
    metrics.token("quickbooks_default", "renewed")
    metrics.retries("mailchimp", lambda *_: None)(RateLimited("429"), 1, 0.5)
    metrics.inbox(database, {"done": 1}, since=datetime.now(UTC) - timedelta(minutes=1))
    heard = dict(line.split(":", 1) for line in statsd())
    exact = {
        "airflow.ml_connector.calls.quickbooks.query": "3|c",
        "airflow.ml_connector.writes.mailchimp.applied": "2|c",
        "airflow.ml_connector.plan.changes": "5|g",
        "airflow.ml_connector.tokens.renewed": "1|c",
        "airflow.ml_connector.retries.mailchimp.rate_limited": "1|c",
        "airflow.ml_connector.webhooks.done": "1|c",
        "airflow.ml_connector.inbox.depth": "1|g",
        "airflow.ml_connector.inbox.dead": "1|g",
    }
    measured = {
        "airflow.ml_connector.webhooks.latency": 9000.0,
        "airflow.ml_connector.inbox.age_seconds": 9.0,
    }
    assert heard.keys() == exact.keys() | measured.keys()
    assert {name: heard[name] for name in exact} == exact
    for name, least in measured.items():
        assert least <= float(heard[name].split("|")[0]) < 4 * least
    patterns = [
        re.sub(r"<\\?\w+>", r"[a-z_]+", re.escape(name).replace("\\<", "<").replace("\\>", ">"))
        for name in re.findall(r"`(ml_connector\.[^`]+)`", LISTED)
    ]
    for name in heard:
        plain = name.removeprefix("airflow.")
        assert any(re.fullmatch(pattern, plain) for pattern in patterns), f"list {plain}"


def test_without_a_listener_the_database_is_not_asked():
    from ml_connector_airflow import metrics

    metrics.inbox(None, {}, since=datetime.now(UTC))
    assert not metrics.on()


@pytest.mark.parametrize(
    ("expected", "result"),
    [
        ({"applied": 4, "failed": 1}, {"applied": 4, "failed": 1}),
        ({"results": 2}, [0, 1]),
        ({"result": 7}, 7),
        ({}, None),
        (
            {"plan_id": 3, "changes": 1, "calls.a": 2},
            {"plan_id": 3, "changes": [1], "calls": {"a": 2}},
        ),
        ({}, {"name": "ada@example.com"}),
        ({}, "ada@example.com"),
    ],
)
def test_a_tasks_log_ends_with_one_line_of_counts_and_no_texts(expected, result):
    from ml_connector_airflow.summary import fields

    instance = SimpleNamespace(dag_id="d", task_id="t", map_index=-1)
    assert fields(instance, result) == {"dag": "d", "task": "t", **expected}


def test_the_log_of_a_try_that_failed_ends_with_a_line_that_names_the_kind_of_error():
    from ml_connector_airflow.summary import fields_of_failure

    instance = SimpleNamespace(dag_id="d", task_id="t", map_index=2, try_number=1)
    expected = {"dag": "d", "task": "t", "map_index": 2, "failed_try": 1, "error": "RateLimited"}
    assert fields_of_failure(instance, RateLimited("ada@example.com: 429")) == expected


def test_every_task_of_every_dag_sums_up(bag):
    from ml_connector_airflow.alerts.callbacks import task_failed
    from ml_connector_airflow.summary import summarise, summarise_failure

    assert not bag.import_errors
    for dag in bag.dags.values():
        assert dag.default_args["post_execute"] is summarise, f"{dag.dag_id}: use DEFAULT_ARGS"
        # The alert first: the summary is the last line.
        assert dag.default_args["on_failure_callback"] == [task_failed, summarise_failure]
        assert dag.default_args["on_retry_callback"] is summarise_failure
