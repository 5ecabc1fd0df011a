"""A vendor whose responses hold odd records: the mock server's, edited on their way to the client."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from ml_connector.wire.transport import Request, Response, Transport
from tests.integration.company import Company

Edit = Callable[[dict[str, Any]], Any]
"""Changes a record in place, or returns what stands in its place."""


class OddVendor:
    """Edits customers (by name) and members (by address) in every response until it is well.

    A response that is a record itself stays an object.
    """

    def __init__(self, company: Company) -> None:
        self.edits: dict[str, Edit] = {}
        company.around = lambda _system, transport: _Edited(transport, self.edits)

    def well(self) -> None:
        self.edits.clear()


class _Edited:
    def __init__(self, transport: Transport, edits: dict[str, Edit]) -> None:
        self._transport, self._edits = transport, edits

    def send(self, request: Request) -> Response:
        response = self._transport.send(request)
        if not self._edits or not 200 <= response.status < 300 or not response.body:
            return response
        document = msgspec.json.decode(response.body)
        return replace(response, body=msgspec.json.encode(self._edited(document)))

    def _edited(self, found: Any, *, within: bool = False) -> Any:
        if isinstance(found, list):
            return [self._edited(each, within=True) for each in found]
        if not isinstance(found, dict):
            return found
        name = found.get("GivenName") or found.get("email_address")
        if isinstance(name, str) and name in self._edits and len(found) > 2:
            told = self._edits[name](found)
            return found if told is None or not within else told
        return {key: self._edited(value) for key, value in found.items()}


def without(*names: str) -> Edit:
    def edit(row: dict[str, Any]) -> None:
        for name in names:
            row.pop(name, None)

    return edit


def having(**values: Any) -> Edit:
    def edit(row: dict[str, Any]) -> None:
        row.update(values)

    return edit


def turned_into(value: Any) -> Edit:
    return lambda _row: value
