"""`ml-connector connect`, as a person does it, against the mock servers' consent pages."""

import json
import re
import time

import pytest
import requests
from sqlalchemy import text

from sandbox.ports import free_port
from tests import forks
from tests.integration.company import REALM, control


@pytest.fixture
def environment(company, airflow_environment):
    """An Airflow with the connections in its environment."""
    base = company.quickbooks
    connection = {
        "conn_type": "quickbooks",
        "host": base,
        "login": "sandbox-client",
        "password": "sandbox-secret",
        "extra": {"realm_id": REALM, "token_url": f"{base}/oauth2/v1/tokens/bearer"},
    }
    return {
        **airflow_environment,
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(connection),
        "AIRFLOW_CONN_ML_CONNECTOR_DB": company.database_url.replace("+psycopg", ""),
    }


@pytest.fixture
def mailchimp(environment, company):
    """The same with a Mailchimp connection that has an app's client id and secret, and no key."""
    connection = {
        "conn_type": "mailchimp",
        "login": "sandbox-client",
        "extra": {
            "client_secret": "sandbox-secret",
            "token_url": f"{company.mailchimp}/oauth2/token",
        },
    }
    add = ["airflow", "connections", "add", "mailchimp_default", "--conn-json"]
    added = forks.run([*add, json.dumps(connection)], env=environment)
    assert added.returncode == 0, added.stderr
    return environment


def connect(environment, *options: str, system: str = "quickbooks") -> forks.Forked:
    command = ["ml-connector", "connect", system, "--no-browser", "--port", str(free_port())]
    return forks.start([*command, *options], env=environment)


def page_of(process: forks.Forked) -> str:
    for line in process.stdout:
        if line.startswith("http"):
            return line.strip()
    pytest.fail("no page was printed")


def wait_for_redemption(company) -> None:
    """Return once a refresh has been sent to the token endpoint and was not answered yet."""
    unfinished = text("SELECT 1 FROM ml_connector.token_intents WHERE finished_at IS NULL")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with company.database.begin() as connection:
            if connection.execute(unfinished).first():
                time.sleep(0.5)
                return
        time.sleep(0.05)
    pytest.fail("no refresh was begun")


def stored_pair(environment) -> dict[str, str]:
    """The pair in the token Variable."""
    variable = "quickbooks_token__quickbooks_default"
    got = forks.run(["airflow", "variables", "get", variable], env=environment)
    assert got.returncode == 0, got.stderr
    return json.loads(got.stdout.strip().splitlines()[-1])


def test_connecting_stores_the_pair_and_names_the_company(environment, company):
    with connect(environment) as process:
        page = page_of(process)
        answer = requests.get(page, timeout=30)  # the mock server says yes and redirects
        assert "QuickBooks is connected" in answer.text
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert f"Connected to the company 'Sandbox Company_US_1' ({REALM})" in output
    code = re.search(r"code=([^&]+)", answer.url)[1]
    assert code not in output
    again = forks.run(["ml-connector", "check"], env=environment)
    assert "ok     main: QuickBooks: connected to the company" in again.stdout


def test_a_refresh_under_way_with_the_former_pair_does_not_undo_the_consent(environment, company):
    seed = {"access_token": "", "refresh_token": "sandbox-refresh-token"}
    seeded = {"AIRFLOW_VAR_QUICKBOOKS_TOKEN__QUICKBOOKS_DEFAULT": json.dumps(seed)}
    with connect(environment) as process:
        page = page_of(process)
        slow = {"rotate": "always", "token_latency_ms": 4000}
        control(company.quickbooks, "PUT", "settings", slow)
        with forks.start(["ml-connector", "check"], env=environment | seeded) as refreshing:
            wait_for_redemption(company)
            control(company.quickbooks, "PUT", "settings", {"token_latency_ms": 0})
            requests.get(page, timeout=30)
            output, _ = process.communicate(timeout=60)
            refreshing.communicate(timeout=60)
    assert process.returncode == 0, output
    former, consented = control(company.quickbooks, "GET", "tokens")["families"]
    assert len(former["replaced"]) == 1
    assert stored_pair(environment)["refresh_token"] == consented["refresh_token"]


