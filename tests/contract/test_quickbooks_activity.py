"""What writing activity back asks of QuickBooks: notes, attachments, batches of both."""

import pytest
import requests
from quickbooks.batch import batch_create, batch_update
from quickbooks.objects import Attachable, Customer

from sandbox.quickbooks import limits
from sandbox.quickbooks.app import create_app
from sandbox.quickbooks.limits import Limits
from tests.contract.conftest import QuickBooksSandbox
from tests.contract.test_quickbooks_client import note_on, qb  # noqa: F401 - a fixture

ON_AMY = "AttachableRef.EntityRef.Type = 'customer' AND AttachableRef.EntityRef.value = '1'"
TORTURE = "Rang \U0001f600 \r\n\tcalls back\r\n\r\n--- a block ---\n\u00e9\u4e2d \u201cso\u201d  \n"


def link(customer_id):
    return [{"EntityRef": {"type": "Customer", "value": customer_id}, "IncludeOnSend": False}]


def notes(customer_id, text, sync_token="0"):
    return {"Id": customer_id, "SyncToken": sync_token, "sparse": True, "Notes": text}


def item(number, operation, **entity):
    return {"bId": str(number), "operation": operation, **entity}


def batch(quickbooks, *items, **params):
    answer = quickbooks.post("batch", {"BatchItemRequest": list(items)}, **params)
    assert answer.status_code == 200
    return answer.json()["BatchItemResponse"]


def fault_of(answer):
    return answer["Fault"]["Error"][0]["code"]


def test_a_public_client_creates_updates_and_finds_notes_in_batches(qb):  # noqa: F811
    made = batch_create([note_on("Customer", "1", f"note {n}") for n in range(3)], qb=qb).successes
    for attachable in made:
        attachable.Note += " again"
    changed = batch_update(made, qb=qb).successes
    assert [each.SyncToken for each in changed] == ["1", "1", "1"]
    found = Attachable.where(ON_AMY, qb=qb)
    assert sorted(each.Note for each in found) == [f"note {n} again" for n in range(3)]


def test_a_public_client_keeps_notes_byte_for_byte(qb):  # noqa: F811
    customer = Customer.get(2, qb=qb)
    customer.Notes = TORTURE
    customer.save(qb=qb)
    assert Customer.get(2, qb=qb).Notes == TORTURE


def test_notes_come_back_byte_for_byte_from_every_endpoint(quickbooks):
    written = quickbooks.post("customer", notes("2", TORTURE)).json()["Customer"]
    queried = quickbooks.query("select * from Customer where Id = '2'").json()["QueryResponse"]
    changed = quickbooks.get("cdc", entities="Customer", changedSince="2026-01-01").json()
    for customer in (
        written,
        quickbooks.get("customer/2").json()["Customer"],
        queried["Customer"][0],
        changed["CDCResponse"][0]["QueryResponse"][0]["Customer"][-1],
        quickbooks.control.get("customers/2"),
    ):
        assert customer["Notes"] == TORTURE


@pytest.mark.parametrize("text", ["x" * 2000, "\U0001f600" * 1000, "\r\n" * 1000, "\u4e2d" * 2000])
def test_two_thousand_utf16_units_fit(quickbooks, text):
    assert quickbooks.post("customer", notes("2", text)).json()["Customer"]["Notes"] == text
    note = quickbooks.post("attachable", {"Note": text, "AttachableRef": link("2")}).json()
    assert note["Attachable"]["Note"] == text


@pytest.mark.parametrize("text", ["x" * 2001, "\U0001f600" * 1000 + "x"])
def test_one_unit_more_is_refused_with_2050(quickbooks, text):
    for path, field, body in (
        ("customer", "Notes", notes("2", text)),
        ("attachable", "Note", {"Note": text, "AttachableRef": link("2")}),
    ):
        answer = quickbooks.post(path, body)
        error = answer.json()["Fault"]["Error"][0]
        assert (answer.status_code, error["code"], error["element"]) == (400, "2050", field)
        assert error["Detail"].endswith("Max:2000 supported. Supplied length:2001")
    assert quickbooks.control.get("customers/2")["SyncToken"] == "0"


