"""The Mailchimp mock server: registering webhooks, and what a receiver gets."""

import hashlib
import hmac
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import pytest
import requests

from sandbox import memory
from sandbox.mailchimp.app import create_app
from sandbox.running import serving_in_thread
from tests.contract.mailchimp_remote import Remote
from tests.contract.test_mailchimp_fixtures import KEY, LIST, official_client, problem

pytest_plugins = ["tests.contract.test_mailchimp_fixtures"]

ADA, BEN = "ada@abel.net", "ben@baker.net"
EVENTS = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
EVERYTHING = {
    "events": dict.fromkeys(EVENTS, True),
    "sources": {"user": True, "admin": True, "api": True},
}
HOME = {"addr1": "1 Main Street", "city": "Springfield", "state": "IL", "zip": "62701"}


class Receiver:
    """A web server that keeps every request and answers as told: `answers`, then always 200.

    While `held`, it answers nothing.
    """

    def __init__(self):
        self.requests = []
        self.paths = []
        self.answers = []
        self.answered = 0
        self.released = threading.Event()
        self.released.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.paths.append(self.path)
                receiver.requests.append((self.command, dict(self.headers), body))
                status = receiver.answers.pop(0) if receiver.answers else 200
                receiver.released.wait(60)
                receiver.answered += 1
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_GET = do_POST = handle_any  # noqa: N815 - http.server's names

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # the sandbox hangs up on a late answer
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?secret=s"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @contextmanager
    def held(self):
        self.released.clear()
        try:
            yield
        finally:
            self.released.set()

    def posts(self):
        return [(headers, body) for method, headers, body in self.requests if method == "POST"]

    def forms(self):
        return [dict(parse_qsl(body.decode(), True)) for _, body in self.posts()]

    def types(self):
        return [form["type"] for form in self.forms()]


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def hook(remote, lists, receiver):
    """A webhook for everything, as its creation answered it; retries come at once."""
    remote.settings(webhook_retry_seconds=[0.01, 0.02])
    return lists.create_list_webhook(LIST, {"url": receiver.url, **EVERYTHING})


def signature(secret, headers, body):
    moment = re.fullmatch(r"t=(\d+),v1=[0-9a-f]{64}", headers["X-Mailchimp-Signature"]).group(1)
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def refusal(call):
    refused = problem(call)
    assert refused["status"] == 400
    assert refused["detail"].startswith("The resource submitted could not be validated.")
    [error] = refused["errors"]
    assert error["field"] == "url"
    return error["message"]


def test_the_signing_secret_is_told_at_the_creation_and_never_again(lists, hook):
    assert len(hook["signing_secret"]) >= 32
    assert hook["signing_enabled"] is True
    shown = {key: value for key, value in hook.items() if key != "signing_secret"}
    assert lists.get_list_webhook(LIST, hook["id"]) == shown
    listed = lists.get_list_webhooks(LIST)
    assert (listed["webhooks"], listed["total_items"], listed["list_id"]) == ([shown], 1, LIST)


def test_the_address_is_asked_for_an_answer_when_it_is_set_or_edited(lists, receiver, hook):
    lists.update_list_webhook(LIST, hook["id"], {"events": {"campaign": False}})
    asked = [(method, headers["User-Agent"]) for method, headers, _ in receiver.requests]
    assert asked == [("GET", "MailChimp.com WebHook Validator")] * 2


def test_an_address_that_does_not_answer_200_is_refused(remote, lists, receiver):
    receiver.answers = [204]
    body = {"url": receiver.url, **EVERYTHING}
    assert "200" in refusal(lambda: lists.create_list_webhook(LIST, body))
    body = {"url": "http://127.0.0.1:1/", **EVERYTHING}
    assert "200" in refusal(lambda: lists.create_list_webhook(LIST, body))
    assert lists.get_list_webhooks(LIST)["total_items"] == 0


def test_one_address_is_registered_once(lists, receiver, hook):
    body = {"url": receiver.url, **EVERYTHING}
    assert "multiple WebHooks" in refusal(lambda: lists.create_list_webhook(LIST, body))
    other = lists.create_list_webhook(LIST, body | {"url": receiver.url + "&more=1"})
    body = {"url": receiver.url}
    assert "multiple" in refusal(lambda: lists.update_list_webhook(LIST, other["id"], body))


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://127.0.0.1/", "http://10.0.0.1/", "ftp:", "http://[", ""]
)
def test_only_addresses_of_this_machine_are_accepted(remote, lists, url):
    refusal(lambda: lists.create_list_webhook(LIST, {"url": url, **EVERYTHING}))


