"""Webhooks from QuickBooks, received by a small HTTP server of the test's own."""

import base64
import hashlib
import hmac
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from quickbooks import QuickBooks

from sandbox.quickbooks.app import create_app
from sandbox.quickbooks.webhook_format import signature
from sandbox.running import serving_in_thread
from tests.contract.conftest import Control

TOKEN = "b5771f19b12ddb4bcdb9f08bdc50bc63878a"
REALM = "9341450000000001"
# https://github.com/intuit/QuickBooks-V3-Java-SDK, the test of its WebhooksService
INTUITS_BODY = (
    b'{"eventNotifications":[{"realmId":"1185883450","dataChangeEvent":{"entities":'
    b'[{"name":"Customer","id":"1","operation":"Create",'
    b'"lastUpdated":"2015-10-05T14:42:19-0700"}]}}]}'
)
INTUITS_SIGNATURE = "JC2GUwciPmRBwEO7WvrRmKqu9tGOKL8FFallocTFi8Q="


class Receiver:
    """Answers 200, or the statuses it was told to answer first; 0 waits until it is `released`."""

    def __init__(self):
        self.calls = []
        self.statuses = []
        self.answered = 0
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.append((time.monotonic(), dict(self.headers.items()), body))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                if status == 0:
                    receiver.released.wait(60)
                receiver.answered += 1
                self.send_response(status or 200)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?from=intuit"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def bodies(self):
        return [json.loads(body) for _, _, body in self.calls]

    @property
    def events(self):
        return [event for body in self.bodies for event in body]


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def hooked(quickbooks, receiver):
    """Turn webhooks on, and off again when the test ends."""

    def turn_on(**settings):
        settings = {"url": receiver.url, "verifier_token": TOKEN} | settings
        return quickbooks.control.put("webhooks", **settings)

    yield turn_on
    quickbooks.control.delete("webhooks")


def edit(quickbooks, *customer_ids, **fields):
    order = {"ids": list(customer_ids), "fields": fields or {"GivenName": "Edited"}}
    quickbooks.control.post("customers/edit-many", **order)


def flush(quickbooks, seconds=10):
    return quickbooks.control.post("webhooks/flush", seconds=seconds)


def deliveries(quickbooks):
    return quickbooks.control.get("webhooks/deliveries")["deliveries"]


def kinds(receiver):
    return [(each["type"], each["intuitentityid"]) for each in receiver.events]


def test_bodies_are_signed_as_intuits_own_example():
    assert signature(INTUITS_BODY, TOKEN) == INTUITS_SIGNATURE


def test_a_public_client_accepts_the_signature(quickbooks, hooked, receiver):
    hooked()
    edit(quickbooks, "1")
    flush(quickbooks)
    _, headers, body = receiver.calls[0]
    client = QuickBooks(company_id=REALM, minorversion=75)
    assert client.validate_webhook_signature(body.decode(), headers["intuit-signature"], TOKEN)


def test_an_edit_is_reported_as_a_signed_cloud_event(quickbooks, hooked, receiver):
    hooked()
    edit(quickbooks, "7")
    assert flush(quickbooks) == {"pending": 0, "delivered": 1}
    _, headers, body = receiver.calls[0]
    digest = hmac.new(TOKEN.encode(), body, hashlib.sha256).digest()
    assert headers["intuit-signature"] == base64.b64encode(digest).decode()
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["User-Agent"] == "intuit_notification_server/0.1"
    for name in ("intuit-created-time", "intuit-t-id", "intuit-notification-schema-version"):
        assert headers[name]
    (event,) = json.loads(body)
    assert uuid.UUID(event.pop("id"))
    assert event.pop("time").endswith("Z")
    assert event.pop("source").startswith("intuit.")
    assert event == {
        "specversion": "1.0",
        "type": "qbo.customer.updated.v1",
        "datacontenttype": "application/json",
        "intuitentityid": "7",
        "intuitaccountid": REALM,
        "data": {},
    }


def test_the_older_format_is_one_object_of_entities(quickbooks, hooked, receiver):
    hooked(format="legacy", delay_seconds=0.1)
    edit(quickbooks, "5")
    quickbooks.control.post("customers/merge", survivor="1", loser="3")
    flush(quickbooks)
    (_, headers, body), *others = receiver.calls
    assert not others
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    (notification,) = json.loads(body)["eventNotifications"]
    entities = notification["dataChangeEvent"]["entities"]
    assert notification["realmId"] == REALM
    assert [each.pop("lastUpdated")[-1] for each in entities] == ["Z", "Z"]
    assert entities == [
        {"name": "Customer", "id": "5", "operation": "Update"},
        {"name": "Customer", "id": "1", "operation": "Merge", "deletedId": "3"},
    ]


