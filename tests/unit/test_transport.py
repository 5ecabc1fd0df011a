"""What a network does to a call, told in one plain sentence. Real sockets, on loopback."""

import contextlib
import gzip
import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import pytest
import requests

from ml_connector.errors import ConnectorError, ResponseLost, SettingsError, Unavailable
from ml_connector.wire.transport import MAX_BODY, Request, RequestsTransport, Response
from sandbox.ports import free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request-Id: 7\r\n\r\n{}"
Behaviour = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(behave: Behaviour) -> Iterator[str]:
    """Serve one connection after another with ``behave``; yield the base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        behave(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def answering(*parts: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.02)

    return behave


def silent(connection: socket.socket) -> None:
    connection.recv(65536)
    time.sleep(1)


def resetting(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def send(url: str, timeout: float = 5.0, **headers: str) -> Response:
    transport = RequestsTransport(requests.Session(), system="Mailchimp", timeout=(2.0, timeout))
    return transport.send(Request(method="POST", url=url, headers=headers, body=b"{}"))


def failure(url: str, timeout: float = 5.0, **headers: str) -> ConnectorError:
    with pytest.raises(ConnectorError) as raised:
        send(url, timeout, **headers)
    assert "\n" not in str(raised.value)
    return raised.value


def test_an_answer_has_its_status_its_body_and_lower_case_headers():
    with server(answering(OK)) as url:
        response = send(url)
    assert (response.status, response.body, response.headers["x-request-id"]) == (200, b"{}", "7")


def test_a_redirect_is_not_followed():
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with server(answering(moved)) as url:
        assert send(url).status == 302


def test_nobody_listens_so_nothing_was_applied():
    port = free_port()
    error = failure(f"http://127.0.0.1:{port}/3.0")
    assert isinstance(error, Unavailable)
    assert error.message == (
        f"Mailchimp: 127.0.0.1:{port} cannot be reached; check the connection's host and the network"
    )


def test_a_host_that_does_not_exist_is_to_be_checked_and_nothing_was_applied():
    error = failure("http://no-such-host.invalid/3.0")
    assert isinstance(error, Unavailable)
    assert "no-such-host.invalid cannot be reached; check the connection's host" in error.message


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(silent, id="time-out"),
        pytest.param(resetting, id="reset"),
        pytest.param(answering(), id="closed"),
        pytest.param(answering(OK.replace(b": 2", b": 99")), id="cut off in the body"),
        pytest.param(
            answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
            id="cut off in a chunk",
        ),
        pytest.param(answering(b"SSH-2.0-OpenSSH_9\r\n"), id="not HTTP"),
        pytest.param(
            answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
            id="not what its encoding says",
        ),
    ],
)
def test_a_call_without_an_answer_may_have_been_applied(behave):
    with server(behave) as url:
        error = failure(url, 0.3)
    assert isinstance(error, ResponseLost)
    assert error.message.startswith("Mailchimp: no response from 127.0.0.1:")


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///3.0", "us19.api.mailchimp.com/3.0", "ftp://host/3.0", "http://[::1/3.0",
     "http://host:port/3.0", "http://a..b/3.0", "http://" + "a" * 70 + ".com/3.0"],
)  # fmt: skip
def test_a_host_that_is_no_url_is_a_wrong_setting(url):
    error = failure(url)
    assert isinstance(error, SettingsError)
    assert "the connection's host is not a URL" in error.message


@pytest.mark.parametrize("value", ["Bearer secret\n", "Bearer sécret…"])
def test_a_key_that_no_header_can_carry_is_a_wrong_setting_and_is_not_shown(value):
    with server(answering(OK)) as url:
        error = failure(url, Authorization=value)
    assert isinstance(error, SettingsError)
    assert "password" in error.message
    assert "cret" not in error.message


def test_a_server_without_tls_has_no_valid_certificate():
    with server(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as url:
        error = failure(url.replace("http:", "https:"))
    assert isinstance(error, SettingsError)
    assert "has no valid certificate" in error.message


def test_credentials_in_a_url_are_not_repeated():
    error = failure("http://user:hunter2@127.0.0.1:1/3.0")
    assert "hunter2" not in error.message


def test_a_call_and_its_answer_show_neither_keys_nor_people_where_they_are_printed():
    """A traceback with locals, a log line, a failed assertion: all print a repr."""
    request = Request(
        method="POST",
        url="https://us1.api.mailchimp.com/3.0/lists/a1",
        params={"query": "select * from Customer where PrimaryEmailAddr = 'ann@example.com'"},
        headers={"Authorization": "Bearer planted-secret"},
        body=b'{"email_address": "ann@example.com"}',
    )
    answer = Response(status=200, headers={"set-cookie": "planted-secret"}, body=request.body)
    shown = f"{request!r} {request} {answer!r} {answer}"
    assert "POST" in shown
    assert "status=200" in shown
    assert "planted-secret" not in shown
    assert "ann@" not in shown


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n"


def dripping(head: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        with contextlib.suppress(OSError):
            connection.sendall(head)
            for _ in range(200):
                connection.sendall(b"x")
                time.sleep(0.05)

    return behave


@pytest.mark.parametrize("head", [HEAD, b"HTTP/1.1 200 OK\r\nX-Slow: "], ids=["body", "headers"])
def test_a_response_that_drips_ends_at_the_deadline(head):
    transport = RequestsTransport(requests.Session(), system="Mailchimp", deadline=0.3)
    with server(dripping(head)) as url, pytest.raises(ResponseLost):
        transport.send(Request(method="GET", url=url))


def test_a_response_that_unpacks_to_more_than_the_limit_is_cut_off():
    packed = zlib.compressobj(wbits=31)
    body = packed.compress(bytes(MAX_BODY + 1)) + packed.flush()
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    transport = RequestsTransport(requests.Session(), system="Mailchimp")
    with (
        server(answering(head.encode() + body)) as url,
        pytest.raises(ResponseLost, match="more than 64 MB"),
    ):
        transport.send(Request(method="GET", url=url))


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
@pytest.mark.parametrize("way", ["length", "chunked", "gzip"])
def test_a_response_arrives_whole_however_it_is_sent(size, way):
    body = random.Random(size).randbytes(size)
    head = f"Content-Length: {len(body)}"
    sent = body
    if way == "chunked":
        pieces = [body[at : at + 7_777] for at in range(0, size, 7_777)]
        sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        head = "Transfer-Encoding: chunked"
    elif way == "gzip":
        sent = gzip.compress(body)
        head = f"Content-Encoding: gzip\r\nContent-Length: {len(sent)}"
    transport = RequestsTransport(requests.Session(), system="Mailchimp")
    with server(answering(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + sent)) as url:
        # A GET: a server that closes before it read a body resets what it sent.
        assert transport.send(Request(method="GET", url=url)).body == body
