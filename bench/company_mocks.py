"""Many companies and as many accounts in one process, each with the limits of its own.

    python -m bench.company_mocks PORT < companies.json

Company ``c007`` is at ``/quickbooks/c007/``, its account at ``/mailchimp/c007/3.0``: two mock servers
of the sandbox with nothing in common with the others. ``GET /figures`` returns what each was asked.
"""

import asyncio
import json
import sys
import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import msgspec

from sandbox.control import ASGIApp, Instrumented, Receive, Scope, Send, reply
from sandbox.journal import Call
from sandbox.mailchimp import people
from sandbox.mailchimp.app import MailchimpSandbox
from sandbox.quickbooks.app import create_app
from sandbox.quickbooks.company import Company as Books
from sandbox.quickbooks.generate import FIRST_ID, iter_customers
from sandbox.quickbooks.rows import Row
from sandbox.running import bind, make_server

TOO_MANY = 429
COMPANY_FIELD = {"tag": "COMPANY", "name": "Company", "type": "text"}


@dataclass(frozen=True)
class Company:
    """One company; ``unsubscribed``: how many of its customers had left the audience before.

    ``latency`` is in milliseconds and delays every response of its account at Mailchimp.
    """

    name: str
    customers: int
    unsubscribed: int = 0
    latency: float = 0.0

    @property
    def realm(self) -> str:
        """Its number at QuickBooks."""
        return f"9341450000{int(self.name[1:]):06}"


@dataclass(frozen=True)
class Asked:
    """What one mock server was asked: calls, and the most of them at once, in a second, a minute."""

    calls: int
    at_once: int
    a_second: int
    a_minute: int
    batches_a_minute: int
    refused: int
    """Responses with 429: a limit was crossed."""


class MockServers:
    """Every mock server behind one address, by the first two parts of the path."""

    def __init__(self, companies: list[Company]) -> None:
        self._halves: dict[tuple[str, str], Instrumented] = {}
        for company in companies:
            self._halves["quickbooks", company.name] = _quickbooks(company)
            self._halves["mailchimp", company.name] = _mailchimp(company)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"] == "/figures":
            await reply(self._figures())(scope, receive, send)
            return
        _, system, name, rest = scope["path"].split("/", 3)
        own = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}
        await self._halves[system, name](own, receive, send)

    def _figures(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for (system, name), mock_app in self._halves.items():
            found.setdefault(name, {})[system] = asdict(_asked(mock_app))
            if isinstance(mock_app, MailchimpSandbox):
                found[name]["members"] = len(mock_app.account.audience(name).by_contact_id)
        return found


def _quickbooks(company: Company) -> Instrumented:
    app = create_app(company="empty", realm=company.realm)
    (books,) = (part for part in app.remembers if isinstance(part, Books))
    books.load(_customers(company.customers), [], next_id=company.customers + FIRST_ID)
    _set(app, "PUT", "settings", {"enforce_limits": True})
    return app


@cache
def _customers(number: int) -> tuple[Row, ...]:
    """Companies of one size have the same customers, so that 200 are made as quickly as one."""
    return tuple(iter_customers(number, seed=1, now=time.time()))


def _mailchimp(company: Company) -> Instrumented:
    app = MailchimpSandbox()
    audience = app.account.add_audience(company.name, company.name)
    audience.merge_fields.add(COMPANY_FIELD)
    for email in _addresses(company.customers)[: company.unsubscribed]:
        people.seed(audience, {"email_address": email, "status": "unsubscribed", "origin": "self"})
    app.latency.ms = company.latency
    return app


@cache
def _addresses(customers: int) -> tuple[str, ...]:
    """Yield the addresses that only one customer has, as the sandbox makes its customers up."""
    return tuple(filter(None, map(_own_address, _customers(customers))))


def _own_address(row: Row) -> str:
    email: str = row.body().get("PrimaryEmailAddr", {}).get("Address", "")
    alone = str(row.id) in email and email.count("@") == 1 and email == email.strip().lower()
    return email if row.active and alone else ""


def _asked(mock_app: Instrumented) -> Asked:
    calls = [call for call in mock_app.journal.calls if call.kind == "api"]
    batches = [call for call in calls if call.path.endswith("/batch")]
    return Asked(
        calls=len(calls),
        at_once=mock_app.journal.max_in_flight,
        a_second=_most_within(calls, 1),
        a_minute=_most_within(calls, 60),
        batches_a_minute=_most_within(batches, 60),
        refused=sum(call.status == TOO_MANY for call in calls),
    )


def _most_within(calls: list[Call], seconds: float) -> int:
    times = sorted(call.at for call in calls)
    return max((n - bisect_right(times, at - seconds) for n, at in enumerate(times, 1)), default=0)


def _set(app: ASGIApp, method: str, path: str, body: Mapping[str, Any]) -> None:
    """Make a control call without a network."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": msgspec.json.encode(body)}

    async def send(message: Mapping[str, Any]) -> None:
        assert message.get("status", 200) == 200, message

    scope = {"type": "http", "method": method, "path": f"/_sandbox/{path}", "query_string": b""}
    asyncio.run(app({**scope, "headers": []}, receive, send))


def main() -> None:
    """Serve until SIGTERM."""
    companies = [Company(**each) for each in json.load(sys.stdin)]
    listener = bind("127.0.0.1", int(sys.argv[1]))
    asyncio.run(make_server(MockServers(companies)).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
