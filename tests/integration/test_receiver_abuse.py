"""Bodies too large, too slow or too many: refused or cut, in bounded time and memory."""

import itertools
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from ml_connector.webhooks.endpoint import PREFIX
from ml_connector.webhooks.receiver.body import LARGEST, MemoryBudget
from tests.integration.receiving import SECRET, at_length, cloud_event, serving

PATH = f"{PREFIX}/quickbooks"


@pytest.fixture
def served(database_url):
    """Patience of one second, so that no test has to wait for ten."""
    with serving(database_url, seconds=1.0) as running:
        yield running


def head(length: int | None, path: str = PATH) -> bytes:
    how = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{how}\r\n\r\n".encode()


def answer(raw: socket.socket) -> bytes:
    """All that comes until the server hangs up."""
    raw.settimeout(15)
    found = b""
    try:
        while chunk := raw.recv(65536):
            found += chunk
    except ConnectionResetError:
        pass
    return found


def test_c5_a_body_over_a_mebibyte_is_413_and_one_of_a_mebibyte_is_read(served):
    assert served.quickbooks(b"x" * LARGEST).status_code == 200
    assert served.quickbooks(b"x" * (LARGEST + 1)).status_code == 413

    def chunks():
        for _ in range(20):
            yield b"x" * (LARGEST // 16)

    url = f"{served.url}{PATH}"
    assert requests.post(url, data=chunks(), timeout=20).status_code == 413


def test_c5_a_declared_monster_is_refused_before_a_byte_of_it_is_read(served):
    with served.open_socket() as raw:
        raw.sendall(head(300 << 20))
        assert answer(raw).startswith(b"HTTP/1.1 413")


def test_c5_an_endless_body_is_cut_and_costs_no_memory(served):
    before = psutil.Process().memory_info().rss
    sent = 0
    with served.open_socket() as raw:
        raw.sendall(head(None))
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            while sent < 300 << 20:
                raw.sendall(chunk)
                sent += len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 40 << 20  # what the sockets' buffers hold
    assert psutil.Process().memory_info().rss - before < 30 << 20


def test_c5_genuine_bodies_made_to_break_a_parser_cost_little_and_are_kept_as_strange(served):
    before = psutil.Process().memory_info().rss
    assert served.quickbooks(b"[" * 100_000 + b"]" * 100_000).status_code == 200
    assert served.mailchimp(b"a=&" * (LARGEST // 3), query=f"secret={SECRET}").status_code == 200
    assert served.mailchimp(b"a=&" * 2_000_000, query=f"secret={SECRET}").status_code == 413
    assert {row.state for row in served.rows()} == {"quarantined"}
    assert psutil.Process().memory_info().rss - before < 30 << 20


def test_c5_slow_senders_are_cut_and_others_answered_meanwhile(served):
    slow = [served.open_socket() for _ in range(at_length(300, 900))]
    before = psutil.Process().memory_info().rss
    stop = threading.Event()

    drips = itertools.count(1)
    longest = 1000  # bytes

    def drip() -> None:
        while not stop.wait(0.2):
            next(drips)
            for raw in slow:
                try:
                    raw.sendall(b"x")
                except OSError:
                    continue

    for raw in slow:
        raw.sendall(head(longest))
    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert served.quickbooks([cloud_event(1)]).status_code == 200
        assert all(b" 408 " in answer(raw) for raw in slow)
        assert next(drips) < longest / 2, "long before their bodies were complete"
    finally:
        stop.set()
        dripping.join()
        for raw in slow:
            raw.close()
    assert psutil.Process().memory_info().rss - before < 30 << 20


def test_c5_a_head_that_never_ends_is_cut(served, monkeypatch):
    monkeypatch.setattr("ml_connector.webhooks.receiver.serving.SECONDS", 1.0)
    with served.open_socket() as raw:
        raw.sendall(b"POST /ml-connector")
        assert answer(raw) == b""  # an open one would be waited for until the socket's timeout
    with served.open_socket() as raw:
        sent = 0
        try:
            raw.sendall(b"POST / HTTP/1.1\r\n")
            while sent < 50 << 20:
                raw.sendall(b"x: " + b"y" * 50_000 + b"\r\n")
                sent += 50_000
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 40 << 20


def test_over_capacity_is_503_at_once_with_retry_after(database_url):
    with serving(database_url, seconds=5, budget=MemoryBudget(requests=3)) as served:
        slow = [served.open_socket() for _ in range(3)]
        for raw in slow:
            raw.sendall(head(1000))
        time.sleep(0.3)
        refused = served.quickbooks([cloud_event(1)])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert select.select(slow, [], [], 0)[0] == [], "those it gave way to are still waited for"
        for raw in slow:
            raw.close()
        time.sleep(0.3)
        assert served.quickbooks([cloud_event(1)]).status_code == 200


def test_large_bodies_together_are_bounded_and_small_ones_still_taken(database_url):
    with serving(database_url, seconds=5, budget=MemoryBudget(size=2 << 20)) as served:
        slow = [served.open_socket() for _ in range(6)]
        for raw in slow:
            raw.sendall(head(LARGEST) + b"x" * (LARGEST - 1))
        time.sleep(0.5)
        assert served.receiver.tally.counts["no_room"] >= 4
        assert served.quickbooks([cloud_event(1)]).status_code == 200
        for raw in slow:
            raw.close()


def test_a_sender_that_hangs_up_leaves_nothing_behind(served):
    for _ in range(20):
        with served.open_socket() as raw:
            raw.sendall(head(1000) + b"x" * 500)
    time.sleep(0.3)
    assert served.quickbooks([cloud_event(1)]).status_code == 200
    assert served.receiver.tally.counts == {"accepted": 1, "events": 1}


def test_a_crowd_is_answered_and_stored(served):
    with ThreadPoolExecutor(24) as crowd:
        answers = list(crowd.map(lambda n: served.quickbooks([cloud_event(n)]), range(300)))
    assert {one.status_code for one in answers} == {200}
    assert len(served.rows()) == 300
