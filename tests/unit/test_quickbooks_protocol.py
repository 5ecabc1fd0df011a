"""QuickBooks' wire format, read from recorded answers."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ml_connector.errors import (
    CallRefused,
    CredentialsError,
    RateLimited,
    RecordRefused,
    SettingsError,
    StaleObject,
    StopRun,
    TokenExpired,
    Unavailable,
)
from ml_connector.model import Unreadable, page_of
from ml_connector.quickbooks import protocol, statements
from ml_connector.wire.transport import Response

SAMPLES = Path(__file__).parent / "samples"
BASE = "https://quickbooks.api.intuit.com"


def answer(status: int, sample: str, **headers: str) -> Response:
    found = {"intuit_tid": "1-5f", **{k.replace("_", "-"): v for k, v in headers.items()}}
    found["intuit_tid"] = "1-5f"
    body = (SAMPLES / f"quickbooks_{sample}").read_bytes() if sample else b""
    return Response(status=status, headers=found, body=body)


@pytest.mark.parametrize(
    ("error", "status", "sample"),
    [
        (StaleObject, 400, "fault_5010.json"),
        (RecordRefused, 400, "fault_6240.json"),
        (RecordRefused, 400, "fault_610.json"),
        (RecordRefused, 400, "fault_2010.json"),
        (RecordRefused, 400, "fault_2050.json"),
        (RecordRefused, 200, "fault_2050.json"),
        (CallRefused, 400, "fault_4001.json"),
        (SettingsError, 400, "fault_unknown_path.json"),
        (SettingsError, 404, ""),
        (SettingsError, 302, ""),
        (CredentialsError, 401, "fault_120.json"),
        (StopRun, 400, "fault_6190.json"),
        (Unavailable, 200, "fault_10000.json"),
        (Unavailable, 500, "fault_10000.json"),
        (TokenExpired, 401, "gateway_401.json"),
        (TokenExpired, 401, "gateway_401.xml"),
        (TokenExpired, 401, ""),
        (CredentialsError, 403, "gateway_403.json"),
        (RateLimited, 429, "gateway_429.json"),
        (RateLimited, 429, "gateway_429.xml"),
        (RateLimited, 429, ""),
        (RateLimited, 200, "gateway_429.xml"),
        (Unavailable, 503, "503.html"),
        (Unavailable, 200, "503.html"),
        (Unavailable, 504, ""),
        (Unavailable, 200, ""),
    ],
)
def test_d3_every_recorded_fault_is_understood_and_carries_intuits_id(
    error: type[Exception], status: int, sample: str
) -> None:
    with pytest.raises(error) as raised:
        protocol.read(answer(status, sample))
    assert type(raised.value) is error
    assert raised.value.request_id == "1-5f"


@pytest.mark.parametrize("sample", ["gateway_401.json", "gateway_401.xml", "fault_5010.json"])
def test_neither_the_echoed_token_nor_a_name_gets_into_a_message(sample: str) -> None:
    with pytest.raises((TokenExpired, StaleObject)) as raised:
        protocol.read(answer(400 if "5010" in sample else 401, sample))
    for secret in ("SECRET", "eyJ", "Jane"):
        assert secret not in str(raised.value)


def test_d8_a_403_says_what_to_check() -> None:
    with pytest.raises(CredentialsError, match=r"realm_id.*sandbox-quickbooks\.api"):
        protocol.read(answer(403, "gateway_403.json"))


@pytest.mark.parametrize(
    ("wait", "header"), [(60.0, ""), (7.0, "7"), (60.0, "Wed, 21 Oct 2026"), (3600.0, "604800")]
)
def test_d2_a_throttle_waits_as_told_or_a_minute(wait: float, header: str) -> None:
    with pytest.raises(RateLimited) as raised:
        protocol.read(answer(429, "gateway_429.json", retry_after=header))
    assert wait == raised.value.retry_after


def test_the_code_and_the_field_of_a_refusal_are_kept() -> None:
    with pytest.raises(RecordRefused, match=r"Max:21.*field PrimaryPhone") as raised:
        protocol.read(answer(400, "fault_2050.json"))
    assert raised.value.code == "2050"


def test_rows_of_a_query_and_of_its_empty_end() -> None:
    rows, unreadable = read(answer(200, "query.json"))
    assert not unreadable
    assert [row["DisplayName"] for row in rows] == ["Amy's Bird Sanctuary"]
    assert protocol.updated(rows[0]) == datetime(2024, 6, 18, 20, 39, 32, tzinfo=UTC)
    assert read(answer(200, "query_empty.json")) == ([], [])


def read(response: Response) -> tuple[list[dict[str, Any]], list[Unreadable]]:
    page = page_of(protocol.read_rows(protocol.read(response), latest=datetime.now(UTC)))
    return list(page.rows), list(page.unreadable)


def test_batch_items_succeed_and_fail_by_their_own_id() -> None:
    results = protocol.read_batch(protocol.read(answer(200, "batch.json")), "1-5f")
    written, stale, too_long = (results[b_id] for b_id in ("c1", "a1", "n1"))
    assert isinstance(written, dict)
    assert written["Id"] == "1"
    assert isinstance(stale, StaleObject)
    assert isinstance(too_long, RecordRefused)
    assert (too_long.code, too_long.request_id) == ("2050", "1-5f")


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (datetime(2020, 9, 29, 13, 3, 53, 903000, UTC), "2020-09-29T06:03:53.903-07:00"),
        (datetime(2026, 10, 1, 20, 55, 50, 0, UTC), "2026-10-01T12:55:50-08:00"),
        (datetime(2026, 10, 1, 12, 0, 0, 0, UTC), "2026-10-01T12:00:00Z"),
        (datetime(2015, 10, 5, 21, 42, 19, 0, UTC), "2015-10-05T14:42:19-0700"),
    ],
)
def test_times_are_aware_whatever_their_offset(expected: datetime, text: str) -> None:
    assert expected == statements.parse_time(text)


def test_the_repeated_hour_of_november_stays_two_moments() -> None:
    first, second = "2026-11-01T01:30:00-07:00", "2026-11-01T01:30:00-08:00"
    assert statements.parse_time(second) - statements.parse_time(first) == timedelta(hours=1)


def test_a_time_without_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        statements.parse_time("2026-10-01T12:00:00")


@pytest.mark.parametrize(
    ("expected", "text"),
    [("'Amy'", "Amy"), (r"'Amy\'s'", "Amy's"), (r"'a\\b'", "a\\b"), (r"'\\\''", "\\'")],
)
def test_literals_are_escaped_with_backslashes(expected: str, text: str) -> None:
    assert expected == statements.literal(text)


def test_statements_read_as_quickbooks_wants_them() -> None:
    pacific = timezone(timedelta(hours=-7))
    since = datetime(2026, 10, 1, 5, 0, 0, tzinfo=pacific)
    until = datetime(2026, 10, 2, tzinfo=UTC)
    assert statements.changed_statement(since, until) == (
        "SELECT * FROM Customer WHERE MetaData.LastUpdatedTime >= '2026-10-01T12:00:00Z'"
        " AND MetaData.LastUpdatedTime <= '2026-10-02T00:00:00Z' AND Active IN (true, false)"
        " ORDERBY MetaData.LastUpdatedTime STARTPOSITION 1 MAXRESULTS 1000"
    )
    assert statements.changed_statement(None, until, 1001, 50) == (
        "SELECT * FROM Customer WHERE MetaData.LastUpdatedTime <="
        " '2026-10-02T00:00:00Z' AND Active IN (true, false)"
        " ORDERBY MetaData.LastUpdatedTime STARTPOSITION 1001 MAXRESULTS 50"
    )
    assert statements.count_statement() == (
        "SELECT COUNT(*) FROM Customer WHERE Active IN (true, false)"
    )
    assert statements.ids_statement(["5", "6"]) == (
        "SELECT * FROM Customer WHERE Id IN ('5', '6') AND Active IN (true, false)"
        " STARTPOSITION 1 MAXRESULTS 1000"
    )


def test_a_query_is_posted_as_text_with_the_minor_version() -> None:
    request = protocol.query_request(BASE + "/", "93", "SELECT COUNT(*) FROM Customer")
    assert (request.method, request.url) == ("POST", f"{BASE}/v3/company/93/query")
    assert request.params == {"minorversion": "75"}
    assert request.headers == {"Accept": "application/json", "Content-Type": "application/text"}
    assert request.body == b"SELECT COUNT(*) FROM Customer"


def test_a_batch_names_its_items_and_its_request() -> None:
    item = protocol.BatchItem(b_id="c1", payload={"Id": "1", "SyncToken": "0", "sparse": True})
    request = protocol.batch_request(BASE, "93", [item], requestid="r" * 36)
    assert request.params["requestid"] == "r" * 36
    assert msgspec.json.decode(request.body or b"") == {
        "BatchItemRequest": [
            {
                "bId": "c1",
                "operation": "update",
                "Customer": {"Id": "1", "SyncToken": "0", "sparse": True},
            }
        ]
    }


@pytest.mark.parametrize(
    ("b_id", "count", "requestid"), [("c" * 11, 1, "r"), ("c", 31, "r"), ("c", 1, "r" * 37)]
)
def test_a_batch_outside_the_documented_limits_is_never_sent(
    b_id: str, count: int, requestid: str
) -> None:
    items = [protocol.BatchItem(b_id=b_id, payload={})] * count
    with pytest.raises(ValueError, match=r"bId|batch|requestid"):
        protocol.batch_request(BASE, "93", items, requestid=requestid)


def test_single_calls_are_addressed_as_documented() -> None:
    cdc = protocol.cdc_request(BASE, "93", datetime(2026, 10, 1, tzinfo=UTC))
    assert cdc.url == f"{BASE}/v3/company/93/cdc"
    assert cdc.params["changedSince"] == "2026-10-01T00:00:00Z"
    info = protocol.company_info_request(BASE, "93")
    assert info.url == f"{BASE}/v3/company/93/companyinfo/93"
