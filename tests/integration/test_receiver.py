"""The receiver over HTTP: what is proven is stored and answered 200, nothing else is."""

import random
import threading
from datetime import UTC, datetime

import pytest
import requests

from ml_connector.console.access import PREFIX as CONSOLE
from ml_connector.console.pages.setup import RETURN as CONNECTED
from ml_connector.errors import SettingsError
from ml_connector.mailchimp import webhooks as mailchimp
from ml_connector.quickbooks import webhooks as quickbooks
from ml_connector.webhooks.endpoint import PREFIX, PUBLIC_URL, public_base
from ml_connector.webhooks.receiver.keys import Keys
from ml_connector.webhooks.receiver.run_request import RunRequester
from tests.integration.company import AUDIENCE, REALM
from tests.integration.receiving import (
    KEYS,
    OTHER_REALM,
    OTHER_TOKEN,
    SECRET,
    SIGNING_SECRET,
    TOKEN,
    cloud_event,
    form,
    serving,
)


@pytest.fixture
def served(database_url):
    with serving(database_url) as running:
        yield running


@pytest.fixture
def opened(served):
    """Open a row's payload as the worker that processes it does."""
    from datetime import timedelta

    from ml_connector.vault import Vault
    from ml_connector.webhooks import inbox
    from tests.integration.receiving import KEY

    def contents() -> list[object]:
        vault = Vault(encryption_keys=[KEY], index_key=KEY)
        with served.database.begin() as connection:
            claimed = inbox.claim(connection, limit=100, lease=timedelta(minutes=1), vault=vault)
        return [event.decrypted(vault) for event in claimed]

    return contents


def test_c1_a_delivery_of_many_events_is_a_row_each(served, opened):
    events = [cloud_event(number) for number in range(100)]
    assert served.quickbooks(events).status_code == 200
    rows = served.rows()
    assert sorted(int(row.entity_id) for row in rows) == list(range(100))
    assert {(row.system, row.source, row.state, row.sync) for row in rows} == {
        ("quickbooks", REALM, "pending", None)
    }
    assert sorted(opened(), key=lambda event: int(event["intuitentityid"])) == events


def test_c1_the_former_format_is_taken_too(served):
    entity = {"name": "Customer", "operation": "Update", "lastUpdated": "2026-11-23T10:00:00-0800"}
    document = {
        "eventNotifications": [
            {
                "realmId": REALM,
                "dataChangeEvent": {"entities": [{**entity, "id": "1"}, {**entity, "id": "2"}]},
            }
        ]
    }
    assert served.quickbooks(document).status_code == 200
    assert sorted((row.kind, row.entity_id) for row in served.rows()) == [
        ("customer.updated", "1"),
        ("customer.updated", "2"),
    ]


@pytest.mark.parametrize("content_type", ["application/cloudevents+json", "text/plain", ""])
def test_the_content_type_does_not_matter(served, content_type):
    import json

    body = json.dumps([cloud_event(1)]).encode()
    headers = {"intuit-signature": quickbooks.signature(body, TOKEN).decode()}
    headers |= {"content-type": content_type} if content_type else {}
    assert served.quickbooks(body, headers=headers).status_code == 200


def test_c2_without_a_right_signature_nothing_is_stored(served):
    chance = random.Random(3)
    body = b"[]"
    right = quickbooks.signature(body, TOKEN).decode()
    wrongs = ["", right.lower(), right[:-1], right + "=", f"x{right[1:]}", "x" * 5000, TOKEN]
    wrongs += ["".join(chance.sample(right, len(right))) for _ in range(200)]
    for wrong in wrongs:
        answer = served.quickbooks(body, headers={"intuit-signature": wrong})
        assert answer.status_code == 401
    assert served.quickbooks(body, headers={"x": "y"}).status_code == 401
    assert served.quickbooks(body, token="another").status_code == 401
    assert served.rows() == []
    assert served.receiver.tally.counts["refused"] == len(wrongs) + 2


def test_c3_mailchimp_has_to_know_the_secret_and_signs_where_it_can(served):
    assert served.mailchimp(form()).status_code == 200
    assert served.mailchimp(form(id="2"), sync="signed", signed=SIGNING_SECRET).status_code == 200
    assert served.mailchimp(form(id="3"), sync="signed", signed="the one before").status_code == 200
    assert [(row.sync, row.kind, row.source, row.state) for row in served.rows()] == [
        ("main", "unsubscribe", AUDIENCE, "pending"),
        ("signed", "unsubscribe", AUDIENCE, "pending"),
        ("signed", "unsubscribe", AUDIENCE, "pending"),
    ]


