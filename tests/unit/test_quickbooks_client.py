"""The QuickBooks client's rules: one renewal, bounded repetition, complete pages."""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_connector.errors import (
    CredentialsError,
    IncompleteRead,
    QuotaExhausted,
    ResponseLost,
    StaleObject,
    Unavailable,
)
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.protocol import BatchItem
from ml_connector.wire.transport import Request, Response
from tests.client_harness import Observed, Scripted

SAMPLES = Path(__file__).parent / "samples"
START = datetime(2026, 10, 1, tzinfo=UTC)


def sample(status: int, name: str) -> Response:
    body = (SAMPLES / f"quickbooks_{name}").read_bytes()
    return Response(status=status, headers={"intuit_tid": "1-5f"}, body=body)


class Tokens:
    def __init__(self) -> None:
        self.value, self.renewals = "token-1", 0

    def current(self) -> str:
        return self.value

    def renewed(self, rejected: str) -> str:
        assert rejected == self.value
        self.renewals += 1
        self.value = f"token-{self.renewals + 1}"
        return self.value


class Bench(Observed):
    """A client around a transport, with its pauses and counts in view."""

    def __init__(self, transport: Any, **options: Any) -> None:
        super().__init__()
        self.tokens = Tokens()
        self.client = QuickBooksClient(
            transport=transport,
            base_url="https://qbo.test",
            realm_id="93",
            tokens=self.tokens,
            pace=self.pace,
            retries=self.retries(chance=lambda: 0.5),
            calls=self.calls,
            clock=lambda: START,
            **options,
        )


OPERATION = "note-7"
WRITE = [BatchItem(b_id="c1", payload={"Id": "1", "SyncToken": "0", "sparse": True})]


def test_d1_a_401_is_answered_by_one_renewal_and_the_same_request() -> None:
    transport = Scripted(sample(401, "gateway_401.json"), sample(200, "batch.json"))
    bench = Bench(transport)
    results = bench.client.write_batch(WRITE, operation_id=OPERATION).results
    assert isinstance(results["a1"], StaleObject)
    assert results["a1"].request_id == "1-5f"
    first, second = transport.sent
    assert (first.params, first.body) == (second.params, second.body)
    assert len(first.params["requestid"]) <= 36
    assert [sent.headers["Authorization"] for sent in transport.sent] == [
        "Bearer token-1",
        "Bearer token-2",
    ]
    assert (bench.paced, bench.calls["quickbooks.batch"]) == (2, 2)


def test_d1_a_second_401_stops_the_run() -> None:
    transport = Scripted(*[sample(401, "gateway_401.xml")] * 2)
    bench = Bench(transport)
    with pytest.raises(CredentialsError, match="fresh access token was refused"):
        bench.client.count()
    assert (bench.tokens.renewals, len(transport.sent)) == (1, 2)


def test_d2_a_429_waits_a_minute_or_more() -> None:
    bench = Bench(Scripted(sample(429, "gateway_429.xml"), sample(200, "count.json")))
    assert bench.client.count() == 41
    assert bench.slept == [60.5]


def test_d2_a_429_that_lasts_stops_the_run_and_names_the_monthly_cap() -> None:
    bench = Bench(Scripted(*[sample(429, "gateway_429.json")] * 5))
    with pytest.raises(QuotaExhausted, match=r"500,000 on the Builder plan"):
        bench.client.count()


@pytest.mark.parametrize(
    "failure",
    [
        sample(503, "503.html"),
        sample(200, "503.html"),
        sample(200, "fault_10000.json"),
        ResponseLost("no answer"),
        Unavailable("refused"),
    ],
)
def test_d3_d5_what_may_pass_is_repeated_with_the_same_request_id(
    failure: Response | Exception,
) -> None:
    transport = Scripted(failure, sample(200, "batch.json"))
    Bench(transport).client.write_batch(WRITE, operation_id=OPERATION)
    assert transport.sent[0].params["requestid"] == transport.sent[1].params["requestid"]


def test_d5_a_successor_repeats_a_write_under_the_same_request_id_and_others_do_not() -> None:
    def requestid(operation: str, items: list[BatchItem]) -> str:
        transport = Scripted(sample(200, "batch.json"))
        Bench(transport).client.write_batch(items, operation_id=operation)
        return transport.sent[0].params["requestid"]

    newer = [BatchItem(b_id="c1", payload={"Id": "1", "SyncToken": "1", "sparse": True})]
    assert requestid("a", WRITE) == requestid("a", WRITE)
    assert len({requestid("a", WRITE), requestid("b", WRITE), requestid("a", newer)}) == 3


