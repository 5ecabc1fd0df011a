"""Mailchimp's authorization server, as its responses mean it."""

import json

import pytest

from ml_connector.errors import CredentialsError, RateLimited, SettingsError, Unavailable
from ml_connector.mailchimp.authorize import PAGE, AuthorizationServer, Endpoints
from ml_connector.mailchimp.protocol import auth_headers
from ml_connector.wire.transport import Response

HERE = "http://127.0.0.1:8080/back"
TOKEN = {"access_token": "f" * 32, "expires_in": 0, "scope": None}


class Answers:
    """A transport that gives these answers in turn and keeps what was asked."""

    def __init__(self, *answers) -> None:
        self.answers, self.asked = list(answers), []

    def send(self, request):
        self.asked.append(request)
        status, body = self.answers.pop(0)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Response(status=status, headers={}, body=raw)


def exchange(*answers, extra=None):
    transport = Answers(*answers)
    server = AuthorizationServer(transport, Endpoints.of(extra or {}), "id", "s3cret")
    return server.exchange("c0de", HERE), transport


def test_a_code_gives_the_token_and_the_api_of_the_accounts_data_centre():
    grant, transport = exchange((200, TOKEN), (200, {"dc": "us19"}))
    assert grant.base_url == "https://us19.api.mailchimp.com/3.0"
    assert auth_headers(grant.access_token) == {"Authorization": f"Bearer {'f' * 32}"}
    token, metadata = transport.asked
    assert token.url == "https://login.mailchimp.com/oauth2/token"
    assert metadata.headers["Authorization"] == f"OAuth {'f' * 32}"
    assert "f" * 32 not in repr(grant)


def test_the_token_goes_to_no_host_that_the_answer_made_up():
    grant, _ = exchange((200, TOKEN), (200, {"dc": "us1", "api_endpoint": "https://elsewhere.org"}))
    assert grant.base_url == "https://us1.api.mailchimp.com/3.0"
    with pytest.raises(Unavailable):
        exchange((200, TOKEN), (200, {"dc": "elsewhere.org/us1"}))


def test_endpoints_that_are_not_named_are_beside_the_token_url():
    found = Endpoints.of({"token_url": "http://127.0.0.1:1/oauth2/token"})
    assert found.authorize == "http://127.0.0.1:1/oauth2/authorize"
    assert found.metadata == "http://127.0.0.1:1/oauth2/metadata"
    assert Endpoints.of({}) == Endpoints()
    named = Endpoints.of({"authorize_url": "http://a/", "metadata_url": "http://m/"})
    assert (named.authorize, named.metadata, named.token) == (
        "http://a/",
        "http://m/",
        Endpoints().token,
    )


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((400, {"error": "invalid_grant"}), CredentialsError, "connect again"),
        ((401, {"error": "invalid_client"}), CredentialsError, "client id or client secret"),
        ((400, {"error": "invalid_request"}), SettingsError, "redirect address"),
        ((429, {}), RateLimited, "too many requests"),
        ((503, b"<html>"), Unavailable, "out of order"),
        ((200, b"<html>"), Unavailable, "out of order"),
        ((200, {}), Unavailable, "no token"),
    ],
)
def test_a_refusal_says_what_to_do_without_a_secret(answer, kind, words):
    with pytest.raises(kind, match=words) as caught:
        exchange(answer)
    assert "s3cret" not in str(caught.value)
    assert "c0de" not in str(caught.value)


def test_the_page_is_asked_by_the_name_that_mailchimp_accepts():
    assert PAGE.accepted("http://localhost:8080/x") == "http://127.0.0.1:8080/x"
    assert PAGE.accepted("https://airflow.example.com") == "https://airflow.example.com"
    assert "state=s1" in PAGE.address(client_id="id", redirect_uri=HERE, state="s1")
