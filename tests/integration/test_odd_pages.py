"""Pages with odd records through the real store: the untouched ones arrive as contacts (A55)."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_connector.wire.transport import Request, Response, Transport
from tests.odd_json import FEW, body, odd_one

WELL, ODD = 20, 40 if FEW else 200
EXAMPLES = 2 if FEW else 50
"""Times ``ODD``: 10,000 odd customers and as many odd members in CI's long part."""

ODD_IDS = 700_000
"""A wrong id is a number or a text. No two records share one: test_copies_and_times.py has those."""

GUARD_OFF = {"guard": {"max_archives": 1_000}}


class OddPages:
    """Both vendors, with each record of an odd person mutated by a number of its own.

    The names of the others are the example's: QuickBooks changed them all.
    """

    def __init__(self, company: Any) -> None:
        self.example, self.numbers = 0, (0,) * ODD
        company.around = lambda _system, transport: _Mutating(transport, self)

    def edited(self, found: Any, *, listed: bool = False) -> Any:
        if isinstance(found, list):
            return [self.edited(each, listed=True) for each in found]
        if not isinstance(found, dict):
            return found
        name = found.get("GivenName") or found.get("email_address")
        if isinstance(name, str) and listed and name.lower().startswith("odd") and len(found) > 2:
            place = int(name.lower()[3:].partition("@")[0])
            odd = odd_one(found, self.numbers[place])
            if isinstance(odd, dict) and odd.get("Id", found.get("Id")) != found.get("Id"):
                odd["Id"] = (ODD_IDS + place, f"x{place}", f" {place}")[place % 3]
            return odd
        if "GivenName" in found and "SyncToken" in found:
            return {**found, "FamilyName": f"Finch {self.example}"}
        return {key: self.edited(value) for key, value in found.items()}


class _Mutating:
    def __init__(self, transport: Transport, pages: OddPages) -> None:
        self._transport, self._pages = transport, pages

    def send(self, request: Request) -> Response:
        response = self._transport.send(request)
        if not 200 <= response.status < 300 or not response.body:
            return response
        document = msgspec.json.decode(response.body)
        return replace(response, body=body(self._pages.edited(document)))


@pytest.fixture
def odd_pages(company):
    for number in range(WELL):
        company.customer(f"Well{number}", f"well{number}@finch.org")
    for number in range(ODD):
        company.customer(f"Odd{number}", f"odd{number}@finch.org")
    company.sync()
    return OddPages(company)


@pytest.mark.timeout(600)
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(numbers=st.lists(st.integers(0, 2**32), min_size=ODD, max_size=ODD))
def test_a55_untouched_records_of_odd_pages_arrive_as_contacts(company, odd_pages, numbers):
    odd_pages.example += 1
    odd_pages.numbers = tuple(numbers)
    company.settings |= GUARD_OFF
    company.sync(full_sync=True)
    well = {f"well{number}@finch.org" for number in range(WELL)}
    members = company.members()
    assert {members[each]["status"] for each in well} == {"subscribed"}
    assert {members[each]["merge_fields"]["LNAME"] for each in well} == {
        f"Finch {odd_pages.example}"
    }
