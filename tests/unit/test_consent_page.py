"""A redirect of the OAuth code flow is believed only if it brings our state back."""

import pytest

from ml_connector.wire.consent import ConsentPage

PAGE = ConsentPage(
    system="QuickBooks", owner="Intuit", url="https://example.com", loopback="localhost"
)
CODE = {"code": "C0de"}


@pytest.mark.parametrize("given", [{}, {"state": ""}, {"state": "guessed"}, {"state": "our-stat"}])
def test_a_redirect_without_our_state_is_none_of_ours(given):
    assert PAGE.read(CODE | given, state="our-state") is None


def test_no_redirect_is_ours_where_no_state_was_made():
    assert PAGE.read(CODE | {"state": ""}, state="") is None


def test_a_redirect_with_our_state_brings_the_code():
    consent = PAGE.read(CODE | {"state": "our-state"}, state="our-state")
    assert consent is not None
    assert consent.code == "C0de"
