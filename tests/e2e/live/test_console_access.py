"""Every route of the mounted apps, asked by anonymous, viewer, user and admin of a real Airflow."""

import pytest
import requests

from ml_connector.console.access import PREFIX, Right
from ml_connector.console.api.app import API_PREFIX
from ml_connector.console.api.endpoints import ENDPOINTS
from ml_connector.console.app import PAGES

EXAMPLES = {"{id:row}": "1", "{id}": "1", "{key}": "00", "{system}": "quickbooks"}
ROLES = ("anonymous", "viewer", "user", "admin")
MAY = {
    Right.READ: {"viewer", "user", "op", "admin"},
    Right.RUN: {"user", "op", "admin"},
    Right.SETUP: {"op", "admin"},
    Right.CONNECT: {"op", "admin"},
}
OURS = {"X-Console": "1", "Sec-Fetch-Site": "same-origin"}
NO_ROW = "999999999"  # to whoever may act, so that the other tests find the machine as it was
# Needs no row to start something; that it does is shown in the browser.
STARTS = {"/audit/replay", "/run", "/customers/retry/start"}


@pytest.mark.parametrize("role", ROLES)
def test_every_page_of_the_console_asks_airflow_who_may(airflow, role):
    for page in PAGES:
        path = f"{PREFIX}/main{page.path}"
        if page.method == "POST":
            path = path.replace("{id:row}", NO_ROW)
        for name, value in EXAMPLES.items():
            path = path.replace(name, value)
        if role in MAY[page.right] and page.path in STARTS:
            continue
        answer = asked(airflow, role, page.method, path)
        if role == "anonymous":
            assert answer.status_code == 401, path
        elif role in MAY[page.right]:
            assert answer.status_code not in (401, 403, 405, 500, 503), (path, answer.text)
        else:
            assert answer.status_code == 403, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("role", ROLES)
def test_the_json_interface_asks_airflow_who_may(airflow, role):
    for name in ("openapi.json", *(each.name for each in ENDPOINTS)):
        answer = asked(airflow, role, "GET", f"{API_PREFIX}/v1/{name}", headers={})
        expected = 401 if role == "anonymous" else 200
        assert (answer.status_code, answer.headers["content-type"]) == (
            expected,
            "application/json",
        )


@pytest.mark.parametrize("path", ["/", "/static/console.css", "/static/vendor/htmx-2.0.11.min.js"])
def test_what_is_no_page_of_the_console_needs_a_login_too(airflow, path):
    assert asked(airflow, "anonymous", "GET", f"{PREFIX}{path}").status_code == 401
    assert asked(airflow, "viewer", "GET", f"{PREFIX}{path}").status_code in (200, 303)


@pytest.mark.parametrize("role", ROLES)
def test_a_forged_request_changes_nothing_whoever_it_pretends_to_be(airflow, role):
    for headers in ({}, {"Sec-Fetch-Site": "cross-site", "X-Console": "1"}):
        path = f"{PREFIX}/main/webhooks/retry"
        answer = asked(airflow, role, "POST", path, headers=headers)
        assert answer.status_code == (401 if role == "anonymous" else 403)


@pytest.mark.parametrize("role", ROLES)
def test_the_receiver_asks_for_a_proof_and_for_no_login(airflow, role):
    """Its routes are these two; everything else under its prefix is nothing."""
    base = "/ml-connector/webhooks"
    for path in (f"{base}/quickbooks", f"{base}/mailchimp/main"):
        assert asked(airflow, role, "POST", path, body=b"type=subscribe").status_code == 401
    for path in ("/", "/docs", "/openapi.json", "/other", "/quickbooks/more"):
        assert asked(airflow, role, "GET", f"{base}{path}").status_code in (404, 405), path


def asked(
    airflow, role: str, method: str, path: str, *, headers=None, body=b""
) -> requests.Response:
    sent = dict(OURS if headers is None else headers)
    if role != "anonymous":
        sent["Authorization"] = f"Bearer {airflow.token_of(role)}"
    return requests.request(
        method, f"{airflow.url}{path}", headers=sent, data=body, timeout=60, allow_redirects=False
    )
