"""`ml-connector connect quickbooks`, as a person does it, against the stand-in's consent page."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from local.postgres import free_port
from tests.integration.firm import REALM, control

COMMAND = Path(sys.prefix) / "bin" / "ml-connector"


@pytest.fixture
def environment(firm, airflow_home, tmp_path):
    """An Airflow with the connections in its environment."""
    base = firm.quickbooks
    connection = {
        "conn_type": "quickbooks",
        "host": base,
        "login": "sandbox-client",
        "password": "sandbox-secret",
        "extra": {"realm_id": REALM, "token_url": f"{base}/oauth2/v1/tokens/bearer"},
    }
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "ML_CONNECTOR_HOME": str(tmp_path / "state"),
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(connection),
        "AIRFLOW_CONN_ML_CONNECTOR_DB": firm.database_url.replace("+psycopg", ""),
        "PYTHONUNBUFFERED": "1",
    }


def connect(environment, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, "connect", "quickbooks", "--no-browser", "--port", str(free_port()), *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def page_of(process: subprocess.Popen[str]) -> str:
    for line in process.stdout:
        if line.startswith("http"):
            return line.strip()
    pytest.fail("no page was printed")


def test_connecting_stores_the_pair_and_names_the_company(environment, firm):
    with connect(environment) as process:
        page = page_of(process)
        answer = requests.get(page, timeout=30)  # the stand-in says yes and redirects
        assert "QuickBooks is connected" in answer.text
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert f"Connected to the company 'Sandbox Company_US_1' ({REALM})" in output
    code = re.search(r"code=([^&]+)", answer.url)[1]
    assert code not in output
    again = subprocess.run(
        [COMMAND, "check"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "ok     main: QuickBooks: connected to the company" in again.stdout


def test_a_redirect_with_another_state_is_refused_and_the_wait_goes_on(environment):
    with connect(environment) as process:
        page = page_of(process)
        redirect = re.search(r"redirect_uri=([^&]+)", page)[1]
        forged = requests.utils.unquote(redirect).replace("localhost", "127.0.0.1")
        answer = requests.get(
            forged, params={"code": "x", "realmId": "1", "state": "guessed"}, timeout=30
        )
        assert answer.status_code == 400
        assert requests.get(page, timeout=30).status_code == 200
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_no_on_the_consent_page_is_one_plain_sentence(environment, firm):
    control(firm.quickbooks, "PUT", "settings", {"deny_consent": True})
    with connect(environment) as process:
        requests.get(page_of(process), timeout=30)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "access was declined on Intuit's page" in output
    assert "Traceback" not in output


def test_a_page_that_nobody_finishes_ends_the_wait(environment):
    with connect(environment, "--wait", "1") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "nobody finished Intuit's page" in output