def test_a_batch_is_paced_by_its_own_limit_besides_that_of_all_calls() -> None:
    paced: list[int] = []
    bench = Bench(
        Scripted(sample(200, "batch.json"), sample(200, "count.json")),
        pace_batch=lambda: paced.append(bench.paced),
    )
    bench.client.write_batch(WRITE, operation_id=OPERATION)
    bench.client.count()
    assert (paced, bench.paced) == ([1], 2)


def test_tombstones_are_the_deleted_and_come_with_the_servers_clock() -> None:
    found = Bench(Scripted(sample(200, "cdc.json"))).client.fetch_tombstones(
        since=START - timedelta(days=2)
    )
    assert (found.ids, found.truncated) == (("99",), False)
    assert found.server_time == datetime(2026, 10, 1, 21, 0, 0, 123000, UTC)


def test_tombstones_beyond_thirty_days_are_not_asked_for() -> None:
    transport = Scripted()
    found = Bench(transport).client.fetch_tombstones(since=START - timedelta(days=30))
    assert (found.truncated, transport.sent) == (True, [])


def test_a55d_an_id_that_is_deleted_and_there_is_no_tombstone() -> None:
    rows = [{"Id": "7", "status": "Deleted"}, {"Id": "8", "status": "Deleted"}, {"Id": "7"}]
    body = msgspec.json.encode({"CDCResponse": [{"QueryResponse": [{"Customer": rows}]}]})
    transport = Scripted(Response(status=200, headers={}, body=body))
    found = Bench(transport).client.fetch_tombstones(since=START - timedelta(days=2))
    assert (found.ids, found.truncated) == (("8",), True)


def test_a_thousand_changes_count_as_truncated() -> None:
    rows = [{"Id": str(n), "status": "Deleted"} for n in range(1000)]
    body = msgspec.json.encode({"CDCResponse": [{"QueryResponse": [{"Customer": rows}]}]})
    transport = Scripted(Response(status=200, headers={}, body=body))
    found = Bench(transport).client.fetch_tombstones(since=START - timedelta(days=2))
    assert (len(found.ids), found.truncated) == (1000, True)


def test_the_company_has_a_name() -> None:
    bench = Bench(Scripted(sample(200, "companyinfo.json")))
    assert bench.client.company().name == "Sandbox Company_US_1"


def test_ids_are_looked_up_a_hundred_at_a_time() -> None:
    transport = Scripted(*[sample(200, "query.json")] * 2)
    rows = Bench(transport).client.fetch_by_ids([str(n) for n in range(150)])
    assert (len(rows), len(transport.sent)) == (2, 2)


def test_an_id_that_is_no_number_is_not_asked_for_beside_others() -> None:
    transport = Scripted(sample(200, "query.json"))
    Bench(transport).client.fetch_by_ids(["x3", "1", " 2", "٣"])
    (sent,) = transport.sent
    assert "Id IN ('1')" in str(sent.body)


# ── paging ────────────────────────────────────────────────────────────────────────────────────


