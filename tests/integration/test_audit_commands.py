"""`ml-connector audit`, `audit seal`, `audit verify` and `replay`, as a person types them."""

import json
import subprocess

import pytest

from tests.integration.test_audit_sealed import tamper
from tests.integration.test_register_webhooks import COMMAND, environment

__all__ = ["environment"]  # a fixture

AMY = "amy@finch.org"


@pytest.fixture
def run(company, environment):
    """Runs a command; returns its exit code and what it said."""
    key = "A" * 43 + "="
    quickbooks = json.loads(environment["AIRFLOW_CONN_QUICKBOOKS_DEFAULT"])
    quickbooks["extra"]["token_url"] = f"{company.quickbooks}/oauth2/v1/tokens/bearer"
    keys = {
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(quickbooks),
        "ML_CONNECTOR_ENCRYPTION_KEYS": key,
        "ML_CONNECTOR_INDEX_KEY": key,
        "AIRFLOW_VAR_QUICKBOOKS_TOKEN__QUICKBOOKS_DEFAULT": json.dumps(
            {"refresh_token": "sandbox-refresh-token"}
        ),
    }

    def ran(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [COMMAND, *words],
            env=environment | keys,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return ran


def test_a_failed_row_is_replayed_sealed_and_verified_and_a_fault_is_named(company, run):
    company.mailchimp_control("PUT", "settings", {"throttled": [AMY]})
    company.customer("Amy", AMY)
    company.sync()
    company.mailchimp_control("PUT", "settings", {"throttled": []})
    assert run("replay")[0] == 2
    code, said = run("replay", "--failed", "--dry-run")
    assert (code, "1 main create new_customer parked" in said) == (0, True), said
    assert company.statuses() == {}
    code, said = run("replay", "--failed", "--sync", "main")
    assert (code, "written to Mailchimp: applied 1" in said) == (0, True), said
    assert company.statuses() == {AMY: "subscribed"}
    asked = [entry for entry in company.audit() if entry["action"] == "replay"]
    assert [bool(entry["actor"]) for entry in asked] == [True]
    code, said = run("audit", "verify")
    assert (code, "3 rows are as they were sealed" in said) == (0, True), said
    tamper(company, "UPDATE ml_connector.audit SET outcome = 'failed' WHERE id = 3")
    code, said = run("audit", "verify")
    assert (code, "row 3: edited" in said) == (1, True), said
    code, said = run("audit", "--json")
    assert code == 0
    assert [json.loads(line)["id"] for line in said.splitlines() if line.startswith("{")] == [
        1,
        2,
        3,
    ]
    assert run("audit", "seal")[0] == 0


def test_the_trail_is_filtered_listed_and_a_row_is_shown_with_its_difference(company, run):
    amy = company.customer("Amy", AMY)
    company.customer("Bo", "bo@finch.org")
    company.sync()
    company.edit(amy, GivenName="Amelie")
    company.sync()
    code, said = run("audit", "--action", "update")
    assert code == 0, said
    assert (said.count("(mailchimp)"), "Amelie" in said) == (1, False), said
    code, said = run("audit", "--json", "--email", AMY.upper(), "--limit", "1")
    (line,) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (line["action"], line["customer_id"]) == ("update", amy)
    code, said = run("audit", "show", str(line["id"]))
    assert code == 0, said
    assert "~  merge_fields.FNAME  Amy" in " ".join(said.split(" ")), said
    assert run("audit", "--outcome", "parked")[1].strip().endswith("No row fits.")
    assert run("audit", "show", "99999")[0] == 2
