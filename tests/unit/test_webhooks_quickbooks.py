"""QuickBooks' webhooks: signature and both formats."""

import base64
import json
import random
import string

import pytest

from ml_connector.quickbooks.webhooks import read_events, signature, signers

REALM = "9341450000000001"

# From Intuit's Java SDK: webhooks tests of https://github.com/intuit/QuickBooks-V3-Java-SDK
TOKEN = "b5771f19b12ddb4bcdb9f08bdc50bc63878a"
BODY = b'{"eventNotifications":[{"realmId":"1185883450","dataChangeEvent":{"entities":[{"name":"Customer","id":"1","operation":"Create","lastUpdated":"2015-10-05T14:42:19-0700"}]}}]}'
SIGNATURE = b"JC2GUwciPmRBwEO7WvrRmKqu9tGOKL8FFallocTFi8Q="


def cloud(number: int = 1, **fields) -> dict:
    return {
        "specversion": "1.0",
        "id": f"88cd52aa-{number}-Customer-123",
        "source": "intuit.dsnBgbseABCDEFgh=",
        "type": "qbo.customer.updated.v1",
        "datacontenttype": "application/json",
        "time": "2026-11-23T15:25:05.123456789Z",
        "intuitentityid": "123",
        "intuitaccountid": REALM,
        "data": {},
        **fields,
    }


def read(document: object, realms=(REALM,)):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_events(body, realms=set(realms))


def test_intuits_own_test_vector():
    assert signature(BODY, TOKEN) == SIGNATURE
    assert signers(BODY, SIGNATURE, ["another", TOKEN]) == [TOKEN]


def test_c2_no_mutation_of_signature_body_or_token_is_accepted():
    chance = random.Random(7)
    right = SIGNATURE.decode()
    alphabet = string.ascii_letters + string.digits + "+/= "
    for _ in range(3000):
        at, letter = chance.randrange(len(right)), chance.choice(alphabet)
        wrong = chance.choice(
            [
                right[:at] + letter + right[at + 1 :],
                right[:at] + right[at + 1 :],
                right[:at] + letter + right[at:],
                right[:at],
                right + letter,
                right.swapcase(),
                base64.b64decode(right).hex(),
            ]
        )
        if wrong != right:
            assert signers(BODY, wrong.encode(), [TOKEN]) == []
    for at in range(len(BODY)):
        flipped = bytearray(BODY)
        flipped[at] ^= 1 << chance.randrange(8)
        assert signers(flipped, SIGNATURE, [TOKEN]) == []
        assert signers(BODY[:at], SIGNATURE, [TOKEN]) == []
    assert signers(BODY, b"", [TOKEN]) == []
    assert signers(BODY, "Ä".encode(), [TOKEN]) == []
    assert signers(BODY, SIGNATURE, []) == []
    assert signers(BODY, SIGNATURE, ["", TOKEN + " "]) == []


def test_c1_a_cloud_event_tells_realm_customer_and_time():
    (event,) = read([cloud()])
    assert (event.source, event.kind, event.entity_id) == (REALM, "customer.updated", "123")
    assert (event.state, event.reason, event.sync) == ("pending", None, None)
    assert event.occurred_at.isoformat() == "2026-11-23T15:25:05.123456+00:00"


def test_c1_both_formats_tell_of_a_merge_alike():
    old = {
        "name": "Customer",
        "id": "1234",
        "operation": "Merge",
        "lastUpdated": "2025-09-08T20:52:31.657Z",
        "deletedId": "27",
    }
    legacy = {"eventNotifications": [{"realmId": REALM, "dataChangeEvent": {"entities": [old]}}]}
    current = [
        cloud(type="qbo.customer.merged.v1", intuitentityid="1234", data={"deletedid": "27"})
    ]
    for document in (legacy, current):
        (event,) = read(document)
        assert (event.kind, event.entity_id, event.deleted_id) == ("customer.merged", "1234", "27")
        assert event.state == "pending"


def test_c1_a_hundred_events_of_several_realms_are_a_hundred():
    realms = [REALM, "1185883450"]
    events = read(
        [cloud(n, intuitaccountid=realms[n % 2], intuitentityid=str(n)) for n in range(100)],
        realms,
    )
    assert len({event.dedupe_key for event in events}) == 100
    assert {event.source for event in events} == set(realms)
    assert {event.state for event in events} == {"pending"}


@pytest.mark.parametrize(
    ("state", "reason", "fields"),
    [
        ("quarantined", "unknown_realm", {"intuitaccountid": "1"}),
        ("quarantined", "unknown_realm", {"intuitaccountid": None}),
        ("quarantined", "unknown_realm", {"intuitaccountid": "\x00" * 5000}),
        ("ignored", "entity_not_used", {"type": "qbo.invoice.created.v1"}),
        ("quarantined", "unknown_type", {"type": "something.else"}),
        ("quarantined", "unknown_type", {"type": None}),
        ("quarantined", "no_id", {"intuitentityid": "x" * 5000}),
        ("quarantined", "no_id", {"intuitentityid": ""}),
        ("pending", None, {"type": "qbo.customer.invented.v2"}),
        ("pending", None, {"time": "yesterday"}),
        ("pending", None, {"id": None, "data": None}),
    ],
)
def test_c6_a_signed_event_we_cannot_use_is_kept_with_the_reason(state, reason, fields):
    (event,) = read([cloud(**fields)])
    assert (event.state, event.reason) == (state, reason)
    assert all(len(text) < 100 for text in (event.source, event.kind, event.dedupe_key))


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        ("not_json", b""),
        ("not_json", b"\xff\xfe"),
        ("not_json", b"[" * 1_000_000),
        ("not_json", b'{"a":' * 200_000),
        ("not_json", b"1" * 1_000_000),
        ("nested_too_deep", b"[" * 100 + b"]" * 100),
        ("unknown_format", b"{}"),
        ("unknown_format", b"7"),
        ("unknown_format", b'{"eventNotifications": 1}'),
        ("too_many_events", b"[" + b"{}," * 300_000 + b"{}]"),
    ],
)
def test_c6_a_signed_body_without_sense_is_kept_whole(reason, body):
    (event,) = read(body)
    assert (event.state, event.reason, event.kind) == ("quarantined", reason, "unreadable")
    assert event.payload == {"body": body}


def test_c6_one_strange_event_does_not_hold_up_its_neighbours():
    assert [event.state for event in read([1, cloud(), [], None])] == [
        "quarantined",
        "pending",
        "quarantined",
        "quarantined",
    ]
    legacy = {
        "eventNotifications": [3, {"realmId": REALM, "dataChangeEvent": {"entities": [None]}}]
    }
    assert [event.reason for event in read(legacy)] == ["unknown_format", "unknown_format"]


def test_c7_a_delivery_repeated_has_the_same_keys_and_another_event_has_not():
    assert read([cloud()])[0].dedupe_key == read([cloud()])[0].dedupe_key
    others = [cloud(), cloud(2), cloud(intuitaccountid="2"), cloud(intuitentityid="5")]
    assert len({event.dedupe_key for event in read(others)}) == 4
    assert read(BODY)[0].dedupe_key != read(BODY.replace(b"42:19", b"42:20"))[0].dedupe_key
