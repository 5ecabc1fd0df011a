"""The OAuth half of the Mailchimp mock server, driven by plain requests as its guide shows."""

from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from sandbox.mailchimp.app import create_app
from tests.contract.conftest import CLIENT, Control

REDIRECT = "http://127.0.0.1:8000/callback"


@pytest.fixture
def mailchimp(serve):
    return serve(create_app())


def consent(mailchimp, redirect_uri=REDIRECT):
    asked = {
        "response_type": "code",
        "client_id": CLIENT[0],
        "redirect_uri": redirect_uri,
        "state": "state-1",
    }
    page = f"{mailchimp}/oauth2/authorize"
    return requests.get(page, params=asked, allow_redirects=False, timeout=10)


def code_of(mailchimp):
    return dict(parse_qsl(urlsplit(consent(mailchimp).headers["Location"]).query))["code"]


def token_for(mailchimp, code, redirect_uri=REDIRECT, secret=CLIENT[1]):
    form = {
        "grant_type": "authorization_code",
        "client_id": CLIENT[0],
        "client_secret": secret,
        "redirect_uri": redirect_uri,
        "code": code,
    }
    return requests.post(f"{mailchimp}/oauth2/token", data=form, timeout=10)


def root(mailchimp, scheme, token):
    headers = {"Authorization": f"{scheme} {token}"}
    return requests.get(f"{mailchimp}/3.0/", headers=headers, timeout=10).status_code


def test_a_code_brings_a_token_without_an_end_that_the_api_accepts_as_a_bearer(mailchimp):
    answer = token_for(mailchimp, code_of(mailchimp)).json()
    assert answer["expires_in"] == 0
    assert "refresh_token" not in answer
    token = answer["access_token"]
    assert root(mailchimp, "Bearer", token) == 200
    headers = {"Authorization": f"OAuth {token}"}
    found = requests.get(f"{mailchimp}/oauth2/metadata", headers=headers, timeout=10).json()
    assert (found["dc"], found["api_endpoint"]) == ("us99", mailchimp)


def test_a_code_works_once_and_for_its_redirect_address_only(mailchimp):
    code = code_of(mailchimp)
    assert token_for(mailchimp, code).status_code == 200
    assert token_for(mailchimp, code).json() == {"error": "invalid_grant"}
    other = token_for(mailchimp, code_of(mailchimp), redirect_uri="http://127.0.0.1:1/callback")
    assert other.json() == {"error": "invalid_grant"}


def test_localhost_is_no_redirect_address(mailchimp):
    assert consent(mailchimp, "http://localhost:8000/callback").status_code == 400


def test_a_wrong_client_secret_is_refused(mailchimp):
    assert token_for(mailchimp, code_of(mailchimp), secret="guessed").status_code == 401


def test_a_token_taken_back_is_refused(mailchimp):
    token = token_for(mailchimp, code_of(mailchimp)).json()["access_token"]
    Control(mailchimp).post("tokens/revoke")
    assert root(mailchimp, "Bearer", token) == 401
