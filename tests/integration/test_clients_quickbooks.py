"""The QuickBooks client and its tokens against the mock server, over HTTP."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from ml_connector.errors import (
    CredentialsError,
    NeedsReauth,
    QuotaExhausted,
    ResponseLost,
    StaleObject,
    Unavailable,
)
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.protocol import BatchItem
from ml_connector.quickbooks.tokens import TokenEndpoint, TokenManager, TokenPair
from ml_connector.wire.transport import RequestsTransport
from sandbox.quickbooks.app import create_app
from sandbox.running import serving_in_thread
from tests.client_harness import MockServer, Observed

REALM = "9341450000000001"
TOKEN_PATH = "/oauth2/v1/tokens/bearer"


class Connection(Observed):
    """Vault and lock of one connection in memory, shared by all its clients."""

    def __init__(self, standin: MockServer) -> None:
        super().__init__()
        self.standin, self.mutex, self.unfinished = standin, threading.Lock(), False
        self.token = TokenPair(
            access_token="unknown-so-far-and-long-enough", refresh_token="sandbox-refresh-token"
        )
        self.saved = 0
        self.mark = ""

    def load(self) -> TokenPair:
        return self.token

    def save(self, token: TokenPair) -> None:
        self.token, self.saved = token, self.saved + 1

    @contextmanager
    def lock(self) -> Iterator["Connection"]:
        with self.mutex:
            yield self
            self.unfinished = False

    def refused(self) -> str:
        return self.mark

    def intend(self) -> bool:
        before, self.unfinished = self.unfinished, True
        return before

    def refuse(self, mark: str) -> None:
        self.mark = mark

    def manager(self, *, secret: str = "sandbox-secret") -> TokenManager:
        endpoint = TokenEndpoint(
            RequestsTransport(requests.Session(), system="QuickBooks", timeout=(2.0, 5.0)),
            self.standin.url + TOKEN_PATH,
            "sandbox-client",
            secret,
        )
        return TokenManager(vault=self, lock=self.lock, endpoint=endpoint)

    def client(
        self,
        *,
        host: str | None = None,
        realm: str = REALM,
        secret: str = "sandbox-secret",
        timeout: float = 10.0,
        page_size: int = 1000,
    ) -> QuickBooksClient:
        return QuickBooksClient(
            transport=RequestsTransport(
                requests.Session(), system="QuickBooks", timeout=(2.0, timeout)
            ),
            base_url=host or self.standin.url,
            realm_id=realm,
            tokens=self.manager(secret=secret),
            pace=self.pace,
            retries=self.retries(tries=3),
            calls=self.calls,
            page_size=page_size,
        )


@pytest.fixture(scope="module")
def served() -> Iterator[MockServer]:
    with serving_in_thread({"quickbooks": create_app()}) as urls:
        yield MockServer(urls["quickbooks"], {"path": "/v3/"})


@pytest.fixture
def world(served: MockServer) -> Connection:
    served.control("POST", "reset")
    return Connection(served)


def later() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def notes(customer: dict[str, Any], text: str, b_id: str = "n1") -> BatchItem:
    payload = {"Id": customer["Id"], "SyncToken": customer["SyncToken"], "sparse": True}
    return BatchItem(b_id=b_id, payload={**payload, "Notes": text})


def test_the_sample_company_is_read_counted_and_looked_up(world: Connection) -> None:
    client = world.client()
    assert client.company().name == "Sandbox Company_US_1"
    (page,) = client.iter_changed(since=None, until=later())
    assert (len(page), client.count()) == (29, 29)
    found = client.fetch_by_ids(["1", "5", "999999"])
    assert {row["DisplayName"] for row in found} == {
        "Amy's Bird Sanctuary",
        "Dukes Basketball Camp",
    }
    assert world.calls["quickbooks.query"] == 3


def test_inactive_customers_are_listed_and_only_what_changed_comes_again(world: Connection) -> None:
    since = datetime.now(UTC) - timedelta(seconds=2)
    world.standin.control("PATCH", "customers/3", {"Active": False})
    (page,) = world.client().iter_changed(since=since, until=later())
    assert [(row["Id"], row["Active"]) for row in page] == [("3", False)]
    assert world.client().count() == 29


def test_a_merged_customer_leaves_a_tombstone(world: Connection) -> None:
    since = datetime.now(UTC) - timedelta(hours=1)
    world.standin.control("POST", "customers/merge", {"survivor": "1", "loser": "2"})
    found = world.client().fetch_tombstones(since=since)
    assert (found.ids, found.truncated) == (("2",), False)
    assert found.server_time is not None


def test_d1_an_expired_token_is_renewed_once_for_all_clients(world: Connection) -> None:
    first, second = world.client(), world.client()
    assert (first.count(), second.count()) == (29, 29)
    assert world.saved == 1
    world.standin.control("POST", "tokens/expire")
    assert (first.count(), second.count()) == (29, 29)
    assert world.saved == 2


def test_d1_threads_that_meet_a_401_at_once_redeem_once(world: Connection) -> None:
    world.standin.control("PUT", "settings", {"rotate": "always", "revoke_on_concurrent": True})
    clients = [world.client() for _ in range(6)]
    counts: list[int] = []
    threads = [threading.Thread(target=lambda c=c: counts.append(c.count())) for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counts, world.saved) == ([29] * 6, 1)


def test_d1_a_second_401_stops_the_run(world: Connection) -> None:
    world.standin.fault({"kind": "status", "status": 401, "body": ""})
    with pytest.raises(CredentialsError, match="fresh access token"):
        world.client().count()
    assert (world.saved, world.calls["quickbooks.query"]) == (1, 2)


def test_d1_an_ended_grant_says_to_connect_again(world: Connection) -> None:
    world.standin.control("POST", "tokens/revoke")
    with pytest.raises(NeedsReauth, match="ml-connector connect"):
        world.client().count()


def test_after_a_lost_refresh_the_grace_of_the_old_token_saves_the_grant(
    world: Connection,
) -> None:
    world.standin.control("PUT", "settings", {"rotate": "always", "grace_seconds": 3600})
    world.standin.fault({"kind": "drop", "when": "after"}, match={"path": "/oauth2/"}, times=1)
    with pytest.raises(ResponseLost):
        world.manager().renewed("unknown-so-far-and-long-enough")
    assert world.unfinished
    assert world.client().count() == 29
    assert not world.unfinished


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "7"}])
def test_d2_a_throttled_call_waits_as_told_or_a_minute(
    world: Connection, headers: dict[str, str]
) -> None:
    world.standin.fault({"kind": "status", "status": 429, "headers": headers}, times=1)
    assert world.client().count() == 29
    (slept,) = world.slept
    assert slept >= float(headers.get("Retry-After", "60"))


def test_d2_a_throttle_that_lasts_names_the_monthly_cap(world: Connection) -> None:
    world.standin.fault({"kind": "status", "status": 429})
    with pytest.raises(QuotaExhausted, match="500,000"):
        world.client().count()


@pytest.mark.parametrize(
    "action",
    [
        {"kind": "html", "status": 503},
        {"kind": "html", "status": 200},
        {"kind": "malformed"},
        {
            "kind": "body",
            "body": {"Fault": {"Error": [{"code": "10000"}], "type": "SystemFault"}},
        },
    ],
)
def test_d3_odd_answers_are_understood_and_waited_out(
    world: Connection, action: dict[str, Any]
) -> None:
    client = world.client()
    assert client.count() == 29
    world.standin.fault(action, times=1)
    assert client.count() == 29
    assert len(world.slept) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_d5_an_answer_lost_around_a_write_is_replayed_once_in_effect(
    world: Connection, when: str
) -> None:
    client = world.client()
    (customer,) = client.fetch_by_ids(["1"])
    world.standin.fault({"kind": "drop", "when": when}, match={"path": "/batch$"}, times=1)
    written = client.write_batch([notes(customer, "called")], operation_id="op-1").results["n1"]
    assert isinstance(written, dict)
    assert written["Notes"] == "called"
    assert int(written["SyncToken"]) == int(customer["SyncToken"]) + 1
    again = (
        world.client().write_batch([notes(customer, "called")], operation_id="op-1").results["n1"]
    )
    assert isinstance(again, dict)
    assert again["SyncToken"] == written["SyncToken"]


def test_d6_a_call_without_an_answer_times_out(world: Connection) -> None:
    client = world.client(timeout=0.3)
    assert client.count() == 29
    world.standin.fault({"kind": "hang", "seconds": 1})
    with pytest.raises(ResponseLost):
        client.count()
    assert world.calls["quickbooks.query"] >= 4


def test_d8_wrong_settings_stop_the_run_with_one_message_that_says_what_to_change(
    world: Connection,
) -> None:
    with pytest.raises(CredentialsError, match="client id or client secret"):
        world.client(secret="wrong").count()
    with pytest.raises(CredentialsError, match="realm_id"):
        world.client(realm="1").count()
    with pytest.raises(Unavailable, match="host"):
        world.client(host="http://127.0.0.1:9").count()


def test_b7_a_stale_item_fails_alone(world: Connection) -> None:
    client = world.client()
    one, two = client.fetch_by_ids(["1", "2"])
    world.standin.control("PATCH", f"customers/{one['Id']}", {"Notes": "by hand"})
    results = client.write_batch(
        [notes(one, "ours", "a"), notes(two, "ours", "b")], operation_id="op-2"
    ).results
    assert isinstance(results["a"], StaleObject)
    assert results["a"].request_id
    assert isinstance(results["b"], dict)


@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize("customers", [200, 2500])
def test_paging_misses_nobody_while_customers_are_edited(
    world: Connection, customers: int, side_by_side: bool
) -> None:
    world.standin.control("POST", "company", {"customers": customers})
    size = customers // 10
    everybody = {
        row["Id"] for row in world.standin.control("GET", "customers?limit=9999")["customers"]
    }
    until, seen, edited = datetime.now(UTC) + timedelta(hours=1), set(), Counter[str]()
    client = world.client(page_size=size)
    listed = client.iter_listed(until=until, total=customers)
    pages = listed if side_by_side else client.iter_changed(since=None, until=until)
    for turn, page in enumerate(pages):
        seen.update(row["Id"] for row in page)
        if turn < 5:
            first = page[0]["Id"]
            edited[first] += 1
            world.standin.control("PATCH", f"customers/{first}", {"Notes": f"turn {turn}"})
    assert len(everybody) == customers
    assert seen == everybody


def test_a_bulk_import_within_a_second_is_read_completely(world: Connection) -> None:
    world.standin.control("POST", "company", {"customers": 300})
    since = datetime.now(UTC) - timedelta(seconds=1)
    world.standin.control("POST", "customers/edit-many", {"count": 250, "fields": {"Notes": "x"}})
    until = datetime.now(UTC) + timedelta(seconds=1)
    pages = list(world.client(page_size=40).iter_changed(since=since, until=until))
    ids = [row["Id"] for page in pages for row in page]
    assert len(set(ids)) >= 250
    assert len(ids) == len(set(ids))
