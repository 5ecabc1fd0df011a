"""The OAuth half of the QuickBooks mock server, driven by Intuit's own client (intuit-oauth)."""

import concurrent.futures
from urllib.parse import parse_qs, urlparse

import pytest
import requests
from intuitlib.client import AuthClient
from intuitlib.enums import Scopes
from intuitlib.exceptions import AuthClientError

REDIRECT = "http://localhost:8000/callback"


@pytest.fixture
def auth(quickbooks):
    return AuthClient("sandbox-client", "sandbox-secret", REDIRECT, quickbooks.discovery_url)


def consent(auth):
    url = auth.get_authorization_url([Scopes.ACCOUNTING], state_token="state-1")
    answer = requests.get(url, allow_redirects=False, timeout=10)
    return {k: v[0] for k, v in parse_qs(urlparse(answer.headers["Location"]).query).items()}


def test_consent_brings_code_state_and_realm_and_the_code_brings_tokens(auth, quickbooks):
    answer = consent(auth)
    assert (answer["state"], answer["realmId"]) == ("state-1", "9341450000000001")
    auth.get_bearer_token(answer["code"], realm_id=answer["realmId"])
    assert auth.expires_in == 3600
    quickbooks.session.headers["Authorization"] = f"Bearer {auth.access_token}"
    assert quickbooks.get("customer/1").status_code == 200


def test_a_code_used_twice_is_refused_and_takes_its_tokens_with_it(auth):
    code = consent(auth)["code"]
    auth.get_bearer_token(code)
    with pytest.raises(AuthClientError):
        auth.get_bearer_token(code)
    with pytest.raises(AuthClientError):
        auth.refresh()


def test_refused_consent_comes_back_as_an_error(auth, quickbooks):
    quickbooks.control.put("settings", deny_consent=True)
    assert consent(auth) == {"state": "state-1", "error": "access_denied"}


def test_within_a_day_the_same_refresh_token_comes_back(auth):
    auth.refresh(refresh_token="sandbox-refresh-token")
    assert auth.refresh_token == "sandbox-refresh-token"
    assert 8726000 < auth.x_refresh_token_expires_in <= 8726400


def test_after_a_day_the_refresh_token_rotates_and_the_old_one_is_dead(auth, quickbooks):
    quickbooks.control.put("clock", offset_seconds=86401)
    auth.refresh(refresh_token="sandbox-refresh-token")
    assert auth.refresh_token != "sandbox-refresh-token"
    with pytest.raises(AuthClientError) as caught:
        auth.refresh(refresh_token="sandbox-refresh-token")
    assert caught.value.status_code == 400
    assert b"invalid_grant" in caught.value.content
    auth.refresh()


def test_within_the_grace_the_previous_refresh_token_still_works(auth, quickbooks):
    quickbooks.control.put("settings", rotate="always", grace_seconds=60)
    auth.refresh(refresh_token="sandbox-refresh-token")
    quickbooks.control.put("settings", rotate="daily")
    newest = auth.refresh_token
    auth.refresh(refresh_token="sandbox-refresh-token")
    assert auth.refresh_token == newest


def test_reuse_of_a_replaced_token_revokes_everything_when_so_set(auth, quickbooks):
    quickbooks.control.put("settings", rotate="always", reuse_revokes_family=True)
    auth.refresh(refresh_token="sandbox-refresh-token")
    with pytest.raises(AuthClientError):
        auth.refresh(refresh_token="sandbox-refresh-token")
    with pytest.raises(AuthClientError):
        auth.refresh()


def test_two_refreshes_at_once_revoke_the_connection_when_so_set(quickbooks):
    quickbooks.control.put("settings", revoke_on_concurrent=True, token_latency_ms=100)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: quickbooks.refresh().status_code, range(2)))
    assert answers == [400, 400]
    assert quickbooks.refresh().status_code == 400


@pytest.mark.parametrize("which", ["refresh_token", "access_token"])
def test_revoking_either_token_ends_the_connection(auth, quickbooks, which):
    auth.refresh(refresh_token="sandbox-refresh-token")
    assert auth.revoke(getattr(auth, which))
    with pytest.raises(AuthClientError):
        auth.refresh()
    assert quickbooks.get("customer/1").status_code == 401


def test_a_wrong_secret_is_an_invalid_client(quickbooks):
    auth = AuthClient("sandbox-client", "wrong", REDIRECT, quickbooks.discovery_url)
    with pytest.raises(AuthClientError) as caught:
        auth.refresh(refresh_token="sandbox-refresh-token")
    assert (caught.value.status_code, caught.value.content) == (401, b'{"error":"invalid_client"}')


def test_the_hard_expiry_is_told_only_to_who_asks(quickbooks):
    assert "x_refresh_token_hard_expires_in" not in quickbooks.refresh().json()
    asked = quickbooks.refresh(**{"x-include-refresh-token-hard-expires-in": "true"}).json()
    assert asked["x_refresh_token_hard_expires_in"] > 8726400


def test_an_access_token_dies_after_an_hour(quickbooks):
    assert quickbooks.get("customer/1").status_code == 200
    quickbooks.control.put("clock", offset_seconds=3601)
    assert quickbooks.get("customer/1").status_code == 401


def test_after_a_hundred_and_one_idle_days_the_refresh_token_is_dead(quickbooks):
    quickbooks.control.put("clock", offset_seconds=8726401)
    assert quickbooks.refresh().json()["error"] == "invalid_grant"