def test_what_is_left_out_is_off_and_editing_keeps_what_is_not_sent(lists, receiver, remote):
    body = {"url": receiver.url, "events": {"cleaned": True}, "sources": {"user": True}}
    created = lists.create_list_webhook(LIST, body)
    assert created["events"] == dict.fromkeys(EVENTS, False) | {"cleaned": True}
    assert created["sources"] == {"user": True, "admin": False, "api": False}
    edited = lists.update_list_webhook(LIST, created["id"], {"events": {"upemail": True}})
    assert edited["events"] == created["events"] | {"upemail": True}
    assert "signing_secret" not in edited


def test_a_removed_webhook_is_unknown_and_hears_nothing(remote, lists, receiver, hook):
    assert lists.delete_list_webhook(LIST, hook["id"]).status_code == 204
    remote.act(ADA, "subscribe")
    remote.flush()
    assert receiver.posts() == []
    assert problem(lambda: lists.get_list_webhook(LIST, hook["id"]))["status"] == 404


def test_a_delivery_is_a_signed_form(remote, receiver, hook):
    before = int(time.time())
    remote.act(ADA, "subscribe")
    assert remote.flush() == {"delivered": 1, "failed": 0, "dropped": 0, "pending": 0}
    [(headers, body)] = receiver.posts()
    assert headers["User-Agent"] == "MailChimp.com"
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["X-Mailchimp-Signature"] == signature(hook["signing_secret"], headers, body)
    moment = int(headers["X-Mailchimp-Signature"].partition(",")[0].removeprefix("t="))
    assert before <= moment <= time.time()
    assert signature("another", headers, body) != headers["X-Mailchimp-Signature"]


def test_without_signing_there_is_neither_secret_nor_signature(remote, lists, receiver):
    remote.settings(webhook_signing=False)
    hook = lists.create_list_webhook(LIST, {"url": receiver.url, **EVERYTHING})
    assert (hook["signing_enabled"], "signing_secret" in hook) == (False, False)
    remote.act(ADA, "subscribe")
    remote.flush()
    [(headers, _)] = receiver.posts()
    assert "X-Mailchimp-Signature" not in headers


def test_a_subscription_carries_the_member_with_nested_merge_fields(remote, lists, receiver, hook):
    body = {
        "email_address": "Ada@abel.net",
        "status": "subscribed",
        "merge_fields": {"FNAME": "Ada & Söhne", "ADDRESS": HOME},
    }
    member = lists.add_list_member(LIST, body)
    remote.flush()
    [form] = receiver.forms()
    assert form["type"] == "subscribe"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", form["fired_at"])
    expected = {
        "id": member["unique_email_id"],
        "web_id": str(member["web_id"]),
        "list_id": LIST,
        "email": "Ada@abel.net",
        "merges][EMAIL": "Ada@abel.net",
        "merges][FNAME": "Ada & Söhne",
        "merges][LNAME": "",
        "merges][ADDRESS][addr1": "1 Main Street",
    }
    assert {key: form[f"data[{key}]"] for key in expected} == expected


def test_opt_outs_tell_how_they_came_about(remote, lists, receiver, hook):
    for number in range(5):
        remote.seed(f"m{number}@abel.net")
    campaign = remote.send_campaign()
    remote.act("m0@abel.net", "unsubscribe", campaign_id=campaign)
    remote.act("m1@abel.net", "unsubscribe", abuse=True)
    remote.act("m2@abel.net", "archive")
    remote.act("m3@abel.net", "forget")
    lists.update_list_member(LIST, "m4@abel.net", {"status": "unsubscribed"})
    remote.flush()
    told, *left = receiver.forms()
    assert (told["type"], told["data[id]"], told["data[status]"]) == ("campaign", campaign, "sent")
    assert {each["type"] for each in left} == {"unsubscribe"}
    assert [(each["data[action]"], each["data[reason]"]) for each in left] == [
        ("unsub", "manual"),
        ("unsub", "abuse"),
        ("delete", "manual"),
        ("delete", "manual"),
        ("unsub", "manual"),
    ]
    assert [each.get("data[campaign_id]") for each in left[:2]] == [campaign, None]


