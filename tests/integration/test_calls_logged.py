"""No log line of a run holds a secret or anything personal, whatever goes wrong in it."""

import base64
import logging
from urllib.parse import quote_plus

import pytest
import structlog

from ml_connector.errors import ConnectorError
from tests.integration.test_store_safety import SAMPLE, personal_data

DROP = {"kind": "drop", "when": "after"}
ECHO = {
    "kind": "status",
    "status": 401,
    "body": {"fault": {"error": [{"code": "3200", "detail": "Token=eyJ0b2tlbg"}], "type": "AUTHENTICATION"}},
}  # fmt: skip
TROUBLES = {
    "none": ("mailchimp", {}, {"kind": "status", "status": 500}, [99]),
    "401 that echoes the token": ("quickbooks", {"path": "/query$"}, ECHO, None),
    "throttled": ("quickbooks", {}, {"kind": "status", "status": 429}, None),
    "blocked": ("mailchimp", {}, {"kind": "html", "status": 403}, None),
    "answers lost": ("mailchimp", {"method": "POST"}, DROP, None),
    "rows refused": (
        "mailchimp",
        {"method": "POST"},
        {
            "kind": "status",
            "status": 400,
            "body": {"title": "Invalid Resource", "detail": "cool_cars@intuit.com looks wrong"},
        },
        [1, 2, 3],
    ),
}


@pytest.mark.parametrize(("system", "match", "action", "nth"), TROUBLES.values(), ids=TROUBLES)
def test_logs_hold_ids_and_counts_only(company, caplog, capsys, system, match, action, nth):
    caplog.set_level(logging.DEBUG)
    company.client_secret = "sandbox-secret"
    company.quickbooks_control("POST", "company", SAMPLE)
    company.fault(system, match=match, action=action, nth=nth)
    secrets = [company.mailchimp_key, company.client_secret, "sandbox-refresh-token"]
    with structlog.testing.capture_logs() as lines:
        try:
            company.sync()
        except ConnectorError as error:
            structlog.get_logger().error("run_failed", reason=str(error), cause=repr(error))
    secrets.append(company.tokens.pair.access_token)
    encoded = [base64.b64encode(f"{user}:{secret}".encode()).decode()
               for user, secret in (("sandbox-client", company.client_secret), ("ml-connector", company.mailchimp_key))]  # fmt: skip
    told = "\n".join([*map(str, lines), caplog.text, *capsys.readouterr()]).lower()
    assert len(told) > 500, "there is something to look at"
    hidden = {*secrets, *map(quote_plus, secrets), *encoded, "eyJ0b2tlbg"}
    assert [secret for secret in hidden if secret.lower() in told] == []
    assert [word for word in personal_data(company) if word in told] == []
