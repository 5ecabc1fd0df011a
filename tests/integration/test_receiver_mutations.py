"""Promise 2: what is not proven genuine is refused, however near it comes."""

import base64
import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from ml_connector.mailchimp import webhooks as mailchimp
from ml_connector.quickbooks import webhooks as quickbooks
from ml_connector.webhooks.endpoint import PREFIX
from tests.integration.receiving import (
    OTHER_TOKEN,
    SECRET,
    SIGNING_SECRET,
    TOKEN,
    at_length,
    cloud_event,
    form,
    serving,
)

Request = tuple[str, bytes, dict[str, bytes]]
FORM = {"content-type": b"application/x-www-form-urlencoded"}


@pytest.fixture
def served(database_url):
    with serving(database_url) as running:
        yield running


def test_no_mutated_signature_or_body_is_accepted_and_none_breaks_the_receiver(served):
    chance = random.Random(23)
    answers: Counter[int] = Counter()
    connection = http.client.HTTPConnection(*served.address, timeout=30)
    for path, body, headers in mutated(chance, at_length(3_000, 100_000)):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        answers[answer.status] += 1
    assert set(answers) <= {400, 401, 404, 413}, answers
    assert answers[401] > sum(answers.values()) * 0.9
    assert served.rows() == []


def mutated(chance: random.Random, number: int) -> Iterator[Request]:
    """Genuine deliveries, each with one thing changed."""
    makers: list[Callable[[random.Random], Request]] = [
        quickbooks_body_changed,
        quickbooks_signature_changed,
        mailchimp_secret_changed,
        mailchimp_signature_changed,
    ]
    for _ in range(number):
        yield chance.choice(makers)(chance)


def quickbooks_body_changed(chance: random.Random) -> Request:
    body = json.dumps([cloud_event(chance.randrange(1, 10_000))]).encode()
    signature = quickbooks.signature(body, TOKEN)
    return f"{PREFIX}/quickbooks", bent(chance, body), {"intuit-signature": signature}


def quickbooks_signature_changed(chance: random.Random) -> Request:
    body = json.dumps([cloud_event(chance.randrange(1, 10_000))]).encode()
    genuine = quickbooks.signature(body, TOKEN)
    raw = base64.b64decode(genuine)
    signature = chance.choice(
        [
            bent(chance, genuine),
            b"",
            genuine.swapcase(),
            genuine.rstrip(b"="),
            raw.hex().encode(),
            base64.b64encode(raw[:16]),
            base64.b64encode(raw + raw),
            b"sha256=" + genuine,
            genuine + b", " + genuine,
            TOKEN.encode(),
            quickbooks.signature(body, f"{OTHER_TOKEN}x"),
            quickbooks.signature(body + b" ", TOKEN),
            quickbooks.signature(b"", TOKEN),
        ]
    )
    return f"{PREFIX}/quickbooks", body, {"intuit-signature": signature}


def mailchimp_secret_changed(chance: random.Random) -> Request:
    secret = bent(chance, SECRET.encode()).hex()
    spelled = "".join(f"%{secret[at : at + 2]}" for at in range(0, len(secret), 2))
    query = chance.choice(
        [
            f"secret={spelled}",
            "secret=",
            "",
            f"SECRET={SECRET}",
            f"secret={SECRET}%00",
            "secret[]=x",
        ]
    )
    return f"{PREFIX}/mailchimp/main?{query}", form(), FORM


def mailchimp_signature_changed(chance: random.Random) -> Request:
    body, now = form(), int(time.time())
    genuine = mailchimp.signature(body, SIGNING_SECRET, now).encode()
    signature = chance.choice(
        [
            bent(chance, genuine),
            b"",
            mailchimp.signature(body, SIGNING_SECRET, now - 301).encode(),
            # 301 would do, if no second could pass on the way.
            mailchimp.signature(body, SIGNING_SECRET, now + 400).encode(),
            mailchimp.signature(body, "another", now).encode(),
            mailchimp.signature(body + b"&x=1", SIGNING_SECRET, now).encode(),
            genuine.replace(str(now).encode(), str(now + 1).encode()),
            genuine.upper(),
        ]
    )
    if set(genuine.split(b",")) <= {part.strip() for part in signature.split(b",")}:
        signature = b""  # only a separator more: still genuine
    path = f"{PREFIX}/mailchimp/signed?secret={SECRET}"
    return path, body, {**FORM, "x-mailchimp-signature": signature}


def bent(chance: random.Random, genuine: bytes) -> bytes:
    """Something close to ``genuine``, printable enough for a header, and never the same."""
    while True:
        at, byte = chance.randrange(len(genuine)), chance.randrange(33, 127)
        found = chance.choice(
            [
                genuine[:at] + bytes([byte]) + genuine[at + 1 :],
                genuine[:at] + bytes([byte]) + genuine[at:],
                genuine[:at] + genuine[at + 1 :],
                genuine[:at],
                genuine[at:],
                genuine[::-1],
            ]
        )
        if found != genuine:
            return found
