"""One sync of several has a connection that is not there: the others' webhooks go on."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.integration.test_forget_commands import KEY
from tests.integration.test_register_webhooks import COMMAND, environment

__all__ = ["environment"]  # a fixture

AMY = "amy@finch.org"


@pytest.fixture
def process(company, environment):
    """Works the inbox off as a person types it, with a second sync whose connection is missing."""
    settings = Path(environment["ML_CONNECTOR_SYNCS"])
    said = yaml.safe_load(settings.read_text())
    broken = {"audience_id": "b2c3d4e5f6", "quickbooks_conn_id": "quickbooks_gone"}
    said["syncs"] = {"broken": said["syncs"]["main"] | broken, **said["syncs"]}
    settings.write_text(yaml.safe_dump(said, sort_keys=False))
    quickbooks = json.loads(environment["AIRFLOW_CONN_QUICKBOOKS_DEFAULT"])
    quickbooks["extra"]["token_url"] = f"{company.quickbooks}/oauth2/v1/tokens/bearer"
    variables = {
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(quickbooks),
        "ML_CONNECTOR_INDEX_KEY": KEY,
        "ML_CONNECTOR_ENCRYPTION_KEYS": KEY,
        "AIRFLOW_VAR_QUICKBOOKS_TOKEN__QUICKBOOKS_DEFAULT": json.dumps(
            {"refresh_token": "sandbox-refresh-token"}
        ),
    }

    def processed() -> tuple[int, str]:
        done = subprocess.run(
            [COMMAND, "process-webhooks"],
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return processed


def test_a_sync_whose_connection_is_missing_holds_up_no_other_and_loses_nothing(company, process):
    amy = company.customer("Amy", AMY)
    company.told_by_quickbooks(("created", amy))
    realm, company.realm = company.realm, "9341450000000009"
    company.told_by_quickbooks(("created", "1"))  # the company of the broken sync, or of none
    company.realm = realm
    code, said = process()
    assert (code, "'quickbooks_gone'" in said) == (2, True), said
    assert company.statuses() == {AMY: "subscribed"}
    assert company.inbox() == {"done": 1, "pending": 1}
