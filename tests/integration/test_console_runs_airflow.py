"""What Airflow itself says to runs that the console starts: one sentence with what to do."""

import json

import pytest

from tests import forks
from tests.integration.conftest import KEY

DAG = "sync_customers__main"


@pytest.fixture
def told(company, connected_environment) -> dict:
    environment = {
        **connected_environment,
        "ML_CONNECTOR_INDEX_KEY": KEY,
        "ML_CONNECTOR_ENCRYPTION_KEYS": KEY,
        "AIRFLOW_VAR_QUICKBOOKS_TOKEN__QUICKBOOKS_DEFAULT": json.dumps(
            {"refresh_token": "sandbox-refresh-token"}
        ),
    }
    forks.run(["airflow", "dags", "reserialize"], env=environment)
    done = forks.run(["console-runs"], env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_airflow_starts_one_run_and_each_refusal_says_what_to_do(told):
    assert told["paused"] == [
        False,
        f"The DAG {DAG} is paused. Switch it on in Airflow, then try again.",
        f"/dags/{DAG}",
    ]
    assert told["would_refuse"] == told["paused"]
    assert told["would_start"] is None
    assert told["stale"][:2] == [
        False,
        f"Airflow knows no DAG {DAG}. Check the DAG folder and the DAG processor.",
    ]
    assert "does not load" in told["broken"][1]
    assert told["started"][:2] == [True, "The preview has started. It writes nothing."]
    page = told["started"][2]
    assert page.startswith(f"/dags/{DAG}/runs/manual__")
    assert told["queued"] == [
        False,
        "A run is already queued. Wait until it ends, then try again.",
        page,
    ]
    assert told["running"][1].startswith("A run is already under way.")
    assert told["runs"] == [[DAG, "amy", {"preview": True}]]

    assert told["under_way"] == [True, True, [], page]
    assert told["running_tasks"] == [True, False, ["plan"], page]
    assert told["ended"] is None

    assert told["undo"][0] is True
    assert told["undo_again"][:2] == [
        False,
        "A run is already queued. Wait until it ends, then try again.",
    ]
    assert told["undo_another"][0] is True, "another undo waits for its turn"