def test_creations_merges_and_inactivations_are_told_apart(quickbooks, hooked, receiver):
    hooked()
    made = quickbooks.control.post("customers", DisplayName="New")["Id"]
    flush(quickbooks)
    quickbooks.control.post("customers/merge", survivor="1", loser="3")
    flush(quickbooks)
    quickbooks.control.patch("customers/2", Active=False)
    flush(quickbooks)
    assert kinds(receiver) == [
        ("qbo.customer.created.v1", made),
        ("qbo.customer.merged.v1", "1"),
        ("qbo.customer.updated.v1", "2"),
    ]
    assert receiver.events[1]["data"] == {"deletedid": "3"}


def test_an_inactivation_can_be_set_to_be_reported_as_a_deletion(quickbooks, hooked, receiver):
    hooked(inactivation="deleted")
    quickbooks.control.patch("customers/2", Active=False)
    flush(quickbooks)
    assert kinds(receiver) == [("qbo.customer.deleted.v1", "2")]


def test_our_own_writes_are_echoed_unless_set_otherwise(quickbooks, hooked, receiver):
    hooked()
    body = {"Id": "2", "SyncToken": "0", "sparse": True, "Notes": "x"}
    quickbooks.post("customer", body)
    flush(quickbooks)
    assert kinds(receiver) == [("qbo.customer.updated.v1", "2")]
    hooked(echo_api_writes=False)
    quickbooks.post("customer", body | {"SyncToken": "1", "Notes": "y"})
    quickbooks.post("customer", {"DisplayName": "By an app"})
    edit(quickbooks, "4")
    flush(quickbooks)
    assert kinds(receiver)[1:] == [("qbo.customer.updated.v1", "4")]


def test_a_write_that_is_refused_or_changes_nothing_is_not_reported(quickbooks, hooked, receiver):
    hooked()
    quickbooks.post("customer", {"Id": "2", "SyncToken": "9", "sparse": True, "Notes": "x"})
    quickbooks.post("customer", {"Id": "2", "SyncToken": "0", "sparse": True, "GivenName": "Bill"})
    assert flush(quickbooks) == {"pending": 0, "delivered": 0}


def test_events_close_together_share_a_delivery_up_to_the_limit(quickbooks, hooked, receiver):
    hooked(delay_seconds=0.2, batch_up_to=10)
    edit(quickbooks, *map(str, range(1, 26)))
    assert flush(quickbooks) == {"pending": 0, "delivered": 25}
    assert [len(body) for body in receiver.bodies] == [10, 10, 5]
    assert [event["intuitentityid"] for event in receiver.events] == [*map(str, range(1, 26))]


@pytest.mark.parametrize("failure", [500, 400, 302, 0])
def test_later_events_wait_until_the_first_is_acknowledged(quickbooks, hooked, receiver, failure):
    hooked(retry_seconds=[0.2, 0.1], answer_within_seconds=0.3)
    receiver.statuses = [failure] * 3
    edit(quickbooks, "1")
    time.sleep(0.1)
    edit(quickbooks, "2")
    assert quickbooks.control.get("webhooks/deliveries")["pending"] == 2
    flush(quickbooks)
    assert [[each["intuitentityid"] for each in body] for body in receiver.bodies] == [
        *[["1"]] * 4,
        ["2"],
    ]
    assert len({body for _, _, body in receiver.calls[:4]}) == 1
    first, second = deliveries(quickbooks)
    assert (first["tries"], first["state"], first["last_status"]) == (4, "delivered", 200)
    assert (second["tries"], second["events"][0]["customer"]) == (1, "2")
    waits = [b[0] - a[0] for a, b in zip(receiver.calls, receiver.calls[1:4], strict=False)]
    assert waits[0] >= 0.2
    assert min(waits[1:]) >= 0.1


