"""What can go wrong with the tokens: one plain message with the fix, and no secret anywhere."""

import base64
import json
import logging
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import requests
from structlog.testing import capture_logs

from ml_connector.errors import (
    ConnectorError,
    CredentialsError,
    NeedsReauth,
    ResponseLost,
    SettingsError,
    Unavailable,
)
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.tokens import TokenManager
from ml_connector.wire.transport import RequestsTransport
from sandbox.ports import free_port
from tests.integration.company import REALM, Company
from tests.integration.token_worker import STRICT, Desk, attempt

TOKEN = {"path": "/tokens/bearer$"}
MISTYPED = "Tr0ub4dor&3+/=?s3cret-mistyped"


@pytest.fixture
def desk(mock_servers, database_url, tmp_path) -> Desk:
    return Desk(
        quickbooks=mock_servers.quickbooks,
        database_url=database_url,
        path=Path(tmp_path) / "token.json",
    )


def forms(secret: str) -> set[str]:
    """A secret as it may show: plain, URL-encoded, or within something in base64."""
    found = {secret, quote(secret, safe=""), quote_plus(secret)}
    for before in range(3):
        packed = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        found.add(packed[0 if before == 0 else before + 1 : -1])
    return found


def wrong_secret(company: Company, _desk: Desk) -> None:
    company.client_secret = MISTYPED


def revoked(company: Company, _desk: Desk) -> None:
    company.quickbooks_control("POST", "tokens/revoke")


def down(company: Company, _desk: Desk) -> None:
    company.quickbooks_api = f"http://127.0.0.1:{free_port()}"


def answering(times: int | None = None, **action: object) -> Callable[[Company, Desk], None]:
    def arrange(company: Company, _desk: Desk) -> None:
        company.fault("quickbooks", match=TOKEN, times=times, action=action)

    return arrange


def edited(change: Callable[[str], str]) -> Callable[[Company, Desk], None]:
    """A person edits the stored value by hand."""

    def arrange(_company: Company, desk: Desk) -> None:
        desk.path.write_text(change(desk.path.read_text("utf-8")), encoding="utf-8")

    return arrange


def with_value(**values: object) -> Callable[[Company, Desk], None]:
    return edited(lambda text: json.dumps({**json.loads(text), **values}))