@pytest.mark.parametrize(
    "delivery",
    [
        {"query": ""},
        {"query": "secret="},
        {"query": f"secret={SECRET}x"},
        {"query": f"Secret={SECRET}"},
        {"query": f"secret={SECRET}&secret=x"},
        {"query": "&" * 30_000},
        {"sync": "unknown"},
        {"sync": "unset", "query": "secret="},
        {"sync": "signed"},
        {"sync": "signed", "signed": "wrong"},
        {"sync": "signed", "headers": {"X-Mailchimp-Signature": "t=1,v1=00"}},
        {"sync": "signed", "signed": SIGNING_SECRET, "query": "secret=x"},
    ],
)
def test_c3_otherwise_it_is_refused_and_nothing_is_stored(served, delivery):
    assert served.mailchimp(form(), **delivery).status_code in {401, 400, 414}
    assert served.rows() == []


def test_c3_a_signature_older_than_300_seconds_is_refused(served):
    for age, status in ((290, 200), (310, 401)):
        then = int(datetime.now(UTC).timestamp()) - age
        headers = {"X-Mailchimp-Signature": mailchimp.signature(form(), SIGNING_SECRET, then)}
        assert served.mailchimp(form(), sync="signed", headers=headers).status_code == status


def test_c4_mailchimps_look_whether_somebody_is_there_is_answered(served):
    url = f"{served.url}{PREFIX}/mailchimp/main?secret={SECRET}"
    agent = {"user-agent": "MailChimp.com WebHook Validator"}
    assert requests.get(url, headers=agent, timeout=10).status_code == 200
    assert requests.head(url, headers=agent, timeout=10).status_code == 200
    assert requests.post(url, headers=agent, timeout=10).status_code == 200
    assert served.rows() == []


@pytest.mark.parametrize(
    ("state", "reason", "events"),
    [
        ("quarantined", "not_json", b"hello"),
        ("quarantined", "not_json", b'{"a":' * 200_000),
        ("quarantined", "not_json", b"[" * 1_000_000),
        ("quarantined", "unknown_format", b"{}"),
        ("quarantined", "unknown_realm", [cloud_event(1, intuitaccountid=OTHER_REALM)]),
        ("quarantined", "unknown_realm", [cloud_event(1, intuitaccountid="\x00")]),
        ("quarantined", "no_id", [cloud_event(1, intuitentityid="\x00" * 9000)]),
        ("ignored", "entity_not_used", [cloud_event(1, type="qbo.invoice.created.v1")]),
    ],
)
def test_c6_what_quickbooks_signed_is_stored_whatever_it_is(served, state, reason, events):
    assert served.quickbooks(events).status_code == 200
    assert [(row.state, row.reason) for row in served.rows()] == [(state, reason)]
    assert served.rows()[0].settled_at is not None


def test_c6_a_token_speaks_for_its_own_companies_only(served):
    event = cloud_event(1, intuitaccountid=OTHER_REALM)
    assert served.quickbooks([event]).status_code == 200
    assert served.quickbooks([cloud_event(2, intuitaccountid=OTHER_REALM)], token=OTHER_TOKEN).ok
    assert [row.state for row in served.rows()] == ["quarantined", "pending"]


def test_c6_another_audience_or_two_million_fields_are_kept_aside(served):
    assert served.mailchimp(form(list_id="other")).status_code == 200
    assert served.mailchimp(b"a&" * 500_000).status_code == 200
    assert [row.reason for row in served.rows()] == ["unknown_audience", "not_a_form"]


def test_c7_a_delivery_repeated_is_answered_200_and_stored_once(served):
    event = cloud_event(1)
    for _ in range(3):
        assert served.quickbooks([event]).status_code == 200
        assert served.mailchimp(form()).status_code == 200
    assert served.quickbooks([event, cloud_event(2)]).status_code == 200
    assert len(served.rows()) == 3


def test_without_keys_everything_is_refused_and_the_log_says_what_to_set(database_url, capfd):
    keys = Keys(fixes={"quickbooks": "set the verifier token", "main": "run register-webhooks"})
    with serving(database_url, keys=keys) as served:
        assert served.quickbooks([cloud_event(1)]).status_code == 401
        assert served.quickbooks([cloud_event(1)], token="").status_code == 401
        assert served.rows() == []
    assert "set the verifier token" in "".join(capfd.readouterr())


