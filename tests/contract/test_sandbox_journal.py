"""The journal: what was asked, in order, without secrets."""

import concurrent.futures
import json


def test_calls_are_journaled_in_order_with_their_bodies(quickbooks):
    quickbooks.get("customer/1", minorversion="75")
    quickbooks.post("customer", {"DisplayName": "New"}, requestid="r-1")
    read, write = quickbooks.control.get("journal")["calls"]
    assert write["seq"] == read["seq"] + 1
    assert (read["method"], read["query"], read["write"]) == ("GET", {"minorversion": "75"}, False)
    assert (write["body"], write["query"]) == ({"DisplayName": "New"}, {"requestid": "r-1"})
    assert (write["write"], write["applied"], write["status"]) == (True, True, 200)
    assert write["duration_ms"] > 0


def test_the_journal_can_be_filtered(quickbooks):
    quickbooks.get("customer/1")
    quickbooks.post("customer", {"DisplayName": "New"})
    calls = quickbooks.control.get("journal", write="true", path="/customer")["calls"]
    assert [call["method"] for call in calls] == ["POST"]
    assert quickbooks.control.get("journal", since=calls[0]["seq"])["calls"] == []


def test_queries_tokens_and_batches_of_queries_are_no_writes(quickbooks):
    quickbooks.query("select * from Customer")
    quickbooks.refresh()
    query = {"bId": "1", "Query": "select * from Customer"}
    quickbooks.post("batch", {"BatchItemRequest": [query]})
    assert [c["kind"] for c in quickbooks.control.get("journal")["calls"]] == [
        "api",
        "token",
        "api",
    ]
    assert quickbooks.control.get("journal", write="true")["calls"] == []
    create = {"bId": "2", "operation": "create", "Customer": {"DisplayName": "B"}}
    quickbooks.post("batch", {"BatchItemRequest": [query, create]})
    assert len(quickbooks.control.get("journal", write="true")["calls"]) == 1


def test_the_summary_counts_by_path_with_ids_left_out(quickbooks):
    for customer_id in ("1", "2"):
        quickbooks.get(f"customer/{customer_id}")
    quickbooks.query("select * from Customer")
    quickbooks.post("customer", {"DisplayName": "New"})
    assert quickbooks.control.get("journal/summary") == {
        "total": 4,
        "reads": 3,
        "writes": 1,
        "tokens": 0,
        "by_path": {
            "GET /v3/company/{realm}/customer/{id}": 2,
            "POST /v3/company/{realm}/query": 1,
            "POST /v3/company/{realm}/customer": 1,
        },
        "max_in_flight": 1,
    }


def test_the_most_calls_at_once_are_remembered(quickbooks):
    quickbooks.control.put("latency", ms=100)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: quickbooks.refresh(), range(4)))
    assert quickbooks.control.get("journal/summary")["max_in_flight"] == 4


def test_no_header_and_so_no_access_token_is_journaled(quickbooks):
    quickbooks.get("customer/1")
    token = quickbooks.session.headers["Authorization"].removeprefix("Bearer ")
    assert token not in json.dumps(quickbooks.control.get("journal"))


def test_control_calls_are_not_journaled_and_clearing_empties_it(quickbooks):
    quickbooks.get("customer/1")
    quickbooks.control.get("settings")
    assert len(quickbooks.control.get("journal")["calls"]) == 1
    quickbooks.control.delete("journal")
    assert quickbooks.control.get("journal")["calls"] == []


def test_a_reset_puts_everything_back(quickbooks):
    quickbooks.control.post("company", empty=True)
    quickbooks.control.put("settings", rotate="always")
    quickbooks.control.put("clock", offset_seconds=99)
    quickbooks.control.post("faults", action={"kind": "malformed"})
    quickbooks.control.post("reset")
    assert quickbooks.control.get("customers")["total"] == 29
    assert quickbooks.control.get("settings")["rotate"] == "daily"
    assert quickbooks.control.get("faults") == {"faults": []}
