"""One task refreshes a group of connections: a failed one is named and holds up no other one."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from ml_connector.errors import CredentialsError, NeedsReauth, RetryLater, StopRun, Unavailable
from tests import forks
from tests.integration.company import AUDIENCE

SYNC = f"{{audience_id: {AUDIENCE}, new_contact_status: pending, fields: {{FNAME: GivenName}}"


@pytest.fixture
def connected(company, connected_environment, tmp_path):
    """Three companies; the grant of the second has ended."""
    settings = tmp_path / "three.yaml"
    syncs = (f"  {name}: {SYNC}, quickbooks_conn_id: qb_{name}}}\n" for name in "abc")
    settings.write_text("syncs:\n" + "".join(syncs))
    connection = json.loads(connected_environment["AIRFLOW_CONN_QUICKBOOKS_DEFAULT"])
    connection["extra"]["token_url"] = f"{company.quickbooks}/oauth2/v1/tokens/bearer"
    environment = {**connected_environment, "ML_CONNECTOR_SYNCS": str(settings)}
    for name in "abc":
        token = "ended-long-ago" if name == "b" else "sandbox-refresh-token"
        environment[f"AIRFLOW_CONN_QB_{name.upper()}"] = json.dumps(connection)
        seed = f"AIRFLOW_VAR_QUICKBOOKS_TOKEN__QB_{name.upper()}"
        environment[seed] = json.dumps({"refresh_token": token})
    return environment


@pytest.mark.endurance
def test_an_ended_grant_stops_no_other_connection_of_its_group(company, connected, airflow_home):
    forks.run(["airflow", "dags", "reserialize"], env=connected)
    done = forks.run(["airflow", "dags", "test", "refresh_quickbooks_tokens"], env=connected)
    said = done.stdout + done.stderr
    assert "NeedsReauth: qb_b: QuickBooks no longer accepts the refresh token" in said
    with closing(sqlite3.connect(airflow_home / "airflow.db")) as airflow:
        stored = airflow.execute("SELECT key FROM variable ORDER BY key").fetchall()
    assert stored == [("quickbooks_token__qb_a",), ("quickbooks_token__qb_c",)]
    with company.database.begin() as connection:
        raised = connection.execute(
            text("SELECT cause FROM ml_connector.alerts WHERE ended_at IS NULL")
        )
        assert "needs_reauth:qb_b" in set(raised.scalars())
    assert "sandbox-refresh-token" not in said
    assert "ended-long-ago" not in said


ENDED = NeedsReauth("QuickBooks no longer accepts the refresh token")
WRONG = CredentialsError("QuickBooks: client id or client secret is wrong")
AWAY = Unavailable("QuickBooks' token endpoint is out of order")


@pytest.mark.parametrize(
    ("failed", "kind", "message"),
    [
        ({"qb_b": ENDED}, NeedsReauth, f"qb_b: {ENDED}"),
        ({"qb_b": AWAY}, RetryLater, f"qb_b: {AWAY}"),
        ({"qb_a": ENDED, "qb_b": ENDED}, NeedsReauth, "2 of 25 connections were not refreshed"),
        ({"qb_a": ENDED, "qb_b": WRONG}, StopRun, "not refreshed: qb_a, qb_b."),
        ({"qb_a": ENDED, "qb_b": AWAY}, RetryLater, "not refreshed: qb_a, qb_b."),
    ],
)
def test_the_error_of_a_group_names_the_connections_and_is_retried_if_one_may_work_later(
    failed, kind, message
):
    from ml_connector_airflow.tasks.tokens import group_error

    error = group_error(failed, 25)
    assert type(error) is kind
    assert message in str(error)


def connected_to(number: int, tmp_path, monkeypatch) -> None:
    settings = tmp_path / "many.yaml"
    syncs = (f"  s{n:03}: {SYNC}, quickbooks_conn_id: qb_{n:03}}}\n" for n in range(number))
    settings.write_text("syncs:\n" + "".join(syncs))
    monkeypatch.setenv("ML_CONNECTOR_SYNCS", str(settings))


@pytest.mark.parametrize(("number", "tasks", "most"), [(1, 1, 1), (25, 1, 25), (60, 1, 25)])
def test_every_connection_is_refreshed_within_seven_runs(
    number, tasks, most, tmp_path, monkeypatch
):
    from ml_connector_airflow.tasks import tokens

    connected_to(number, tmp_path, monkeypatch)
    groups = tokens.connection_groups()
    assert len(groups) == tasks
    start = datetime(2026, 11, 30, tzinfo=UTC)
    runs = [[tokens.due(ids, start + n * tokens.EVERY) for ids in groups] for n in range(7)]
    assert max(len(ids) for run in runs for ids in run) == most
    refreshed = {conn_id for run in runs for ids in run for conn_id in ids}
    assert refreshed == {f"qb_{n:03}" for n in range(number)}


def test_ten_thousand_connections_are_58_tasks_a_run_and_all_are_refreshed_within_seven(
    monkeypatch,
):
    from ml_connector_airflow.tasks import tokens

    names = [f"qb_{n:05}" for n in range(10_000)]
    monkeypatch.setattr(tokens, "quickbooks_connections", lambda: names)
    groups = tokens.connection_groups()
    start = datetime(2026, 11, 30, tzinfo=UTC)
    runs = [[tokens.due(ids, start + n * tokens.EVERY) for ids in groups] for n in range(7)]
    assert {len(run) for run in runs} == {58}
    assert sorted({conn_id for run in runs for ids in run for conn_id in ids}) == names
    assert tokens.due(names, None) == names, "a run that somebody triggered refreshes all"


def test_the_report_shows_the_tokens_that_end_first_and_a_bounded_number_of_them():
    from ml_connector_airflow.tasks import tokens

    def one(number: int) -> dict[str, str]:
        ends = datetime(2027, 1 + number % 12, 1, tzinfo=UTC).isoformat()
        return {"conn_id": f"qb_{number}", "refresh_token_ends": ends}

    told = tokens.report([[one(n) for n in range(g, g + 25)] for g in range(0, 250, 25)])
    assert len(told) == tokens.GROUP
    assert {each["refresh_token_ends"][:7] for each in told} <= {"2027-01", "2027-02"}