def test_nothing_else_is_there(served):
    prefix = f"{served.url}{PREFIX}"
    for path in ("/docs", "/openapi.json", "/redoc", "", "/", "/mailchimp", "/mailchimp/", "/x"):
        assert requests.get(prefix + path, timeout=10).status_code == 404, path
    assert requests.get(f"{served.url}/docs", timeout=10).status_code == 404
    assert requests.get(f"{prefix}/quickbooks", timeout=10).status_code == 405
    assert requests.delete(f"{prefix}/mailchimp/main", timeout=10).status_code == 405


def test_the_response_waits_for_no_run_and_fails_with_none(database_url):
    go, requested = threading.Event(), threading.Semaphore(0)

    def request() -> bool:
        requested.release()
        go.wait(60)
        raise OSError("whatever becomes of it")

    requester = RunRequester(request)
    with serving(database_url, stored=requester) as served:
        assert served.quickbooks([cloud_event(1)]).status_code == 200
        assert requested.acquire(timeout=30)
        assert served.mailchimp(form()).status_code == 200  # while the first request hangs
        assert len(served.rows()) == 2
        go.set()
        assert served.quickbooks([cloud_event(2)]).status_code == 200


def test_a_run_is_requested_after_the_commit_and_only_for_events_to_process(database_url):
    seen = []
    with serving(database_url, stored=lambda: seen.append(len(served.rows()))) as served:
        assert served.quickbooks([cloud_event(1), cloud_event(2)]).status_code == 200
        assert served.quickbooks([cloud_event(3, type="qbo.invoice.updated.v1")]).status_code == 200
        assert served.quickbooks([cloud_event(4)], token="wrong").status_code == 401
    assert seen == [2]


def test_health_tells_what_was_counted(served):
    served.quickbooks([cloud_event(1), cloud_event(2)])
    served.quickbooks([], token="wrong")
    answer = requests.get(f"{served.url}/health", timeout=10)
    assert answer.status_code == 200
    assert answer.json() == {"database": "ok", "accepted": 1, "events": 2, "refused": 1}


def test_no_secret_and_no_address_is_in_any_log(database_url, capfd):
    event = cloud_event(1)
    with serving(database_url) as served:
        served.quickbooks([event])
        served.quickbooks([event], token="wrong")
        served.mailchimp(form(email="grace@example.com"))
        served.mailchimp(form(), query=f"secret={SECRET}wrong")
        served.mailchimp(form(list_id="x", email="grace@example.com"), query=f"secret={SECRET}")
        served.mailchimp(form(), sync=SECRET)
        with served.open_socket() as raw:
            raw.sendall(f"POST {PREFIX}/mailchimp/main?secret={SECRET} NONSENSE\r\n\r\n".encode())
            raw.recv(100)
    said = "".join(capfd.readouterr())
    assert "webhooks_not_taken" in said
    for hidden in (TOKEN, SECRET, SIGNING_SECRET, "grace@example.com", "ada@example.com"):
        assert hidden not in said
    assert str(KEYS).count(SECRET) == 0
    assert str(KEYS).count(TOKEN) == 0


AIRFLOW = "http://127.0.0.1:8080"
QUERY = "?code=c0de&state=s%20s&realmId=1"
RETURNS = (CONNECTED, f"{CONNECTED}/mailchimp")


def redirected(served, path):
    return requests.get(f"{served.url}{path}", timeout=10, allow_redirects=False)


@pytest.mark.parametrize("path", RETURNS)
def test_behind_a_tunnel_a_consents_redirect_is_passed_on_to_the_console(database_url, path):
    with serving(database_url, console=AIRFLOW) as served:
        answer = redirected(served, f"{CONSOLE}/main{path}{QUERY}")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"{AIRFLOW}{CONSOLE}/main{path}{QUERY}"


@pytest.mark.parametrize(
    "path",
    [
        f"{CONSOLE}/main/setup",
        f"{CONSOLE}/main",
        f"{CONSOLE}/main/../../x{CONNECTED}",
        f"{CONSOLE}/a/b{CONNECTED}",
        "/api/v2/connections",
        "/",
    ],
)
def test_behind_a_tunnel_nothing_else_of_airflow_can_be_reached(database_url, path):
    with serving(database_url, console=AIRFLOW) as served:
        assert redirected(served, path).status_code == 404


def test_without_a_tunnel_the_receiver_tells_nobody_where_airflow_is(served):
    assert redirected(served, f"{CONSOLE}/main{CONNECTED}{QUERY}").status_code == 404


def test_the_public_address_has_to_be_https():
    assert public_base({}) == ""
    assert public_base({PUBLIC_URL: " https://hooks.example.com/ "}) == "https://hooks.example.com"
    with pytest.raises(SettingsError, match=PUBLIC_URL):
        public_base({PUBLIC_URL: "http://hooks.example.com"})
