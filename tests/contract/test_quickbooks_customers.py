"""Customer writes where no public client reaches: sparse updates, request ids, the bookkeeper."""

import pytest

MINE = {"Id": "2", "SyncToken": "0"}


def code_of(response):
    assert response.status_code == 400
    return response.json()["Fault"]["Error"][0]["code"]


def test_a_sparse_update_changes_only_what_it_sends(quickbooks):
    before = quickbooks.get("customer/2").json()["Customer"]
    after = quickbooks.post("customer", MINE | {"sparse": True, "Notes": "x"}).json()["Customer"]
    assert (after["SyncToken"], after["sparse"], after["Notes"]) == ("1", False, "x")
    assert after["PrimaryEmailAddr"] == before["PrimaryEmailAddr"]


def test_a_full_update_nulls_what_it_leaves_out(quickbooks):
    body = MINE | {"DisplayName": "Bill's Windsurf Shop"}
    after = quickbooks.post("customer", body).json()["Customer"]
    assert "PrimaryEmailAddr" not in after
    assert "BillAddr" not in after
    assert after["Balance"] == 85.0


@pytest.mark.parametrize("empty", ["", None])
def test_a_sparse_update_clears_a_field_sent_empty(quickbooks, empty):
    after = quickbooks.post("customer", MINE | {"sparse": True, "CompanyName": empty}).json()
    assert "CompanyName" not in after["Customer"]


def test_a_write_that_changes_nothing_leaves_the_sync_token(quickbooks):
    before = quickbooks.get("customer/2").json()["Customer"]
    same = MINE | {"sparse": True, "GivenName": "Bill"}
    assert quickbooks.post("customer", same).json()["Customer"] == before


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("5010", {"Id": "2", "SyncToken": "7", "sparse": True, "Notes": "x"}),
        ("610", {"Id": "999", "SyncToken": "0", "sparse": True, "Notes": "x"}),
        ("2020", {"Id": "2", "sparse": True, "Notes": "x"}),
        ("2030", {"Id": "1.5", "SyncToken": "0", "Notes": "x"}),
        ("6080", {"Notes": "nobody"}),
        ("2210", {"DisplayName": "A", "PrimaryEmailAddr": {"Address": "nobody"}}),
        ("2050", {"DisplayName": "A", "PrimaryPhone": {"FreeFormNumber": "1" * 31}}),
        ("2050", {"DisplayName": "A" * 501}),
        ("2020", {"DisplayName": "A", "Job": True}),
        ("610", {"DisplayName": "A", "ParentRef": {"value": "999"}}),
        ("2010", [1]),
    ],
)
def test_writes_that_are_refused(quickbooks, code, body):
    assert code_of(quickbooks.post("customer", body)) == code


def test_a_read_of_a_malformed_id_is_2030_without_a_time(quickbooks):
    answer = quickbooks.get("customer/1.5")
    assert code_of(answer) == "2030"
    assert "time" not in answer.json()


def test_the_same_request_id_replays_the_first_answer(quickbooks):
    first = quickbooks.post("customer", {"DisplayName": "Once"}, requestid="r-1").json()
    again = quickbooks.post("customer", {"DisplayName": "Once"}, requestid="r-1").json()
    assert again["Customer"] == first["Customer"]
    assert quickbooks.query("select count(*) from Customer").json() | {"time": ""} == {
        "QueryResponse": {"totalCount": 30},
        "time": "",
    }


def test_a_request_id_with_another_body_is_refused(quickbooks):
    quickbooks.post("customer", {"DisplayName": "Once"}, requestid="r-1")
    again = quickbooks.post("customer", {"DisplayName": "Twice"}, requestid="r-1")
    assert code_of(again) == "600"


def test_a_refused_write_is_not_remembered(quickbooks):
    body = MINE | {"sparse": True, "Notes": "x"}
    stale = quickbooks.post("customer", body | {"SyncToken": "9"}, requestid="r-2")
    assert code_of(stale) == "5010"
    assert quickbooks.post("customer", body, requestid="r-2").status_code == 200


def test_a_request_id_of_51_characters_is_refused(quickbooks):
    answer = quickbooks.post("customer", {"DisplayName": "A"}, requestid="r" * 51)
    assert code_of(answer) == "2130"


def test_a_job_carries_its_parents_name_through_five_levels(quickbooks):
    parent, names = "3", ["Cool Cars"]
    for name in ("L1", "L2", "L3", "L4"):
        job = {"DisplayName": name, "Job": True, "ParentRef": {"value": parent}}
        made = quickbooks.post("customer", job).json()["Customer"]
        parent = made["Id"]
        names.append(name)
        assert (made["FullyQualifiedName"], made["Level"]) == (":".join(names), len(names) - 1)
    too_deep = {"DisplayName": "L5", "Job": True, "ParentRef": {"value": parent}}
    assert code_of(quickbooks.post("customer", too_deep)) == "6180"


def test_a_job_taken_from_its_parent_is_a_customer_of_its_own(quickbooks):
    freed = quickbooks.control.patch("customers/8", ParentRef=None)
    assert (freed["Job"], freed["FullyQualifiedName"]) == (False, "0969 Ocean View Road")
    assert "Level" not in freed


