"""Watch the calls of the connector from inside the mock servers: what they held, showed and took.

Calls go over HTTP. Between two calls nothing happens but what a test does, so what a mock server
holds right before a call is what the call meets.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ml_connector.errors import ConnectorError
from ml_connector.wire.transport import Request, Response, Transport
from sandbox.control import Instrumented
from sandbox.mailchimp.app import MailchimpSandbox
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.members import Member, subscriber_hash
from sandbox.quickbooks.app import QuickBooksSandbox
from tests.integration.company import AUDIENCE

MAPPED = ("FNAME", "LNAME", "COMPANY", "PHONE", "ADDRESS")
OURS = ("QuickBooks", "Inactive")
WRITES = ("create", "update", "restore", "archive")
GONE = (None, "absent", "forgotten", "moved")
"""What the audit calls a contact that is no member."""


@dataclass(frozen=True)
class Held:
    """What Mailchimp holds of a member, as far as the connector writes it."""

    status: str
    fields: tuple[tuple[str, Any], ...]
    tags: frozenset[str]


@dataclass(frozen=True)
class Call:
    """One call to a system. ``handle``: the member in its path, by hash or contact id."""

    system: str
    method: str
    path: str
    body: Any
    params: dict[str, str] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        if self.system == "quickbooks":
            return self.path.endswith("/batch")
        return self.method != "GET"

    @property
    def handle(self) -> str | None:
        parts = self.path.split("/")
        there = "members" in parts and parts.index("members") + 1 < len(parts)
        return parts[parts.index("members") + 1] if there else None

    @property
    def lists_members(self) -> bool:
        return self.method == "GET" and self.path.endswith("/members")


def call_of(system: str, request: Request) -> Call | None:
    """Return the call that a request makes; None for a token."""
    path = urlsplit(request.url).path
    if "/oauth2/" in path:
        return None
    try:
        body = json.loads(request.body) if request.body else None
    except ValueError:
        body = (request.body or b"").decode()
    return Call(system, request.method, path, body, dict(request.params))


@dataclass
class Watched:
    """A transport that reports each call before it leaves and after its response arrived."""

    transport: Transport
    system: str
    before: Callable[[Call], None]
    after: Callable[[Call, Response | None], None]

    def send(self, request: Request) -> Response:
        call = call_of(self.system, request)
        if call is None:
            return self.transport.send(request)
        self.before(call)
        try:
            response = self.transport.send(request)
        except ConnectorError:
            self.after(call, None)
            raise
        self.after(call, response)
        return response


class Servers:
    """Both mock servers, seen from inside."""

    def __init__(self, mailchimp: MailchimpSandbox, quickbooks: QuickBooksSandbox) -> None:
        self.mailchimp, self.quickbooks = mailchimp, quickbooks
        self.by_name: dict[str, Instrumented] = {"mailchimp": mailchimp, "quickbooks": quickbooks}

    @property
    def audience(self) -> Audience:
        return self.mailchimp.account.audiences[AUDIENCE]

    def members(self) -> Iterator[Member]:
        """Everyone, those deleted for good included."""
        yield from self.audience.by_contact_id.values()
        yield from self.audience.forgotten.values()

    def statuses(self) -> dict[str, str]:
        """The status by address, archived and forgotten included."""
        forgotten = {
            member.email_address: "forgotten" for member in self.audience.forgotten.values()
        }
        there = self.audience.by_contact_id.values()
        return forgotten | {member.email_address: member.status for member in there}

    def held(self, email: str) -> Held | None:
        """What is held at an address; None where nobody can be found."""
        member = self.audience.find(email)
        if member is None:
            return None
        shown = {tag: member.merge_values.get(tag) for tag in MAPPED}
        tags = (self.audience.tags.by_id[each].name for each in member.tags)
        fields = tuple((tag, value) for tag, value in shown.items() if value)
        return Held(member.status, fields, frozenset(tag for tag in tags if tag in OURS))

    def address_of(self, handle: str) -> str | None:
        """The address of a member by hash or contact id, deleted ones included."""
        for member in self.members():
            if handle in (member.id, member.contact_id):
                return member.email_address
        return None

    def writes(self) -> list[tuple[str, str]]:
        """Every call that writes, to both systems, since the journals were cleared."""
        return [
            (call.method, call.path)
            for server in self.by_name.values()
            for call in server.journal.calls
            if call.write and call.kind != "token"
        ]

    def clear(self) -> None:
        for server in self.by_name.values():
            server.journal.clear()
            server.faults.clear()


def written_emails(call: Call, known: list[str]) -> list[str]:
    """The addresses that a write is about."""
    if call.handle is not None:
        return [email for email in known if subscriber_hash(email) == call.handle]
    if isinstance(call.body, dict):
        members = [str(each.get("email_address")) for each in call.body.get("members", [])]
        return [each.lower() for each in (*members, *call.body.get("members_to_remove", []))]
    return []


@dataclass
class Observations:
    """What the connector may have observed of each address, to hold the audit's ``before`` to.

    ``latest``: what it saw last; several where it may have lost what it saw. ``met``: by request id
    and address, what a call met, and what had been observed by then.
    """

    latest: dict[str, list[Held | None]] = field(default_factory=dict)
    met: dict[tuple[str, str], list[Held | None]] = field(default_factory=dict)
    compared: int = 0

    def observe(self, email: str, held: Held | None, *, surely: bool = True) -> None:
        known = self.latest.setdefault(email, [])
        if surely:
            known.clear()
        if held not in known:
            known.append(held)

    def meet(self, request_id: str, email: str, held: Held | None) -> None:
        self.met[request_id, email] = [held, *self.latest.get(email, [None])]

    def check(self, row: dict[str, Any]) -> None:
        """Compare a new audit row with what its call met."""
        email = (row["after"] or {}).get("email")
        if row["system"] != "mailchimp" or row["action"] not in WRITES or not email:
            return
        candidates = self.met.get((row["request_id"], email))
        if candidates is None:
            return
        self.compared += 1
        assert any(_fits(row["before"], each) for each in candidates), (
            f"before of {row['action']} at {email} is {row['before']}, Mailchimp held {candidates}"
        )


def _fits(before: dict[str, Any] | None, held: Held | None) -> bool:
    if held is None or before is None:
        return held is None and (before is None or before["status"] in GONE)
    unknown = before.get("not_observed", [])
    fields = {tag: value for tag, value in before.get("merge_fields", {}).items() if value}
    return (
        before["status"] == held.status
        and ("merge_fields" in unknown or fields == dict(held.fields))
        and ("tags" in unknown or {t for t in before.get("tags", ()) if t in OURS} == held.tags)
        and (bool(unknown) or before.get("observed_at") is not None)
    )