def test_half_an_emoji_is_refused_with_2010(quickbooks):
    body = '{"Id":"2","SyncToken":"0","sparse":true,"Notes":"\\ud83d"}'
    answer = quickbooks.session.post(f"{quickbooks.company_url}/customer", data=body, timeout=10)
    assert (answer.status_code, fault_of(answer.json())) == (400, "2010")


def test_a_sparse_update_of_a_note_keeps_its_links_and_a_full_one_drops_them(quickbooks):
    made = quickbooks.post("attachable", {"Note": "a", "AttachableRef": link("1")}).json()
    change = {"Id": made["Attachable"]["Id"], "SyncToken": "0", "Note": "b"}
    sparse = quickbooks.post("attachable", change | {"sparse": True}).json()["Attachable"]
    assert (sparse["Note"], sparse["SyncToken"], sparse["sparse"]) == ("b", "1", False)
    assert sparse["AttachableRef"] == made["Attachable"]["AttachableRef"]
    full = quickbooks.post("attachable", change | {"SyncToken": "1"}).json()["Attachable"]
    assert "AttachableRef" not in full
    query = quickbooks.query(f"select * from Attachable where {ON_AMY}")
    assert query.json()["QueryResponse"] == {}


def test_a_note_can_move_to_another_customer(quickbooks):
    made = quickbooks.post("attachable", {"Note": "a", "AttachableRef": link("1")}).json()
    moved = {"Id": made["Attachable"]["Id"], "SyncToken": "0", "sparse": True}
    quickbooks.post("attachable", moved | {"AttachableRef": link("2")})
    query = f"select * from Attachable where {ON_AMY}"
    assert quickbooks.query(query).json()["QueryResponse"] == {}
    there = quickbooks.query(query.replace("'1'", "'2'")).json()["QueryResponse"]["Attachable"]
    assert [(each["Note"], each["AttachableRef"]) for each in there] == [("a", link("2"))]


def test_a_batch_updates_customers_and_notes_with_a_fault_for_each_that_is_stale(quickbooks):
    made = quickbooks.post("attachable", {"Note": "a", "AttachableRef": link("1")}).json()
    note = {"Id": made["Attachable"]["Id"], "sparse": True}
    quickbooks.control.patch("customers/3", GivenName="Gracie")
    answers = batch(
        quickbooks,
        item(1, "update", Customer=notes("2", "fresh")),
        item(2, "update", Customer=notes("3", "stale")),
        item(3, "update", Attachable=note | {"SyncToken": "0", "Note": "b"}),
        item(4, "update", Attachable=note | {"SyncToken": "0", "Note": "c"}),
        item(5, "create", Attachable={"Note": "d", "AttachableRef": link("999")}),
        item(6, "create", Attachable={"Note": "e", "AttachableRef": link("3")}),
        item(7, "update", Customer=notes("4", "x" * 2001)),
        item(8, "update", Customer=notes("999", "x")),
        item(9, "create", Attachable={"Note": "f", "AttachableRef": "1"}),
        requestid="mixed",
    )
    faults = {each["bId"]: fault_of(each) for each in answers if "Fault" in each}
    expected = {"2": "5010", "4": "5010", "5": "6000", "7": "2050", "8": "610", "9": "2010"}
    assert faults == expected
    assert [each["bId"] for each in answers] == list("123456789")
    assert quickbooks.control.get("customers/2")["Notes"] == "fresh"
    assert "Notes" not in quickbooks.control.get("customers/3")
    stored = quickbooks.control.get("attachables")["attachables"]
    assert [each["Note"] for each in stored] == ["b", "e"]


