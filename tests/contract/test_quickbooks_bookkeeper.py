"""The bookkeeper: edits as a person does, and a ledger that shows whether one was lost."""

import time
from random import Random

import pytest
import requests

from sandbox.quickbooks import person_notes
from sandbox.quickbooks.customer_fields import length

BLOCK = "--- from the app ---\r\nopened \U0001f600\tclicked\r\n--- end ---"


def notes_of(quickbooks, customer_id):
    return quickbooks.control.get(f"customers/{customer_id}").get("Notes", "")


def edit(quickbooks, count=1, seed=1, **order):
    return quickbooks.control.post("bookkeeper/edit", count=count, seed=seed, **order)["edits"]


def desk(quickbooks):
    return quickbooks.control.get("bookkeeper")


def assert_nothing_lost(quickbooks):
    state = desk(quickbooks)
    assert (state["lost"], state["missing"]) == ([], [])
    for customer_id, values in state["ledger"].items():
        stored = quickbooks.control.get(f"customers/{customer_id}")
        for name, value in values.items():
            assert value in stored[name] if name == "Notes" else value == stored[name]


def sync_tokens(quickbooks):
    customers = quickbooks.control.get("customers")["customers"]
    return sum(int(each["SyncToken"]) for each in customers)


def test_every_edit_is_one_field_and_raises_the_sync_token(quickbooks):
    before = sync_tokens(quickbooks)
    assert edit(quickbooks, 300) == 300
    assert sync_tokens(quickbooks) == before + 300
    assert desk(quickbooks)["edits"] == 300
    assert_nothing_lost(quickbooks)


def test_the_same_seed_makes_the_same_edits(quickbooks):
    edit(quickbooks, 50, seed=7)
    first = desk(quickbooks)["ledger"]
    quickbooks.control.post("reset")
    edit(quickbooks, 50, seed=7)
    assert desk(quickbooks)["ledger"] == first


def test_only_the_customers_and_fields_asked_for_are_edited(quickbooks):
    edit(quickbooks, 20, customers=["2", 3], fields=["GivenName", "PrimaryEmailAddr"])
    ledger = desk(quickbooks)["ledger"]
    assert set(ledger) == {"2", "3"}
    assert {name for values in ledger.values() for name in values} == {
        "GivenName",
        "PrimaryEmailAddr",
    }


@pytest.mark.parametrize(
    "stands", [BLOCK, f"Older note\n\n{BLOCK}\nunder it", "Ends in blanks \t\r\n"]
)
def test_what_others_wrote_in_notes_is_left_where_it_is(quickbooks, stands):
    quickbooks.control.patch("customers/2", Notes=stands)
    edit(quickbooks, 200, customers=["2"], fields=["Notes"])
    own = desk(quickbooks)["ledger"]["2"]["Notes"]
    assert notes_of(quickbooks, "2") in {f"{own}\n{stands}", f"{stands}\n{own}"}
    assert length(own) <= 600


def test_a_block_that_moves_in_later_is_left_too(quickbooks):
    edit(quickbooks, customers=["2"], fields=["Notes"])
    own = desk(quickbooks)["ledger"]["2"]["Notes"]
    quickbooks.control.patch("customers/2", Notes=f"{BLOCK}\n{own}\n{BLOCK}")
    edit(quickbooks, 30, seed=2, customers=["2"], fields=["Notes"])
    own = desk(quickbooks)["ledger"]["2"]["Notes"]
    assert notes_of(quickbooks, "2") == f"{BLOCK}\n{own}\n{BLOCK}"
    assert_nothing_lost(quickbooks)


def test_full_notes_take_no_more(quickbooks):
    quickbooks.control.patch("customers/2", Notes="x" * 1995)
    assert edit(quickbooks, 3, customers=["2"], fields=["Notes"]) == 0
    assert notes_of(quickbooks, "2") == "x" * 1995
    assert desk(quickbooks)["refused"] == 60


def test_the_persons_text_has_emoji_tabs_and_both_line_ends_and_never_a_block():
    random, own, seen = Random(3), "", ""
    for number in range(500):
        own = person_notes.altered(own, random, number)
        seen += own
        assert 0 < length(own) <= 600
        assert not any(line.startswith("--- ") for line in own.splitlines())
    assert all(text in seen for text in ("\U0001f600", "\u200d", "\t", "\r\n", "\n\n", "お客様"))


