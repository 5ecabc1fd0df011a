"""Faults on demand, as a client over real HTTP meets them."""

import threading
import time

import pytest
import requests

CUSTOMER = {"DisplayName": "Fault Test"}


def fault(quickbooks, action, match=None, **when):
    quickbooks.control.post("faults", action=action, match=match or {"path": "/v3/"}, **when)


def names(quickbooks):
    return quickbooks.control.get("customers", name="fault test")["total"]


@pytest.mark.parametrize(("expected", "when"), [(0, "before"), (1, "after")])
def test_a_dropped_connection_has_or_has_not_applied_the_call(quickbooks, expected, when):
    fault(quickbooks, {"kind": "drop", "when": when}, times=1)
    with pytest.raises(requests.ConnectionError):
        quickbooks.post("customer", CUSTOMER, requestid="r-1")
    assert names(quickbooks) == expected
    call = quickbooks.control.get("journal", write="true")["calls"][-1]
    assert (call["applied"], call["status"]) == (when == "after", None)
    replayed = quickbooks.post("customer", CUSTOMER, requestid="r-1")
    assert (replayed.status_code, names(quickbooks)) == (200, 1)


def test_a_dropped_refresh_has_rotated_the_token(quickbooks):
    quickbooks.control.put("settings", rotate="always")
    fault(quickbooks, {"kind": "drop", "when": "after"}, {"path": "tokens/bearer"}, times=1)
    with pytest.raises(requests.ConnectionError):
        quickbooks.refresh()
    assert quickbooks.refresh().json()["error"] == "invalid_grant"


@pytest.mark.parametrize(("expected", "kind"), [(0, "hang"), (1, "delay")])
def test_a_call_timed_out_has_or_has_not_been_applied(quickbooks, expected, kind):
    fault(quickbooks, {"kind": kind, "seconds": 0.6}, times=1)
    with pytest.raises(requests.ReadTimeout):
        quickbooks.session.post(f"{quickbooks.company_url}/customer", json=CUSTOMER, timeout=0.2)
    time.sleep(0.6)
    assert names(quickbooks) == expected


@pytest.mark.parametrize("kind", ["hang", "delay"])
def test_a_patient_client_gets_its_answer_late(quickbooks, kind):
    fault(quickbooks, {"kind": kind, "seconds": 0.2}, times=1)
    answer = quickbooks.get("customer/1")
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= 0.2


def test_a_status_comes_with_its_headers_and_body_and_applies_nothing(quickbooks):
    action = {"kind": "status", "status": 429, "headers": {"Retry-After": "7"}, "body": {"a": 1}}
    fault(quickbooks, action)
    answer = quickbooks.post("customer", CUSTOMER)
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()) == (
        429,
        "7",
        {"a": 1},
    )
    assert names(quickbooks) == 0


def test_an_html_page_comes_as_html(quickbooks):
    fault(quickbooks, {"kind": "html", "status": 503})
    answer = quickbooks.get("customer/1")
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")


def test_a_fault_can_come_in_a_200(quickbooks):
    body = {"Fault": {"Error": [{"code": "10000"}], "type": "SystemFault"}}
    fault(quickbooks, {"kind": "body", "body": body})
    answer = quickbooks.get("customer/1")
    assert (answer.status_code, answer.json()) == (200, body)


def test_truncated_json_does_not_parse(quickbooks):
    fault(quickbooks, {"kind": "malformed"})
    with pytest.raises(requests.JSONDecodeError):
        quickbooks.get("customer/1").json()


@pytest.mark.parametrize(
    ("expected", "when"),
    [
        ([500, 500, 500, 500], {}),
        ([200, 500, 200, 500], {"every": 2}),
        ([500, 200, 500, 200], {"nth": [1, 3]}),
        ([500, 500, 200, 200], {"times": 2}),
    ],
)
def test_a_rule_fires_on_the_calls_it_names(quickbooks, expected, when):
    fault(quickbooks, {"kind": "status", "status": 500}, **when)
    assert [quickbooks.get("customer/1").status_code for _ in range(4)] == expected


@pytest.mark.parametrize(
    ("expected", "match"),
    [
        (500, {"method": "POST", "path": "/customer$", "body": "Fault"}),
        (500, {"query": "requestid=r-"}),
        (200, {"method": "GET"}),
        (200, {"path": "/query"}),
        (200, {"body": "Notes"}),
    ],
)
def test_a_rule_hits_only_what_it_matches(quickbooks, expected, match):
    fault(quickbooks, {"kind": "status", "status": 500}, match)
    assert quickbooks.post("customer", CUSTOMER, requestid="r-1").status_code == expected


def test_faults_are_listed_with_their_counts_and_cleared(quickbooks):
    fault(quickbooks, {"kind": "status", "status": 500}, nth=[2])
    quickbooks.get("customer/1")
    rule = quickbooks.control.get("faults")["faults"][0]
    assert (rule["matched"], rule["fired"]) == (1, 0)
    quickbooks.control.delete("faults")
    assert quickbooks.control.get("faults") == {"faults": []}


@pytest.mark.parametrize(
    "rule",
    [
        {"action": {"kind": "explode"}},
        {"action": {"kind": "drop", "when": "never"}},
        {"action": {"kind": "malformed"}, "match": {"path": "("}},
        {"action": {"kind": "malformed"}, "evry": 2},
        {"match": {}},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_the_reason(quickbooks, rule):
    answer = requests.post(f"{quickbooks.url}/_sandbox/faults", json=rule, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_latency_is_added_to_api_calls_only(quickbooks):
    quickbooks.control.put("latency", ms=400)
    answer = quickbooks.get("customer/1")
    assert answer.elapsed.total_seconds() >= 0.4
    health = requests.get(f"{quickbooks.url}/_sandbox/health", timeout=10)
    assert health.elapsed < answer.elapsed


def test_a_mid_pagination_edit_can_be_made_while_a_page_is_late(quickbooks):
    fault(quickbooks, {"kind": "delay", "seconds": 0.3}, times=1)
    pages = []
    slow = threading.Thread(target=lambda: pages.append(quickbooks.get("customer/3").json()))
    slow.start()
    time.sleep(0.1)
    quickbooks.control.patch("customers/3", Notes="meanwhile")
    slow.join()
    assert "Notes" not in pages[0]["Customer"]
