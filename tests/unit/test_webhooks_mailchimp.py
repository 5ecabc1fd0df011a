"""Mailchimp's webhooks: secret, signature and form."""

import hashlib
import hmac
import random
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from ml_connector.mailchimp.webhooks import (
    read_event,
    secret_in,
    secret_matches,
    signature,
    signature_matches,
)

AUDIENCE = "a1b2c3d4e5"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())


def form(kind: str = "subscribe", **data: str) -> bytes:
    fields = {
        "type": kind,
        "fired_at": "2026-11-23 11:59:58",
        "data[id]": "8a25ff1d98",
        "data[list_id]": AUDIENCE,
        "data[email]": "ada@example.com",
        "data[merges][FNAME]": "Ada",
        "data[merges][ADDRESS][addr1]": "1 Way",
    }
    fields |= {f"data[{name}]": value for name, value in data.items()}
    return urlencode({name: value for name, value in fields.items() if value}).encode()


def key(address: str) -> bytes:
    return hmac.digest(b"key", address.encode(), "sha256")


def read(body: bytes, sync: str = "main"):
    return read_event(body, sync=sync, audience_id=AUDIENCE, email_key=key)


def test_c3_the_secret_in_the_url_has_to_be_one_of_ours():
    assert secret_in(b"secret=abc&x=1") == "abc"
    assert secret_in(b"") == secret_in(b"&" * 100_000) == ""
    assert secret_matches("abc", {"abc", "def"})
    for wrong in ("", "ab", "abcd", "ABC", "abc ", "é", "abc\x00"):
        assert not secret_matches(wrong, {"abc", "def"})
    assert not secret_matches("", set())


def test_c3_a_signature_holds_for_300_seconds_and_for_both_secrets_of_a_rotation():
    header = signature(form(), "new", T).encode()
    mac = hmac.new(b"new", f"{T}.".encode() + form(), hashlib.sha256).hexdigest()
    assert header.decode() == f"t={T},v1={mac}"
    assert signature_matches(form(), header, {"old", "new"}, now=NOW)
    for age, taken in ((299, True), (301, False), (-299, True), (-301, False)):
        aged = signature(form(), "old", T - age).encode()
        assert signature_matches(form(), aged, {"old", "new"}, now=NOW) is taken


def test_c3_no_mutation_of_header_or_body_is_accepted():
    chance = random.Random(5)
    header = signature(form(), "secret", T)
    letters = "0123456789abcdefv=t, "
    for _ in range(3000):
        at, letter = chance.randrange(len(header)), chance.choice(letters)
        wrong = chance.choice(
            [header[:at] + letter + header[at + 1 :], header[:at] + header[at + 1 :], header[:at]]
        )
        if wrong != header:
            assert not signature_matches(form(), wrong.encode(), {"secret"}, now=NOW), wrong
    assert not signature_matches(form() + b"&", header.encode(), {"secret"}, now=NOW)
    assert not signature_matches(form(), header.encode(), set(), now=NOW)
    for wrong in (b"", b"t=,v1=", b"v1=" + header.encode()[-64:], b"t=" + b"9" * 400 + b",v1=a"):
        assert not signature_matches(form(), wrong, {"secret"}, now=NOW)


def test_a_form_becomes_nested_and_its_time_is_utc():
    event = read(form())
    assert event.payload["data"]["merges"]["ADDRESS"] == {"addr1": "1 Way"}
    assert event.occurred_at == datetime(2026, 11, 23, 11, 59, 58, tzinfo=UTC)
    assert (event.source, event.kind, event.sync) == (AUDIENCE, "subscribe", "main")
    assert event.state == "pending"


@pytest.mark.parametrize(
    ("state", "reason", "body"),
    [
        ("quarantined", "unknown_audience", form(list_id="other")),
        ("quarantined", "unknown_type", form("dance")),
        ("ignored", "type_not_used", form("campaign")),
        ("quarantined", "no_email", form(email="")),
        ("quarantined", "unknown_format", b"hello"),
        ("quarantined", "not_a_form", b'{"type": "subscribe"}'),
        ("quarantined", "not_a_form", b"\xff\xff=1"),
        ("quarantined", "not_a_form", b"a=1&" * 260_000),
        ("quarantined", "not_a_form", b"data=1&data[id]=2"),
        ("quarantined", "not_a_form", b"data[id]=1&data=2"),
        ("quarantined", "not_a_form", b"data" + b"[a]" * 300_000 + b"=1"),
    ],
)
def test_c6_a_genuine_delivery_we_cannot_use_is_kept_with_the_reason(state, reason, body):
    event = read(body)
    assert (event.state, event.reason) == (state, reason)


def test_c7_what_happened_to_whom_and_when_is_one_event():
    assert read(form()).dedupe_key == read(form(ip_opt="1.2.3.4")).dedupe_key
    later = form().replace(b"11%3A59%3A58", b"11%3A59%3A59")
    assert read(form()).dedupe_key != read(later).dedupe_key
    cleaned = {"id": "", "reason": "hard", "campaign_id": "c1"}
    different = [
        form(),
        form("unsubscribe", action="unsub"),
        form("unsubscribe", action="delete"),
        form(id="other"),
        form("cleaned", **cleaned),
        form("cleaned", **cleaned, email="eve@example.com"),
        form("upemail", id="", old_email="a@example.com", new_email="b@example.com"),
        form("upemail", id="", old_email="a@example.com", new_email="c@example.com"),
    ]
    assert len({read(body).dedupe_key for body in different}) == len(different)
    assert read(form()).dedupe_key != read(form(), sync="other").dedupe_key