@pytest.mark.parametrize(
    ("name", "destroyed"),
    [("Notes", BLOCK), ("DisplayName", "Somebody"), ("BillAddr", {"City": "Elsewhere"})],
)
def test_a_destroyed_edit_is_missing_at_once_and_lost_when_the_person_comes_back(
    quickbooks, name, destroyed
):
    edit(quickbooks, customers=["2"], fields=[name])
    expected = desk(quickbooks)["ledger"]["2"][name]
    quickbooks.control.patch("customers/2", **{name: destroyed})
    entry = {"customer": "2", "field": name, "expected": expected}
    state = desk(quickbooks)
    assert [each | {"found": None} for each in state["missing"]] == [entry | {"found": None}]
    assert state["lost"] == []
    edit(quickbooks, seed=2, customers=["2"], fields=[name])
    state = desk(quickbooks)
    assert [each | {"found": None} for each in state["lost"]] == [entry | {"found": None}]
    assert state["missing"] == []


def test_inactive_and_merged_customers_are_left_alone(quickbooks):
    edit(quickbooks, 10, customers=["2", "3"])
    quickbooks.control.patch("customers/2", Active=False)
    quickbooks.control.post("customers/merge", survivor="1", loser="3")
    assert edit(quickbooks, 10, seed=2, customers=["2"]) == 0
    assert desk(quickbooks)["missing"] == []


def test_the_bookkeeper_works_beside_an_app_that_rereads_and_nobody_loses(quickbooks):
    started = quickbooks.control.post("bookkeeper/start", count=3, edits_per_second=400, seed=5)
    assert started == {"running": True, "customers": 3}
    conflicts, until = 0, time.monotonic() + 1.5
    while time.monotonic() < until:
        customer = quickbooks.get("customer/1").json()["Customer"]
        others = customer.get("Notes", "").split("\n--- app")[0]
        block = f"\n--- app {time.monotonic()}\nx\n--- "
        body = {name: customer[name] for name in ("Id", "SyncToken")} | {"sparse": True}
        if "--- app" not in customer.get("Notes", ""):
            answer = quickbooks.post("customer", body | {"Notes": others + block})
        else:
            answer = quickbooks.post("customer", body | {"Title": str(time.monotonic())[-9:]})
        if answer.status_code == 400:
            assert answer.json()["Fault"]["Error"][0]["code"] == "5010"
            conflicts += 1
    edits = quickbooks.control.post("bookkeeper/stop")["edits"]
    assert edits > 100
    assert conflicts > 0
    assert "--- app" in notes_of(quickbooks, "1")
    assert_nothing_lost(quickbooks)
    assert not desk(quickbooks)["running"]
    time.sleep(0.1)
    assert desk(quickbooks)["edits"] == edits


def test_a_new_company_or_a_reset_sends_the_bookkeeper_home(quickbooks):
    for path, body in (("company", {"customers": 5}), ("reset", {})):
        quickbooks.control.post("bookkeeper/start", edits_per_second=1000)
        time.sleep(0.05)
        quickbooks.control.post(path, **body)
        state = desk(quickbooks)
        assert (state["running"], state["edits"], state["ledger"]) == (False, 0, {})


@pytest.mark.parametrize(
    "order",
    [
        {"customers": ["999"]},
        {"customers": []},
        {"fields": ["Balance"]},
        {"fields": []},
        {"edits_per_second": 0},
        {"speed": 1},
    ],
)
def test_orders_that_make_no_sense_are_refused(quickbooks, order):
    url = f"{quickbooks.url}/_sandbox/bookkeeper/start"
    assert requests.post(url, json=order, timeout=10).status_code == 400
    assert not desk(quickbooks)["running"]


def test_a_bookkeeper_at_work_is_not_started_twice(quickbooks):
    quickbooks.control.post("bookkeeper/start", edits_per_second=1)
    url = f"{quickbooks.url}/_sandbox/bookkeeper/start"
    assert requests.post(url, json={}, timeout=10).status_code == 400
