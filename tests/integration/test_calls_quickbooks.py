"""Calls to QuickBooks that go wrong within a whole sync: rows D1, D2, D3, D6 of docs/reference/behaviour.md."""

from collections import Counter

import pytest

from ml_connector.errors import CredentialsError, NeedsReauth, QuotaExhausted, Unavailable
from ml_connector.quickbooks.protocol import BatchItem

QUERY = {"path": "/query$"}
UNAUTHORISED = {
    "kind": "status",
    "status": 401,
    "headers": {"intuit_tid": "1-tid"},
    "body": {
        "fault": {
            "error": [{"message": "message=AuthenticationFailed; token=eyJsecret", "code": "3200"}],
            "type": "AUTHENTICATION",
        }
    },
}


def token_calls(company) -> int:
    calls = company.every_call(company.quickbooks)
    return sum(call["kind"] == "token" for call in calls)


@pytest.fixture
def amy(company) -> str:
    return company.customer("Amy", "amy@finch.org")


@pytest.mark.parametrize("nth", [1, 2])
def test_d1_a_token_that_ends_in_mid_run_is_renewed_once_and_the_run_goes_on(company, amy, nth):
    company.fault("quickbooks", match=QUERY, nth=[nth], action=UNAUTHORISED)
    company.sync()
    assert company.statuses() == {"amy@finch.org": "subscribed"}
    assert token_calls(company) == 2, "one for the stale pair it began with, one for the 401"
    assert company.waits == []


def test_d1_tokens_that_quickbooks_let_die_are_renewed_once_for_all_calls(company, amy):
    company.sync()
    company.quickbooks_control("POST", "tokens/expire")
    company.clear_journals()
    company.sync()
    assert token_calls(company) == 1


def test_d1_the_repeated_write_has_the_same_request_id(company, amy):
    client = company.quickbooks_client(Counter())
    company.sync()
    company.quickbooks_control("POST", "tokens/expire")
    company.clear_journals()
    row = client.fetch_by_ids([amy])[0]
    company.quickbooks_control("POST", "tokens/expire")
    note = {"Id": amy, "SyncToken": row["SyncToken"], "sparse": True, "Notes": "Hello"}
    written = client.write_batch([BatchItem(b_id="1", payload=note)], operation_id="op-1")
    assert written.results["1"]["Notes"] == "Hello"
    batches = [call for call in company.calls("quickbooks") if call["path"].endswith("/batch")]
    assert [call["status"] for call in batches] == [401, 200]
    assert len({call["query"]["requestid"] for call in batches}) == 1


def test_d1_a_second_401_stops_the_run_and_nothing_is_written(company, amy):
    company.fault("quickbooks", match=QUERY, action=UNAUTHORISED)
    with pytest.raises(CredentialsError, match="a fresh access token was refused") as stopped:
        company.sync()
    assert stopped.value.request_id == "1-tid"
    assert "eyJ" not in str(stopped.value)
    asked = [call for call in company.calls("quickbooks") if call["path"].endswith("/query")]
    assert [call["status"] for call in asked] == [401, 401]
    assert company.writes() == []


def test_d1_a_revoked_grant_says_to_connect_again(company, amy):
    company.quickbooks_control("POST", "tokens/revoke")
    with pytest.raises(NeedsReauth, match="ml-connector connect"):
        company.sync()
    assert token_calls(company) == 1, "invalid_grant is terminal"
    assert company.writes() == []


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        pytest.param([7.5], {"Retry-After": "7"}, id="Retry-After"),
        pytest.param([60.5], {}, id="none: a minute"),
        pytest.param([60.5], {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, id="a date"),
    ],
)
def test_d2_a_throttled_call_waits_as_long_as_it_is_told_or_a_minute(
    company, amy, expected, headers
):
    throttled = {"kind": "status", "status": 429, "headers": headers, "body": ""}
    company.fault("quickbooks", match=QUERY, nth=[1], action=throttled)
    company.sync()
    assert company.waits == expected
    assert company.statuses() == {"amy@finch.org": "subscribed"}


def test_d2_throttling_that_lasts_stops_with_the_monthly_cap_and_a_later_run_goes_on(company, amy):
    throttled = {"kind": "status", "status": 429, "headers": {"intuit_tid": "1-cap"}, "body": ""}
    company.fault("quickbooks", match=QUERY, action=throttled)
    with pytest.raises(QuotaExhausted, match="the month's reads may be used up") as stopped:
        company.sync()
    assert stopped.value.request_id == "1-cap"
    assert company.writes() == []
    company.clear_faults(company.quickbooks)
    company.sync()
    assert company.statuses() == {"amy@finch.org": "subscribed"}


SYSTEM_FAULT = {"Error": [{"Message": "An application error", "code": "10000"}], "type": "SystemFault"}  # fmt: skip
XML = """<?xml version="1.0" encoding="UTF-8"?><IntuitResponse xmlns="http://schema.intuit.com/finance/v3"
><Fault type="SystemFault"><Error code="10000"><Message>An application error</Message></Error></Fault
></IntuitResponse>"""
ODDITIES = {
    "Fault in a 200": {"kind": "body", "body": {"Fault": SYSTEM_FAULT}},
    "lower-case fault": {
        "kind": "body",
        "body": {"fault": {"error": SYSTEM_FAULT["Error"], "type": "SystemFault"}},
    },
    "XML in a 200": {"kind": "body", "body": XML, "content_type": "application/xml"},
    "HTML in a 200": {"kind": "html", "status": 200},
    "HTML, 502": {"kind": "html", "status": 502},
    "500 without a body": {"kind": "status", "status": 500},
    "half an answer": {"kind": "malformed"},
    "connection cut": {"kind": "drop", "when": "after"},
}


@pytest.mark.parametrize("action", ODDITIES.values(), ids=ODDITIES)
@pytest.mark.parametrize("nth", [1, 2])
def test_d3_an_odd_answer_is_understood_and_the_call_repeated(company, amy, nth, action):
    company.fault("quickbooks", match=QUERY, nth=[nth], action=action)
    company.sync()
    assert company.statuses() == {"amy@finch.org": "subscribed"}
    assert len(company.waits) == 1


@pytest.mark.parametrize("action", ODDITIES.values(), ids=ODDITIES)
def test_d3_an_odd_answer_that_lasts_never_counts_as_an_empty_company(company, amy, action):
    company.sync()
    company.fault("quickbooks", match=QUERY, action=action)
    with pytest.raises(Exception, match="QuickBooks: ") as stopped:
        company.sync(full_sync=True)
    assert "\n" not in str(stopped.value)
    assert company.statuses() == {"amy@finch.org": "subscribed"}


def test_d3_an_error_carries_the_vendors_request_id(company, amy):
    broken = {"kind": "status", "status": 503, "headers": {"intuit_tid": "1-5f0a-77"}}
    company.fault("quickbooks", match=QUERY, action=broken)
    with pytest.raises(Unavailable, match=r"out of order \(503\) \(request 1-5f0a-77\)"):
        company.sync()


@pytest.mark.parametrize("path", ["/query$", "/tokens/bearer$"])
def test_d6_a_call_that_hangs_is_given_up_and_repeated(company, amy, path):
    company.timeout = 0.3
    company.fault(
        "quickbooks", match={"path": path}, nth=[1], action={"kind": "hang", "seconds": 3}
    )
    company.sync()
    assert company.statuses() == {"amy@finch.org": "subscribed"}