def test_without_the_connectors_database_nobody_is_sent_to_intuit(environment):
    del environment["AIRFLOW_CONN_ML_CONNECTOR_DB"]
    with connect(environment, "--wait", "1") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "there is no Airflow connection 'ml_connector_db'" in output
    assert "http" not in output


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


def test_a_no_on_the_consent_page_is_one_plain_sentence(environment, company):
    control(company.quickbooks, "PUT", "settings", {"deny_consent": True})
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
    assert "no consent on Intuit's page" in output


def test_connecting_mailchimp_stores_the_token_and_the_data_centre(mailchimp, company):
    with connect(mailchimp, system="mailchimp") as process:
        answer = requests.get(page_of(process), timeout=30)
        assert "Mailchimp is connected" in answer.text
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "Connected to the account 'Sample Company'" in output
    (token,) = company.mailchimp_control("GET", "tokens")["tokens"]
    assert token not in output
    get = ["airflow", "connections", "get", "mailchimp_default", "-o", "json"]
    stored = json.loads(forks.run(get, env=mailchimp).stdout)[0]
    assert (stored["password"], stored["host"]) == (token, company.mailchimp_api)
    again = forks.run(["ml-connector", "check"], env=mailchimp)
    assert "ok     main: Mailchimp: connected to the account 'Sample Company'" in again.stdout


def test_a_no_on_mailchimps_page_stores_nothing(mailchimp, company):
    company.mailchimp_control("PUT", "settings", {"deny_consent": True})
    with connect(mailchimp, system="mailchimp") as process:
        requests.get(page_of(process), timeout=30)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "access was declined on Mailchimp's page" in output
    assert company.mailchimp_control("GET", "tokens")["tokens"] == []


def test_nobody_is_sent_to_mailchimp_if_the_token_could_not_be_stored(environment):
    connection = {"conn_type": "mailchimp", "login": "id", "extra": {"client_secret": "s"}}
    environment["AIRFLOW_CONN_MAILCHIMP_DEFAULT"] = json.dumps(connection)
    with connect(environment, "--wait", "1", system="mailchimp") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "comes from the environment or a secrets backend" in output
    assert "http" not in output


@pytest.mark.parametrize("place", ["environment", "secrets_backend"])
def test_what_hides_the_stored_connection_takes_no_token(mailchimp, company, tmp_path, place):
    connection = {"conn_type": "mailchimp", "login": "id", "extra": {"client_secret": "s"}}
    if place == "environment":
        mailchimp["AIRFLOW_CONN_MAILCHIMP_DEFAULT"] = json.dumps(connection)
    else:  # the very same as the stored one
        file = tmp_path / "connections.json"
        connection |= {"login": "sandbox-client"}
        connection["extra"] = {
            "client_secret": "sandbox-secret",
            "token_url": f"{company.mailchimp}/oauth2/token",
        }
        file.write_text(json.dumps({"mailchimp_default": connection}))
        backend = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
        mailchimp["AIRFLOW__SECRETS__BACKEND"] = backend
        kwargs = {"connections_file_path": str(file)}
        mailchimp["AIRFLOW__SECRETS__BACKEND_KWARGS"] = json.dumps(kwargs)
    with connect(mailchimp, "--wait", "1", system="mailchimp") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "comes from the environment or a secrets backend" in output
    assert company.mailchimp_control("GET", "tokens")["tokens"] == []


def test_a_copied_keys_blanks_do_no_harm(connected_environment, company):
    key = f"  {company.mailchimp_key}\n"
    connection = {"conn_type": "mailchimp", "host": f" {company.mailchimp_api} ", "password": key}
    connected_environment["AIRFLOW_CONN_MAILCHIMP_DEFAULT"] = json.dumps(connection)
    checked = forks.run(["ml-connector", "check"], env=connected_environment)
    assert "ok     main: Mailchimp: connected to the account" in checked.stdout
