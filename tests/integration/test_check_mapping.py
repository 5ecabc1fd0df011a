"""`ml-connector check` on custom fields, groups and marketing permissions, as a person gives it."""

import json
from pathlib import Path

import pytest
import yaml

from tests import forks
from tests.integration.company import AUDIENCE, REALM


@pytest.fixture
def environment(company, airflow_environment, tmp_path):
    """An Airflow with connections to the mock servers, and settings that name what is missing."""
    base, url = company.quickbooks, company.database_url.replace("+psycopg", "")
    quickbooks = {
        "conn_type": "quickbooks",
        "host": base,
        "login": "sandbox-client",
        "password": "sandbox-secret",
        "extra": {"realm_id": REALM, "token_url": f"{base}/oauth2/v1/tokens/bearer"},
    }
    mailchimp = {"conn_type": "mailchimp", "password": company.mailchimp_key}
    token = {"access_token": "", "refresh_token": "sandbox-refresh-token"}
    return {
        **airflow_environment,
        "ML_CONNECTOR_SYNCS": str(tmp_path / "syncs.yaml"),
        "AIRFLOW_CONN_QUICKBOOKS_DEFAULT": json.dumps(quickbooks),
        "AIRFLOW_CONN_MAILCHIMP_DEFAULT": json.dumps(mailchimp | {"host": company.mailchimp_api}),
        "AIRFLOW_CONN_ML_CONNECTOR_DB": url,
        "AIRFLOW_VAR_QUICKBOOKS_TOKEN__QUICKBOOKS_DEFAULT": json.dumps(token),
    }


def check(environment, *options, **settings):
    """The lines of the check with these settings, by name."""
    sync = {
        "audience_id": AUDIENCE,
        "new_contact_status": "subscribed",
        "fields": {"FNAME": "GivenName"},
        **settings,
    }
    text = yaml.safe_dump({"syncs": {"main": sync}})
    Path(environment["ML_CONNECTOR_SYNCS"]).write_text(text, encoding="utf-8")
    done = forks.run(["ml-connector", "check", *options], env=environment)
    lines = [line for line in done.stdout.splitlines() if " main: " in line]
    return {line.split(" main: ", 1)[1].partition(": ")[0]: line for line in lines}


def test_what_the_mapping_needs_is_checked_and_a_missing_category_is_added(environment, company):
    amy = {"CustomField": [{"Name": "Region", "StringValue": "North"}]}
    company.customer("Amy", "amy@finch.org", **amy)
    wanted = {"groups": {"Kind": "customer_type"}, "tags": {"from": {"CustomField[Tier]": "t"}}}
    said = check(environment, **wanted)
    assert "no customer in QuickBooks has the custom field 'Tier'" in said["custom fields"]
    assert "group category 'Kind' is missing" in said["groups"]
    assert "the audience has no GDPR fields" in said["marketing permissions"]
    wanted["tags"] = {"from": {"CustomField[region]": "t"}}
    said = check(environment, "--fix", **wanted)
    assert said["custom fields"].startswith("ok")
    assert "Kind are there, with 0 groups" in said["groups"]


@pytest.mark.endurance
def test_gdpr_fields_without_a_setting_are_a_warning_and_a_wrong_permission_fails(
    environment, company
):
    company.mailchimp_control("PUT", "permissions", {"permissions": ["Email"]})
    company.seed("amy@finch.org")
    said = check(environment)["marketing permissions"]
    assert said.startswith("warn")
    assert "marketing_permissions names none" in said
    said = check(environment, marketing_permissions={"Emial": "order form"})
    assert "marketing permission 'Emial' is missing" in said["marketing permissions"]
    said = check(environment, marketing_permissions={"Email": "order form"})
    assert "new contacts get Email" in said["marketing permissions"]
