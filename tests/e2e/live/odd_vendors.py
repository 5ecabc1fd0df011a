"""A proxy before both mock servers that plants a person into what they answer."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

from tests.integration.test_nothing_personal_said import (
    ADDRESS,
    PERSON,
    RECORDS,
    each_value,
    problems,
)

Answer = tuple[int, bytes]
Plant = Callable[[str, Answer], Answer]
"""Makes an odd response of the system's real one."""

SHAPES = (PERSON, [PERSON], {"value": PERSON}, {PERSON: 1})
STATUSES = itertools.cycle((400, 500, 409, 503, 404, 429, 405, 403))
_turns = itertools.count(1)
_odd_ids = itertools.count(9_000_000)


def _copies(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Copies of a record, each with the person in one attribute, or without the attribute."""
    shapes = itertools.cycle(SHAPES)
    for name, value in record.items():
        odd = [next(shapes)]
        if isinstance(value, dict | list):
            odd.append(each_value(value, lambda _name, _value: PERSON, within=True))
        for planted in odd:
            other = {"Id": str(next(_odd_ids))} if "Id" in record else {}
            yield {**record, **other, name: planted}
        other = {"Id": str(next(_odd_ids))} if "Id" in record else {}
        yield {key: each for key, each in {**record, **other}.items() if key != name}
    yield each_value(record, lambda _name, _value: PERSON, within=True)


def _beside(found: Any, name: str = "") -> Any:
    if isinstance(found, list):
        listed = [_beside(each) for each in found]
        if name in RECORDS and listed and isinstance(listed[0], dict):
            # Behind the first, whose time they have: records are listed by their last change.
            return [listed[0], *_copies(listed[0]), PERSON, [PERSON], None, *listed[1:]]
        return listed
    if isinstance(found, dict):
        return {key: _beside(value, key) for key, value in found.items()}
    return found


def odd_records(_system: str, answer: Answer) -> Answer:
    """Put odd copies beside the records: one for each attribute."""
    status, body = answer
    return status, json.dumps(_beside(json.loads(body))).encode() if body else body


def odd_values(system: str, answer: Answer) -> Answer:
    """Put the person into every value outside the records, in every third response."""
    status, body = answer
    if next(_turns) % 3 or not body:
        return odd_records(system, answer)
    planted = each_value(json.loads(body), lambda _name, _value: PERSON, within=True)
    return status, json.dumps(planted).encode()


def unreadable(_system: str, answer: Answer) -> Answer:
    """Cut every second response off, behind a person; or send HTML in its place."""
    turn = next(_turns)
    if turn % 2:
        return answer
    return (
        (200, f'{{"{PERSON}": "{ADDRESS}'.encode()) if turn % 4 else (502, f"<p>{PERSON}".encode())
    )


_problems = {
    system: itertools.cycle([each for name, each in problems() if name == system])
    for system in ("quickbooks", "mailchimp")
}


def refusals(system: str, answer: Answer) -> Answer:
    """Refuse every fourth call in words that quote the address."""
    if next(_turns) % 4:
        return answer
    return next(STATUSES), json.dumps(next(_problems[system])).encode()


@contextmanager
def planting(system: str, origin: str, plant: Plant) -> Iterator[str]:
    """Serve a system's API with planted responses; yield the proxy's origin."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            passed = {
                k: v
                for k, v in self.headers.items()
                if k.lower() not in ("host", "accept-encoding")
            }
            real = requests.request(
                self.command, origin + self.path, headers=passed, data=body, timeout=60
            )
            status, content = real.status_code, real.content
            if status < 300:
                status, content = plant(system, (status, content))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815 -- http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