def test_a_receiver_that_is_not_there_is_tried_again(quickbooks, hooked, receiver):
    url = "http://127.0.0.1:9/"
    hooked(url=url, retry_seconds=[0.05])
    edit(quickbooks, "1")
    assert flush(quickbooks, 0.3) == {"pending": 1, "delivered": 0}
    (delivery,) = deliveries(quickbooks)
    assert (delivery["state"], delivery["last_status"]) == ("pending", 0)
    assert delivery["tries"] > 2
    assert delivery["last_error"]
    hooked()
    assert flush(quickbooks) == {"pending": 0, "delivered": 1}
    assert [each["state"] for each in deliveries(quickbooks)] == ["abandoned", "delivered"]
    assert kinds(receiver) == [("qbo.customer.updated.v1", "1")]


def test_real_retries_are_the_default(hooked):
    shown = hooked()
    assert shown["retry_seconds"] == [10, 20, 30, 300, 1200, 7200, 14400, 21600]
    assert (shown["answer_within_seconds"], shown["format"]) == (3, "cloudevents")


def test_duplicates_come_in_a_later_delivery_under_the_same_id(quickbooks, hooked, receiver):
    hooked(duplicate_every=3, delay_seconds=0.1)
    edit(quickbooks, *map(str, range(1, 10)))
    flush(quickbooks)
    first, second = receiver.bodies
    assert second == [first[2], first[5], first[8]]


def test_shuffled_events_all_arrive_out_of_order(quickbooks, hooked, receiver):
    hooked(shuffle=True, delay_seconds=0.1, batch_up_to=5)
    edit(quickbooks, *map(str, range(1, 21)))
    flush(quickbooks)
    arrived = [event["intuitentityid"] for event in receiver.events]
    assert arrived != [*map(str, range(1, 21))]
    assert sorted(arrived, key=int) == [*map(str, range(1, 21))]


def test_a_receiver_that_hangs_delays_no_api_call(quickbooks, hooked, receiver):
    receiver.statuses = [0]
    hooked()
    edit(quickbooks, "1")
    for _ in range(5):
        quickbooks.get("customer/1")
    assert receiver.answered == 0
    receiver.released.set()
    flush(quickbooks)


def test_what_the_bookkeeper_does_is_reported_edit_by_edit(quickbooks, hooked, receiver):
    hooked()
    quickbooks.control.post("bookkeeper/edit", count=150)
    assert flush(quickbooks) == {"pending": 0, "delivered": 150}
    assert len({event["id"] for event in receiver.events}) == 150
    assert max(len(body) for body in receiver.bodies) == 100
    edited = set(quickbooks.control.get("bookkeeper")["ledger"])
    assert {event["intuitentityid"] for event in receiver.events} == edited


def test_a_sandbox_stops_at_once_with_webhooks_and_a_bookkeeper_under_way(receiver):
    receiver.statuses = [500]
    with serving_in_thread({"quickbooks": create_app()}) as urls:
        control = Control(urls["quickbooks"])
        control.put("webhooks", url=receiver.url, verifier_token=TOKEN)
        control.post("bookkeeper/start", edits_per_second=500)
        time.sleep(0.2)
        assert control.get("webhooks/deliveries")["pending"] > 1
    assert len(receiver.calls) == 1, "it did not wait until a delivery was tried again"


def test_webhooks_can_be_shown_and_ended(quickbooks, hooked, receiver):
    assert quickbooks.control.get("webhooks") == {}
    assert hooked() == quickbooks.control.get("webhooks")
    quickbooks.control.delete("webhooks")
    edit(quickbooks, "1")
    hooked()
    quickbooks.control.post("reset")
    edit(quickbooks, "1")
    assert quickbooks.control.get("webhooks") == {}
    assert flush(quickbooks) == {"pending": 0, "delivered": 0}
    assert receiver.calls == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://example.com/hook"},
        {"url": "http://192.168.1.1/"},
        {"url": "http://127.0.0.1.example.com/"},
        {"url": "https://127.0.0.1/"},
        {"url": "http://127.0.0.1:99999/"},
        {"url": "file:///etc/hosts"},
        {"format": "xml"},
        {"retry_seconds": []},
        {"batch_up_to": 101},
        {"delay_seconds": -1},
        {"colour": "green"},
    ],
)
def test_only_addresses_of_this_machine_and_known_settings_are_taken(quickbooks, hooked, wrong):
    body = {"url": "http://127.0.0.1:1/", "verifier_token": TOKEN} | wrong
    answer = requests.put(f"{quickbooks.url}/_sandbox/webhooks", json=body, timeout=10)
    assert answer.status_code == 400
    assert quickbooks.control.get("webhooks") == {}