class Company:
    """Customers in memory, with as much of the query language as the client speaks.

    ``meddle`` is called after every answer and may update customers (their time moves to now).
    ``shown``: times that customers show although the list has them elsewhere.
    """

    def __init__(
        self,
        times: dict[str, datetime],
        now: datetime,
        *,
        nulls: Collection[str] = (),
        shown: Mapping[str, datetime] | None = None,
    ) -> None:
        self.nulls, self.shown = nulls, shown or {}
        self.times, self.now, self.queries, self.largest = dict(times), now, 0, 0
        self.meddle: Callable[[], None] = lambda: None

    def touch(self, id_: str) -> None:
        self.now += timedelta(seconds=1)
        self.times[id_] = self.now

    def send(self, request: Request) -> Response:
        self.queries += 1
        statement = (request.body or b"").decode()
        assert "Active IN (true, false)" in statement
        checks = {">=": datetime.__ge__, "<=": datetime.__le__, "<": datetime.__lt__}
        bounds = [
            (checks[operator], datetime.fromisoformat(text))
            for operator, text in re.findall(r"LastUpdatedTime (>=|<=|<) '([^']+)'", statement)
        ]
        rows = sorted(
            (time, int(id_))
            for id_, time in self.times.items()
            if all(check(time, bound) for check, bound in bounds)
        )
        if "COUNT(*)" in statement:
            found: dict[str, Any] = {"totalCount": len(rows)}
        else:
            position, size = map(int, re.findall(r"(?:STARTPOSITION|MAXRESULTS) (\d+)", statement))
            self.largest = max(self.largest, position)
            page = rows[position - 1 : position - 1 + size]
            customers = [
                None
                if str(id_) in self.nulls
                else {
                    "Id": str(id_),
                    "SyncToken": "0",
                    "MetaData": {
                        "LastUpdatedTime": (
                            self.shown.get(str(id_), time) - timedelta(hours=7)
                        ).strftime("%Y-%m-%dT%H:%M:%S-07:00")
                    },
                }
                for time, id_ in page
            ]
            found = {"Customer": customers} if customers else {}
        self.meddle()
        return Response(status=200, headers={}, body=msgspec.json.encode({"QueryResponse": found}))


def read(company: Company, size: int, since: datetime | None, until: datetime) -> list[list[str]]:
    client = Bench(company, page_size=size).client
    return [[row["Id"] for row in page] for page in client.iter_changed(since=since, until=until)]


clusters = st.lists(st.integers(0, 12), max_size=60)


@given(
    seconds=clusters,
    size=st.integers(2, 9),
    since=st.one_of(st.none(), st.integers(0, 12)),
    until=st.integers(0, 14),
    milliseconds=st.integers(0, 999),
)
def test_every_customer_of_the_window_comes_once_whatever_the_ties(
    seconds: list[int], size: int, since: int | None, until: int, milliseconds: int
) -> None:
    times = {
        str(n): START + timedelta(seconds=second, milliseconds=(n * milliseconds) % 1000)
        for n, second in enumerate(seconds)
    }
    low = None if since is None else START + timedelta(seconds=since)
    high = START + timedelta(seconds=until)
    ids = [id_ for page in read(Company(times, high), size, low, high) for id_ in page]
    expected = {id_ for id_, time in times.items() if (low is None or time >= low) and time <= high}
    assert sorted(expected) == sorted(ids)


@pytest.mark.parametrize("number", [10, 11, 20, 21])
def test_a_long_second_comes_whole_however_full_its_last_page_is(number: int) -> None:
    times = {str(n): START for n in range(number)}
    company = Company(times, START + timedelta(days=1))
    ids = [id_ for page in read(company, 10, None, company.now) for id_ in page]
    assert sorted(ids) == sorted(times)


@given(seconds=clusters, size=st.integers(2, 9), data=st.data())
def test_no_customer_is_missed_while_others_are_being_updated(
    seconds: list[int], size: int, data: st.DataObject
) -> None:
    times = {str(n): START + timedelta(seconds=second) for n, second in enumerate(seconds)}
    until = START + timedelta(seconds=12)
    company = Company(times, until + timedelta(seconds=60))
    moved: set[str] = set()

    def meddle() -> None:
        for id_ in data.draw(st.lists(st.sampled_from(sorted(times)), max_size=4)):
            company.touch(id_)
            moved.add(id_)

    if times:
        company.meddle = meddle
    pages = read(company, size, None, until)
    ids = [id_ for page in pages for id_ in page]
    assert set(times) - moved <= set(ids)
    assert len(ids) == len(set(ids))
    assert max((len(page) for page in pages), default=0) <= size


@given(seconds=clusters, size=st.integers(1, 9), until=st.integers(0, 14), over=st.integers(0, 20))
def test_pages_side_by_side_list_everybody(
    seconds: list[int], size: int, until: int, over: int
) -> None:
    times = {str(n): START + timedelta(seconds=second) for n, second in enumerate(seconds)}
    high = START + timedelta(seconds=until)
    client = Bench(Company(times, high), page_size=size).client
    pages = list(client.iter_listed(until=high, total=len(times) + over))
    expected = {id_ for id_, time in times.items() if time <= high} if len(times) + over else set()
    assert {row["Id"] for page in pages for row in page} == expected