def test_a_repeated_batch_gets_its_first_answer_whatever_happened_since(quickbooks):
    items = [
        item(1, "update", Customer=notes("2", "mine")),
        item(2, "create", Attachable={"Note": "n", "AttachableRef": link("2")}),
        item(3, "update", Customer=notes("3", "stale", "9")),
    ]
    first = batch(quickbooks, *items, requestid="b-1")
    quickbooks.control.patch("customers/2", Notes="theirs")
    gone = {"Id": first[1]["Attachable"]["Id"], "SyncToken": "0"}
    quickbooks.post("attachable", gone, operation="delete")
    quickbooks.control.patch("customers/3", Active=False)
    assert batch(quickbooks, *items, requestid="b-1") == first
    assert quickbooks.control.get("customers/2")["Notes"] == "theirs"
    assert quickbooks.control.get("attachables")["attachables"] == []


def test_a_repeated_note_is_not_written_twice(quickbooks):
    body = {"Note": "n", "AttachableRef": link("1")}
    answers = [quickbooks.post("attachable", body, requestid="a-1").json() for _ in range(2)]
    assert answers[0]["Attachable"] == answers[1]["Attachable"]
    assert len(quickbooks.control.get("attachables")["attachables"]) == 1


def test_an_inactive_customer_takes_no_update_that_does_not_say_whether_it_is_active(quickbooks):
    quickbooks.control.patch("customers/2", Active=False)
    refused = quickbooks.post("customer", notes("2", "x", "1"))
    assert (refused.status_code, fault_of(refused.json())) == (400, "610")
    answers = batch(quickbooks, item(1, "update", Customer=notes("2", "x", "1")))
    assert fault_of(answers[0]) == "610"
    kept = quickbooks.post("customer", notes("2", "x", "1") | {"Active": False}).json()["Customer"]
    assert (kept["Notes"], kept["Active"]) == ("x", False)
    back = quickbooks.post("customer", notes("2", "y", "2") | {"Active": True}).json()["Customer"]
    assert (back["Notes"], back["DisplayName"]) == ("y", "Bill's Windsurf Shop")


def test_inactive_customers_can_be_set_to_take_updates(quickbooks):
    quickbooks.control.put("settings", inactive_refuses_updates=False)
    quickbooks.control.patch("customers/2", Active=False)
    answer = quickbooks.post("customer", notes("2", "x", "1")).json()["Customer"]
    assert (answer["Notes"], answer["Active"]) == ("x", False)


def test_the_journal_tells_which_customers_each_call_wrote(quickbooks):
    batch(
        quickbooks,
        item(1, "update", Customer=notes("2", "x")),
        item(2, "create", Attachable={"Note": "n", "AttachableRef": link("3")}),
    )
    quickbooks.post("customer", notes("4", TORTURE))
    first, second = quickbooks.control.get("journal", write="true")["calls"]
    customer, attachable = first["body"]["BatchItemRequest"]
    assert customer["Customer"]["Id"] == "2"
    assert attachable["Attachable"]["AttachableRef"][0]["EntityRef"]["value"] == "3"
    assert second["body"] == notes("4", TORTURE)


def test_a_41st_batch_in_a_minute_is_throttled_and_other_calls_are_not(serve, monkeypatch):
    monkeypatch.setattr(limits, "PER_SECOND", 1000)
    monkeypatch.setattr(limits, "AT_ONCE", 1000)
    quickbooks = QuickBooksSandbox(serve(create_app()), requests.Session())
    token = quickbooks.refresh().json()["access_token"]
    quickbooks.session.headers.update(
        {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    )
    quickbooks.control.put("settings", enforce_limits=True)
    body = {"BatchItemRequest": [{"bId": "1", "Query": "select Id from Customer"}]}
    statuses = [quickbooks.post("batch", body).status_code for _ in range(41)]
    assert statuses == [200] * 40 + [429]
    assert quickbooks.get("customer/1").status_code == 200


def test_batches_are_let_through_again_after_a_minute():
    now = [0.0]
    window = Limits(lambda: now[0], lambda: 0)
    for second in range(40):
        now[0] = float(second)
        assert window.admit(batch=True)
    assert not window.admit(batch=True)
    now[0] = 60.5
    assert window.admit(batch=True)
