"""The query language of the QuickBooks mock server."""

import time

import pytest


def ids(response):
    rows = response.json()["QueryResponse"].get("Customer", [])
    return [row["Id"] for row in rows]


@pytest.mark.parametrize(
    ("expected", "statement"),
    [
        (["1"], r"select * from Customer where DisplayName = 'Amy\'s Bird Sanctuary'"),
        (["1"], r"SELECT * FROM customer WHERE displayname = 'AMY\'S BIRD SANCTUARY'"),
        (["6", "5"], "select * from Customer where Id in ('5','6') orderby DisplayName desc"),
        (["5"], "select * from Customer where GivenName like 'Pet%'"),
        (["16", "18"], "select * from Customer where GivenName = 'Kathy'"),
        (
            ["16", "20"],
            "select * from Customer where PrimaryEmailAddr = 'qbwebsamplecompany@yahoo.com'",
        ),
        (["9"], "select * from Customer where FullyQualifiedName like '%:55%'"),
        (["9", "7"], "select * from Customer where Id in ('9','7','999') ORDER BY Id DESC"),
        ([], "select * from Customer where Active = false"),
        (
            ["1"],
            "select * from Customer where Id = '1' and Metadata.LastUpdatedTime > '2020-01-01'",
        ),
        (["4"], "select * from Customer maxresults 1 startposition 4"),
        ([], "select * from Customer startposition 30"),
    ],
)
def test_statements_find_what_they_say(quickbooks, expected, statement):
    assert ids(quickbooks.query(statement)) == expected


@pytest.mark.parametrize(
    ("code", "statement"),
    [
        ("4001", "select * from Custmoer"),
        ("4001", "select * from Customer where Notes = 'x'"),
        ("4001", "select * from Customer where Nickname = 'x'"),
        ("4001", "select Nickname from Customer"),
        ("4001", "select * from Customer where Id > '5'"),
        ("4001", "select * from Customer where MetaData.LastUpdatedTime > 'yesterday'"),
        ("4000", "select * from Customer where DisplayName = 'Amy''s Bird Sanctuary'"),
        ("4000", "select * from Customer where Id = '1' or Id = '2'"),
        ("4000", "select * from Customer where Id = '1"),
        ("4000", "select from Customer"),
        ("4000", "delete from Customer"),
        ("4000", "select * from Customer group by Id"),
        ("2020", ""),
    ],
)
def test_statements_that_are_refused(quickbooks, code, statement):
    response = quickbooks.query(statement)
    assert (response.status_code, response.json()["Fault"]["Error"][0]["code"]) == (400, code)


def test_a_get_answers_as_a_post_does(quickbooks):
    response = quickbooks.get("query", query="select * from Customer where Id = '1'")
    assert ids(response) == ["1"]


def test_the_same_instant_in_any_offset_finds_the_same_rows(quickbooks):
    for literal in ("2024-06-18T13:39:32-07:00", "2024-06-18T20:39:32Z", "2024-06-18T13:39:32"):
        where = f"MetaData.LastUpdatedTime = '{literal}'"
        assert ids(quickbooks.query(f"select * from Customer where {where}")) == ["1"]


def test_times_come_back_in_pacific_time(quickbooks):
    quickbooks.control.put("clock", offset_seconds=0)
    edited = quickbooks.control.patch("customers/1", Notes="x")["MetaData"]["LastUpdatedTime"]
    assert edited[-6:] in {"-07:00", "-08:00"}


def test_a_page_is_a_hundred_rows_unless_asked_and_never_more_than_a_thousand(quickbooks):
    quickbooks.control.post("company", customers=1300, seed=2)
    everyone = "select * from Customer where Active in (true, false)"
    for expected, limit in [(100, ""), (7, " maxresults 7"), (1000, " maxresults 5000")]:
        answer = quickbooks.query(everyone + limit).json()["QueryResponse"]
        assert (len(answer["Customer"]), answer["maxResults"]) == (expected, expected)
        assert "totalCount" not in answer