def test_a_row_that_leaves_the_list_between_two_pages_hides_no_other() -> None:
    times = {str(n): START + timedelta(seconds=n) for n in range(90)}
    until = START + timedelta(seconds=100)
    company = Company(times, until + timedelta(seconds=60))
    answered = 0

    def meddle() -> None:
        nonlocal answered
        answered += 1
        if answered in (2, 5):
            company.touch(str(answered))

    company.meddle = meddle
    client = Bench(company, page_size=10).client
    ids = {row["Id"] for page in client.iter_listed(until=until, total=90) for row in page}
    assert set(times) - {"2", "5"} <= ids


def test_offsets_are_used_only_inside_a_second_that_fills_a_page() -> None:
    spread = {str(n): START + timedelta(seconds=n // 3) for n in range(100)}
    company = Company(spread, START)
    assert sum(map(len, read(company, 10, None, START + timedelta(days=1)))) == 100
    assert company.largest == 1


def test_a_page_shorter_than_asked_is_the_last_call() -> None:
    company = Company({str(n): START + timedelta(seconds=n) for n in range(15)}, START)
    read(company, 10, None, START + timedelta(days=1))
    assert company.queries == 2


def test_a_first_load_of_a_hundred_pages_takes_one_call_more() -> None:
    times = {str(n): START + timedelta(seconds=n) for n in range(9_990)}
    company = Company(times, START)
    read(company, 100, None, START + timedelta(days=9))
    assert company.queries == 101


@given(
    numbers=st.integers(0, 60),
    size=st.integers(2, 9),
    ties=st.integers(1, 3),
    every=st.integers(2, 5),
)
def test_customers_that_are_null_are_counted_one_by_one_over_all_pages(
    numbers: int, size: int, ties: int, every: int
) -> None:
    times = {str(n): START + timedelta(seconds=n // ties) for n in range(numbers)}
    nulls = {id_ for n, id_ in enumerate(times) if n % every == 1}
    company = Company(times, START + timedelta(days=1), nulls=nulls)
    client = Bench(company, page_size=max(size, ties + 1)).client
    for pages in (
        client.iter_listed(until=company.now, total=numbers),
        client.iter_changed(since=None, until=company.now),
    ):
        found = list(pages)
        assert {row["Id"] for page in found for row in page} == set(times) - nulls
        unreadable = [row.record for page in found for row in page.unreadable]
        assert len(unreadable) == len(set(unreadable)) == len(nulls)


def test_customers_that_are_null_are_counted_one_by_one_within_a_long_second() -> None:
    times = {str(n): START for n in range(40)}
    company = Company(times, START + timedelta(days=1), nulls=set(list(times)[3::5]))
    client = Bench(company, page_size=10).client
    pages = list(client.iter_changed(since=None, until=company.now))
    assert len({row.record for page in pages for row in page.unreadable}) == 8


@given(
    seconds=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    size=st.integers(4, 9),
    until=st.one_of(st.none(), st.integers(10, 14)),
    wrong=st.one_of(st.integers(-3, 20), st.sampled_from([-(10**9), -3_600, 3_600, 80_000])),
    data=st.data(),
)
def test_a55e_a_time_that_is_wrong_hides_no_other_customer(
    seconds: list[int], size: int, until: int | None, wrong: int, data: st.DataObject
) -> None:
    times = {str(n): START + timedelta(seconds=second) for n, second in enumerate(seconds)}
    shown = {data.draw(st.sampled_from(sorted(times))): START + timedelta(seconds=wrong)}
    high = None if until is None else START + timedelta(seconds=until)
    client = Bench(Company(times, START, shown=shown), page_size=size).client
    found = client.iter_changed(since=None, until=high)
    ids = [row["Id"] for page in found for row in page]
    assert sorted(ids) == sorted(id_ for id_, time in times.items() if high is None or time <= high)


def test_a_list_out_of_order_is_not_trusted() -> None:
    rows = [
        {"Id": str(n), "MetaData": {"LastUpdatedTime": f"2026-10-01T00:00:0{9 - n}Z"}}
        for n in range(4)
    ]
    body = msgspec.json.encode({"QueryResponse": {"Customer": rows}})
    answer = Response(status=200, headers={}, body=body)
    client = Bench(Scripted(answer), page_size=4).client
    with pytest.raises(IncompleteRead, match="order"):
        list(client.iter_changed(since=None, until=START + timedelta(days=1)))
