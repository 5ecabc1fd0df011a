"""What tests of both API clients share: a scripted transport, clients under observation, a mock server."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import requests

from ml_connector.wire.retries import Retries
from ml_connector.wire.transport import Request, Response


class Scripted:
    """Answers with what it was given, in order, and remembers what it was sent."""

    def __init__(self, *answers: Response | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[Request] = []

    def send(self, request: Request) -> Response:
        self.sent.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Observed:
    """The calls, pauses and waits for the rate limit of the clients that it is given to."""

    def __init__(self) -> None:
        self.calls, self.slept, self.paced = Counter[str](), list[float](), 0

    def pace(self) -> None:
        self.paced += 1

    def retries(self, **options: Any) -> Retries:
        return Retries(sleep=self.slept.append, **options)


class MockServer:
    """A mock server's control API. Faults are for calls that fit ``match``."""

    def __init__(self, url: str, match: Mapping[str, str] | None = None) -> None:
        self.url, self._match = url, {"match": dict(match)} if match else {}

    def control(self, method: str, path: str, body: object = None) -> Any:
        answer = requests.request(method, f"{self.url}/_sandbox/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def fault(self, action: dict[str, Any], **rule: Any) -> None:
        self.control("POST", "faults", {"action": action, **self._match, **rule})
