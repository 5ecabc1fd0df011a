"""The journal: the requests to a mock server, in order, and their outcome.

Headers are never recorded (but for the request id of a response), so no access token or API key can
end up here. Bodies are kept as the bytes that arrived and are parsed only when the journal is read,
which keeps it cheap for benchmarks with a hundred thousand customers.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(slots=True)
class Call:
    """One API call. ``status`` is None while it runs, or when the connection was dropped.

    ``request_id`` is the vendor's, as its response names it.
    """

    seq: int
    at: float
    method: str
    path: str
    template: str
    query: dict[str, str]
    body: bytes
    kind: str
    write: bool
    applied: bool = False
    status: int | None = None
    fault: str | None = None
    request_id: str | None = None
    duration_ms: float | None = None
    started: float = field(default=0.0, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Render the call for ``GET /_sandbox/journal``; JSON bodies are parsed, the rest is text."""
        return {
            "seq": self.seq,
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds"),
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "body": parse_body(self.body),
            "kind": self.kind,
            "write": self.write,
            "applied": self.applied,
            "status": self.status,
            "fault": self.fault,
            "request_id": self.request_id,
            "duration_ms": self.duration_ms,
        }


def parse_body(body: bytes) -> Any:
    """Return JSON as an object, any other text as text, and None for an empty body."""
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", errors="replace")


class Journal:
    """Every call since the last clearing, and how many were ever under way at once."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self._last_seq = 0

    def begin(
        self,
        *,
        method: str,
        path: str,
        template: str,
        query: dict[str, str],
        body: bytes,
        kind: str,
        write: bool,
    ) -> Call:
        """Note a call on arrival; sequence numbers follow the order of arrival and never restart."""
        self._last_seq += 1
        call = Call(
            seq=self._last_seq,
            at=time.time(),
            method=method,
            path=path,
            template=template,
            query=query,
            body=body,
            kind=kind,
            write=write,
            started=time.perf_counter(),
        )
        self.calls.append(call)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        return call

    def finish(self, call: Call) -> None:
        """Note that a call is over, with a response or without."""
        call.duration_ms = round((time.perf_counter() - call.started) * 1000, 3)
        self.in_flight -= 1

    def select(
        self,
        *,
        since: int = 0,
        write: bool | None = None,
        path: str | None = None,
        kind: str | None = None,
    ) -> Iterator[Call]:
        """Yield calls after sequence number ``since`` whose path contains ``path``."""
        for call in self.calls:
            if (
                call.seq > since
                and (write is None or call.write is write)
                and (path is None or path in call.path)
                and (kind is None or call.kind == kind)
            ):
                yield call

    def summary(self) -> dict[str, Any]:
        """Count calls by method and path, ids left out; token calls are counted apart."""
        api = [call for call in self.calls if call.kind == "api"]
        writes = sum(call.write for call in api)
        return {
            "total": len(self.calls),
            "reads": len(api) - writes,
            "writes": writes,
            "tokens": len(self.calls) - len(api),
            "by_path": dict(Counter(f"{call.method} {call.template}" for call in self.calls)),
            "max_in_flight": self.max_in_flight,
        }

    def clear(self) -> None:
        """Forget all calls; the high-water mark starts again from what is under way now."""
        self.calls.clear()
        self.max_in_flight = self.in_flight