def test_a_new_address_is_told_as_such_and_as_a_new_profile(remote, lists, receiver, hook):
    remote.seed(ADA)
    remote.act(ADA, "upemail", email_address="ada@fox.net")
    lists.update_list_member(LIST, "ada@fox.net", {"email_address": "ada@gray.net"})
    remote.flush()
    assert receiver.types() == ["upemail", "profile"] * 2
    moved, profile = receiver.forms()[:2]
    assert moved["data[old_email]"] == ADA
    assert moved["data[new_email]"] == profile["data[email]"] == "ada@fox.net"
    assert moved["data[new_id]"] == profile["data[id]"]
    assert "data[id]" not in moved


def test_a_bounce_is_told_without_an_id(remote, receiver, hook):
    remote.seed(ADA)
    remote.seed(BEN)
    campaign = remote.send_campaign(recipients=[ADA])
    remote.react(campaign, ADA, "bounce", type="soft")
    remote.react(campaign, ADA, "bounce", type="hard")
    remote.act(BEN, "clean", abuse=True)
    remote.flush()
    _, hard, abuse = receiver.forms()
    assert (hard["type"], hard["data[reason]"], hard["data[email]"]) == ("cleaned", "hard", ADA)
    assert hard["data[campaign_id]"] == campaign
    assert "data[id]" not in hard
    assert (abuse["type"], abuse["data[reason]"]) == ("cleaned", "abuse")


def test_only_real_changes_of_profile_and_status_are_told(remote, lists, receiver, hook):
    remote.seed(ADA, tags=["Old"])
    remote.generate(3)
    body = {"tags": [{"name": "New", "status": "active"}]}
    lists.update_list_member_tags(LIST, ADA, body)
    lists.update_list_member(LIST, ADA, {"status": "subscribed"})
    lists.update_list_member(LIST, ADA, {"merge_fields": {"FNAME": "Ada"}})
    lists.update_list_member(LIST, ADA, {"merge_fields": {"FNAME": "Ada"}})
    for status in ("transactional", "unsubscribed", "cleaned"):
        body = {"email_address": f"{status}@abel.net", "status_if_new": status}
        lists.set_list_member(LIST, body["email_address"], body)
    remote.flush()
    assert receiver.types() == ["profile"]


def test_a_pending_member_is_told_when_they_confirm(remote, receiver, hook):
    remote.settings(double_optin=True)
    remote.act(ADA, "subscribe")
    assert remote.deliveries() == {"pending": [], "done": []}
    remote.act(ADA, "confirm")
    remote.flush()
    assert receiver.types() == ["subscribe"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("user", ["unsubscribe", "cleaned"]),
        ("admin", ["unsubscribe", "cleaned"]),
        ("api", ["subscribe", "subscribe", "profile", "cleaned"]),
    ],
)
def test_only_changes_from_the_sources_asked_for_are_told(
    remote, lists, receiver, source, expected
):
    sources = dict.fromkeys(("user", "admin", "api"), False) | {source: True}
    body = {"url": receiver.url, **EVERYTHING, "sources": sources}
    lists.create_list_webhook(LIST, body)
    members = [{"email_address": email, "status": "subscribed"} for email in (ADA, BEN)]
    lists.batch_list_members(LIST, {"members": members})
    lists.update_list_member(LIST, ADA, {"merge_fields": {"FNAME": "Ada"}})
    remote.act(ADA, "unsubscribe")
    remote.act(BEN, "unsubscribe", by="marketer")
    remote.seed("eva@evans.net")
    remote.act("eva@evans.net", "clean")
    remote.flush()
    assert receiver.types() == expected


def test_a_refused_delivery_is_repeated_until_it_is_accepted(remote, receiver, hook):
    receiver.answers = [500, 302]
    remote.act(ADA, "subscribe")
    assert remote.flush()["delivered"] == 1
    bodies = [body for _, body in receiver.posts()]
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    [delivery] = remote.deliveries()["done"]
    assert [delivery[key] for key in ("type", "url", "tries", "last_status", "state")] == [
        *("subscribe", receiver.url),
        *(3, 200, "delivered"),
    ]


def test_a_delivery_that_is_never_accepted_is_given_up(remote, receiver, hook):
    receiver.answers = [503, 503, 503]
    remote.act(ADA, "subscribe")
    assert remote.flush() == {"delivered": 0, "failed": 1, "dropped": 0, "pending": 0}
    remote.act(BEN, "subscribe")
    assert remote.flush()["delivered"] == 1
    assert [form["data[email]"] for form in receiver.forms()] == [ADA, ADA, ADA, BEN]


