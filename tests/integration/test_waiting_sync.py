"""A sync whose accounts nobody has connected yet: it waits, and nothing fails."""

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import text

from ml_connector.settings import NO_AUDIENCE
from ml_connector_airflow.waiting import NO_CHOICE
from tests import forks
from tests.integration.company import AUDIENCE, control


@pytest.fixture
def unconnected(company, connected_environment):
    """Connections with the apps' keys only, as `make run` makes them without tokens."""
    quickbooks = json.loads(connected_environment["AIRFLOW_CONN_QUICKBOOKS_DEFAULT"])
    quickbooks["extra"] = {"token_url": f"{company.quickbooks}/oauth2/v1/tokens/bearer"}
    mailchimp = {
        "conn_type": "mailchimp",
        "login": "sandbox-client",
        "extra": {"client_secret": "sandbox-secret"},
    }
    return {
        **connected_environment,
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(quickbooks),
        "AIRFLOW_CONN_MAILCHIMP_DEFAULT": json.dumps(mailchimp),
    }


def count(company, table: str) -> int:
    with company.database.begin() as connection:
        query = f"SELECT count(*) FROM ml_connector.{table}"
        return connection.execute(text(query)).scalar_one()


@pytest.mark.parametrize("dag_id", ["sync_customers__main", "refresh_quickbooks_tokens"])
def test_a_run_before_the_accounts_are_connected_fails_nowhere_and_leaves_nothing(
    company, unconnected, dag_id
):
    forks.run(["airflow", "dags", "reserialize"], env=unconnected)
    done = forks.run(["airflow", "dags", "test", dag_id], env=unconnected)
    said = done.stdout + done.stderr
    assert "state=success" in said, said
    assert "failed" not in said.lower().replace("failed=0", ""), said
    assert (count(company, "plans"), count(company, "alerts")) == (0, 0), said
    assert control(company.quickbooks, "GET", "journal")["calls"] == []


def test_the_command_says_what_a_sync_waits_for(unconnected):
    done = forks.run(["ml-connector", "sync"], env=unconnected)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2
    assert "main waits: QuickBooks and Mailchimp are not connected yet" in said


def test_a_sync_without_an_audience_waits_too(company, run, connected_environment):
    file = Path(connected_environment["ML_CONNECTOR_SYNCS"])
    unchosen = file.read_text().replace(AUDIENCE, NO_AUDIENCE)
    file.write_text(re.sub("# new_contact_status: *", "new_contact_status: pending", unchosen))
    company.customer("Amy", "amy@finch.org")
    code, said = run("sync")
    assert code == 2
    assert f"main waits: {NO_CHOICE}" in " ".join(said.split()), said
    assert company.statuses() == {}


def test_check_names_the_command_for_each_account(unconnected):
    said = forks.run(["ml-connector", "check"], env=unconnected).stdout
    assert "FAILED main: Mailchimp: Mailchimp is not connected" in said
    assert "run `ml-connector connect mailchimp`" in said


def test_a_sync_that_has_run_before_does_not_wait_in_silence(company, unconnected):
    with company.database.begin() as connection:
        connection.execute(
            text("""INSERT INTO ml_connector.plans (sync, run_id, kind, state, finished_at)
                    VALUES ('main', 'r', 'sync', 'finished', now())""")
        )
    done = forks.run(["ml-connector", "sync"], env=unconnected)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1
    assert "is not connected" in said