STALE = "2020-01-01T00:00:00Z"
CASES = {
    "wrong client secret": (
        wrong_secret, CredentialsError, "client secret is wrong; copy both from the app's keys",
    ),
    "revoked grant": (revoked, NeedsReauth, "run `ml-connector connect quickbooks`"),
    "endpoint down": (down, Unavailable, "cannot be reached; check the connection's host"),
    "endpoint in trouble": (
        answering(kind="html", status=503), Unavailable, "repeated by itself. If that lasts, check",
    ),
    "HTML in place of JSON": (
        answering(kind="html", status=200), Unavailable, "If that lasts, check token_url",
    ),
    "half an answer, and the old token dead": (
        answering(kind="malformed", times=1), NeedsReauth, "run `ml-connector connect quickbooks`",
    ),
    "no answer": (answering(kind="drop", when="before"), ResponseLost, "the call may have been applied"),
    "another page": (
        answering(kind="status", status=404, body="Not here"), SettingsError, "check token_url",
    ),
    "a word": (edited(lambda _: "oops"), CredentialsError, "not a JSON object; restore it"),
    "cut off": (edited(lambda text: text[:-20]), CredentialsError, "not a JSON object; restore it"),
    "a list": (edited(lambda text: f"[{text}]"), CredentialsError, "not a JSON object; restore it"),
    "nothing": (edited(lambda _: ""), CredentialsError, "not a JSON object; restore it"),
    "no refresh token": (
        with_value(refresh_token=""), CredentialsError, "has no refresh_token; put it back, or",
    ),
    "a number": (with_value(refresh_token=1723042317), CredentialsError, "has no refresh_token; put it back"),
    "a time in words": (
        with_value(expires_at="tomorrow"), CredentialsError, "expires_at is not a time like",
    ),
    "a token of one's own": (
        with_value(refresh_token="RT1-of-my-own", previous_refresh_token=None),
        NeedsReauth, "run `ml-connector connect quickbooks`",
    ),
    "a line break": (
        with_value(access_token="eyJ-two\nlines", expires_at=None), SettingsError, "copy it again",
    ),
    "a typographic dash": (
        with_value(access_token="eyJ\u2013dash", expires_at=None), SettingsError, "copy it again",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arrange", "error", "fix"), CASES.values(), ids=CASES)
def test_one_plain_message_with_the_fix_and_no_secret_in_any_log(
    company, desk, caplog, arrange, error, fix
) -> None:
    caplog.set_level(logging.DEBUG)
    desk.fresh(**STRICT)
    assert attempt(desk) == ""
    company.tokens = desk.vault()
    if arrange not in {CASES["a line break"][0], CASES["a typographic dash"][0]}:
        with_value(expires_at=STALE)(company, desk)
    before = desk.path.read_text("utf-8")
    arrange(company, desk)
    after = desk.path.read_text("utf-8")

    with capture_logs() as logs, pytest.raises(ConnectorError) as raised:
        company.fetch(company.scope())

    assert type(raised.value) is error
    assert fix in str(raised.value)
    assert "\n" not in str(raised.value)
    written = "\n".join(
        (caplog.text, json.dumps(logs, default=str), *traceback.format_exception(raised.value))
    )
    secrets = {"sandbox-secret", "sandbox-refresh-token", MISTYPED, "RT1-of-my-own"}
    for text in (before, after):
        secrets |= set(tokens_of(text))
    leaked = {secret for secret in secrets for form in forms(secret) if form in written}
    assert leaked == set()


def tokens_of(text: str) -> list[str]:
    try:
        values = json.loads(text)
    except ValueError:
        return []
    names = ("access_token", "refresh_token", "previous_refresh_token")
    return [str(values[name]) for name in names if values.get(name)] if type(values) is dict else []


def test_the_search_for_secrets_would_find_them() -> None:
    header = base64.b64encode(b"client:s3cret/+value").decode()
    assert any(form in header for form in forms("s3cret/+value"))
    assert any(form in "a=s3cret%2F%2Bvalue" for form in forms("s3cret/+value"))


@pytest.mark.parametrize(("hours", "minutes"), [(1, 60), (-1, 122)], ids=["ahead", "behind"])
def test_a_clock_that_is_an_hour_wrong_costs_one_renewal_and_is_named(
    company, desk, hours: int, minutes: int
) -> None:
    desk.fresh(**STRICT)
    assert attempt(desk) == ""
    if hours < 0:  # the access token has ended, by all clocks but ours
        desk.control("PUT", "clock", {"offset_seconds": 3700})
    wrong = replace(desk, ahead=timedelta(hours=hours))
    with capture_logs() as logs:
        for _ in range(3):
            with wrong.connection() as manager:
                assert company_name(company, manager) != ""
    assert [call["status"] for call in desk.token_calls()] == [200, 200]
    (told,) = (entry for entry in logs if entry["event"] == "clock_wrong")
    assert told["log_level"] == "warning"
    way = "ahead" if hours > 0 else "behind"
    assert told["fix"] == (
        f"this machine's clock is {minutes} minutes {way}; set it and keep it set (NTP)"
    )


def company_name(company: Company, tokens: TokenManager) -> str:
    transport = RequestsTransport(requests.Session(), system="QuickBooks")
    return (
        QuickBooksClient(
            transport=transport,
            base_url=company.quickbooks,
            realm_id=REALM,
            tokens=tokens,
            pace=lambda: None,
            retries=company.retries(),
            calls=Counter(),
        )
        .company()
        .name
    )


def test_a_right_clock_is_not_talked_about(desk) -> None:
    with capture_logs() as logs:
        assert attempt(desk.fresh(**STRICT)) == ""
    assert logs == []


def test_a_token_refused_to_the_wrong_client_is_offered_again_by_the_right_one(desk) -> None:
    # The keys of another app: Intuit says the token is invalid, and it is, for that app.
    desk.fresh(rotate="daily")
    refusal = {"kind": "status", "status": 400, "body": {"error": "invalid_grant"}}
    desk.control("POST", "faults", {"match": TOKEN, "times": 1, "action": refusal})
    wrong = replace(desk, client_id="the-other-apps-keys")
    assert [attempt(wrong), attempt(wrong)] == ["NeedsReauth", "NeedsReauth"]
    assert len(desk.token_calls()) == 1
    assert attempt(desk) == ""