def test_count_obeys_the_filters(quickbooks):
    quickbooks.control.patch("customers/3", Active=False)
    for expected, where in [
        (28, ""),
        (29, " where Active in (true, false)"),
        (1, " where Active = false"),
    ]:
        answer = quickbooks.query(f"select count(*) from Customer{where}").json()
        assert answer["QueryResponse"] == {"totalCount": expected}


def test_a_projection_returns_sparse_rows(quickbooks):
    answer = quickbooks.query(
        "select Id, GivenName, MetaData.LastUpdatedTime from Customer where Id = '1'"
    ).json()
    assert answer["QueryResponse"]["Customer"] == [
        {
            "Id": "1",
            "GivenName": "Amy",
            "MetaData": {"LastUpdatedTime": "2024-06-18T13:39:32-07:00"},
            "sparse": True,
        }
    ]


def test_walking_the_update_order_page_by_page_meets_every_customer_once(quickbooks):
    quickbooks.control.post("company", customers=2500, seed=4)
    met = []
    for start in (1, 1001, 2001, 3001):
        page = quickbooks.query(
            "select Id from Customer where MetaData.LastUpdatedTime >= '2000-01-01T00:00:00Z' "
            "and Active in (true, false) "
            f"orderby MetaData.LastUpdatedTime startposition {start} maxresults 1000"
        )
        met += ids(page)
    assert len(met) == len(set(met)) == 2500


def test_a_page_of_a_thousand_out_of_many_is_quick(quickbooks):
    quickbooks.control.post("company", customers=20000, seed=1)
    statement = (
        "select * from Customer where MetaData.LastUpdatedTime >= '2000-01-01T00:00:00Z' and "
        "MetaData.LastUpdatedTime <= '2100-01-01T00:00:00Z' and Active in (true, false) "
        "orderby MetaData.LastUpdatedTime startposition 15001 maxresults 1000"
    )
    worked = time.process_time()  # the mock server is a thread of this process
    answer = quickbooks.query(statement)
    assert time.process_time() - worked < 1
    assert answer.json()["QueryResponse"]["maxResults"] == 1000


def test_the_same_seed_makes_the_same_customers(quickbooks):
    def made(seed):
        quickbooks.control.post("company", customers=200, seed=seed)
        return quickbooks.control.get("customers")

    assert made(7) == made(7)
    assert made(7) != made(8)


def test_made_up_customers_are_odd_in_every_way_that_matters(quickbooks):
    quickbooks.control.post("company", customers=1000, seed=1)
    customers = quickbooks.control.get("customers")["customers"]
    emails = [c["PrimaryEmailAddr"]["Address"] for c in customers if "PrimaryEmailAddr" in c]
    assert len(emails) < 1000
    assert len({e.casefold() for e in emails}) < len(emails)
    assert any("," in e for e in emails)
    assert any(";" in e for e in emails)
    assert any("@" not in e for e in emails)
    assert any(c["IsProject"] for c in customers)
    assert any(c["Job"] and not c["IsProject"] for c in customers)
    assert any(c["DisplayName"].endswith(" (deleted)") and not c["Active"] for c in customers)
    assert any("PostalCode" not in c.get("BillAddr", {"PostalCode": 1}) for c in customers)


CUSTOM = [{"DefinitionId": "1", "Name": "Region", "Type": "StringType", "StringValue": "North"}]


@pytest.mark.parametrize("asked", [True, False])
def test_custom_fields_come_only_if_they_are_asked_for(quickbooks, asked):
    quickbooks.control.patch("customers/1", CustomField=CUSTOM)
    params = {"include": "enhancedAllCustomFields"} if asked else {}
    found = quickbooks.query("select * from Customer where Id = '1'", **params).json()
    read = quickbooks.get("customer/1", **params).json()["Customer"]
    changed = quickbooks.get(
        "cdc", entities="Customer", changedSince="2024-01-01T00:00:00Z", **params
    )
    rows = [found["QueryResponse"]["Customer"][0], read]
    assert [row.get("CustomField") for row in rows] == [CUSTOM if asked else None] * 2
    assert "CustomField" not in changed.text