def test_a_late_answer_counts_as_none_and_delays_no_call(remote, lists, receiver, hook):
    remote.settings(webhook_timeout_seconds=30, webhook_retry_seconds=[])
    with receiver.held():
        remote.act(BEN, "subscribe")
        lists.get_list_member(LIST, BEN)
        assert receiver.answered == 1, "the webhook's creation; the call did not wait for more"
    assert remote.flush()["delivered"] == 1
    remote.settings(webhook_timeout_seconds=0.3, webhook_retry_seconds=[])
    with receiver.held():
        remote.act(ADA, "subscribe")
        assert remote.flush()["failed"] == 1
    _, delivery = remote.deliveries()["done"]
    assert (delivery["last_status"], delivery["last_error"]) == (0, "timeout")


def test_what_cannot_be_delivered_yet_is_pending(remote, receiver, hook):
    remote.settings(webhook_retry_seconds=[60])
    receiver.answers = [500]
    remote.act(ADA, "subscribe")
    assert remote.flush(0.3)["pending"] == 1
    [delivery] = remote.deliveries()["pending"]
    assert (delivery["tries"], delivery["last_status"]) == (1, 500)
    remote.reset()
    assert remote.deliveries() == {"pending": [], "done": []}


def test_every_nth_webhook_comes_twice_and_order_can_be_lost(remote, receiver, hook):
    remote.settings(webhook_duplicate_every=3, webhook_shuffle=True)
    emails = [f"m{number}@abel.net" for number in range(6)]
    for email in emails:
        remote.act(email, "subscribe")
    assert remote.flush()["delivered"] == 8
    got = [form["data[email]"] for form in receiver.forms()]
    assert sorted(got) == sorted([*emails, emails[2], emails[5]])
    assert list(dict.fromkeys(got)) != emails


@pytest.mark.parametrize("pauses", [["soon"], [-1], "10", None, [True]])
def test_retries_are_given_in_seconds(remote, pauses):
    with pytest.raises(ValueError, match="webhook_retry_seconds"):
        remote.settings(webhook_retry_seconds=pauses)


def test_webhooks_survive_a_stop_of_the_sandbox(tmp_path, receiver):
    app = create_app()
    with serving_in_thread({"app": app}) as urls:
        hook = official_client(urls["app"]).lists.create_list_webhook(
            LIST, {"url": receiver.url, **EVERYTHING}
        )
        Remote(urls["app"]).act(ADA, "subscribe")
        Remote(urls["app"]).flush()
    memory.save(tmp_path / "state", {"mailchimp": app.remembers})
    app = create_app()
    memory.load(tmp_path / "state", {"mailchimp": app.remembers})
    with serving_in_thread({"app": app}) as urls:
        Remote(urls["app"]).act(ADA, "unsubscribe")
        Remote(urls["app"]).flush()
    assert receiver.types() == ["subscribe", "unsubscribe"]
    for headers, body in receiver.posts():
        assert headers["X-Mailchimp-Signature"] == signature(hook["signing_secret"], headers, body)


def test_a_delivery_under_way_does_not_hold_up_the_end_of_the_sandbox(receiver):
    with receiver.held():
        receiver.released.set()
        with serving_in_thread({"app": create_app()}) as urls:
            official_client(urls["app"]).lists.create_list_webhook(
                LIST, {"url": receiver.url, **EVERYTHING}
            )
            receiver.released.clear()
            Remote(urls["app"]).act(ADA, "subscribe")
            while not receiver.posts():
                time.sleep(0.01)
        assert receiver.answered == 1, "the webhook's creation"


def test_the_address_is_called_with_its_query(remote, hook, receiver):
    remote.act(ADA, "subscribe")
    remote.flush()
    assert receiver.paths == ["/hook?secret=s"] * 2


def test_webhooks_keep_the_contract(remote, prism_proxy, receiver):
    client = official_client(prism_proxy.url)
    before = prism_proxy.violations()
    hook = client.lists.create_list_webhook(LIST, {"url": receiver.url, **EVERYTHING})
    client.lists.get_list_webhooks(LIST)
    client.lists.get_list_webhook(LIST, hook["id"])
    client.lists.update_list_webhook(LIST, hook["id"], {"sources": {"api": False}})
    again = requests.post(
        f"{prism_proxy.url}/3.0/lists/{LIST}/webhooks",
        json={"url": receiver.url, **EVERYTHING},
        auth=("x", KEY),
    )
    assert (again.status_code, "sl-violations" in again.headers) == (400, False)
    client.lists.delete_list_webhook(LIST, hook["id"])
    assert prism_proxy.violations() == before