def test_renaming_a_parent_renames_its_jobs_in_full(quickbooks):
    quickbooks.control.patch("customers/7", DisplayName="Freeman's")
    job = quickbooks.get("customer/8").json()["Customer"]
    assert job["FullyQualifiedName"] == "Freeman's:0969 Ocean View Road"


def test_reactivating_a_customer_takes_the_suffix_off_unless_the_name_is_taken(quickbooks):
    quickbooks.control.patch("customers/3", Active=False)
    back = quickbooks.control.patch("customers/3", Active=True)
    assert (back["DisplayName"], back["SyncToken"]) == ("Cool Cars", "2")
    quickbooks.control.patch("customers/3", Active=False)
    quickbooks.post("customer", {"DisplayName": "Cool Cars"})
    refused = MINE | {"Id": "3", "SyncToken": "3", "sparse": True, "Active": True}
    assert code_of(quickbooks.post("customer", refused)) == "6240"


def test_an_invoice_moves_the_time_but_not_the_sync_token(quickbooks):
    before = quickbooks.control.get("customers/1")
    after = quickbooks.control.post("customers/1/touch")
    assert after["MetaData"]["LastUpdatedTime"] > before["MetaData"]["LastUpdatedTime"]
    assert after["SyncToken"] == "0"
    assert before | {"MetaData": None} == after | {"MetaData": None}


def test_a_merged_customer_is_gone_and_leaves_a_tombstone(quickbooks):
    survivor = quickbooks.control.post("customers/merge", survivor="1", loser="7")
    assert survivor["SyncToken"] == "1"
    assert code_of(quickbooks.get("customer/7")) == "610"
    rows = quickbooks.query(
        "select * from Customer where Id in ('1','7') and Active in (true,false)"
    )
    assert [row["Id"] for row in rows.json()["QueryResponse"]["Customer"]] == ["1"]
    job = quickbooks.get("customer/8").json()["Customer"]
    assert job["FullyQualifiedName"] == "Amy's Bird Sanctuary:0969 Ocean View Road"
    changed = quickbooks.get("cdc", entities="Customer", changedSince="2026-01-01T00:00:00Z").json()
    tombstone = changed["CDCResponse"][0]["QueryResponse"][0]["Customer"][-1]
    assert (tombstone["Id"], tombstone["status"]) == ("7", "Deleted")


def test_cdc_without_changes_answers_an_empty_response(quickbooks):
    answer = quickbooks.get("cdc", entities="Customer", changedSince="2026-01-01T00:00:00Z").json()
    assert answer["CDCResponse"] == [{"QueryResponse": [{}]}]


def test_cdc_stops_at_a_thousand(quickbooks):
    quickbooks.control.post("company", customers=1200, seed=3)
    answer = quickbooks.get("cdc", entities="Customer", changedSince="2010-01-01").json()
    assert answer["CDCResponse"][0]["QueryResponse"][0]["maxResults"] == 1000


def test_reads_can_be_set_to_show_a_later_time_than_queries(quickbooks):
    quickbooks.control.put("settings", read_ahead_seconds=60)
    read = quickbooks.get("customer/1").json()["Customer"]["MetaData"]["LastUpdatedTime"]
    assert read == "2024-06-18T13:40:32-07:00"
    queried = quickbooks.query("select * from Customer where Id = '1'").json()
    row = queried["QueryResponse"]["Customer"][0]
    assert row["MetaData"]["LastUpdatedTime"] == "2024-06-18T13:39:32-07:00"


def test_a_note_can_be_set_to_raise_the_customers_sync_token(quickbooks):
    quickbooks.control.put("settings", attachable_bumps_customer=True)
    link = [{"EntityRef": {"type": "Customer", "value": "1"}}]
    quickbooks.post("attachable", {"Note": "n", "AttachableRef": link})
    assert quickbooks.control.get("customers/1")["SyncToken"] == "1"


def test_a_batch_mixes_queries_notes_and_updates(quickbooks):
    items = [
        {"bId": "q", "Query": "select Id from Customer where Id = '1'"},
        {"bId": "u", "operation": "update", "Customer": MINE | {"sparse": True, "Notes": "x"}},
        {
            "bId": "a",
            "operation": "create",
            "Attachable": {
                "Note": "n",
                "AttachableRef": [{"EntityRef": {"type": "Customer", "value": "1"}}],
            },
        },
        {"bId": "f", "operation": "update", "Customer": {"Id": "2", "SyncToken": "0"}},
    ]
    answer = quickbooks.post("batch", {"BatchItemRequest": items}, requestid="b-1").json()
    query, update, note, fault = answer["BatchItemResponse"]
    assert query["QueryResponse"]["Customer"] == [{"Id": "1", "sparse": True}]
    assert (update["bId"], update["Customer"]["SyncToken"]) == ("u", "1")
    assert note["Attachable"]["Note"] == "n"
    assert fault["Fault"]["Error"][0]["code"] == "5010"


def test_the_bookkeeper_edits_many_customers_at_once(quickbooks):
    quickbooks.control.post("customers/edit-many", count=3, fields={"Notes": "note {id}"})
    assert quickbooks.control.get("customers/3")["Notes"] == "note 3"
    assert "Notes" not in quickbooks.control.get("customers/4")
