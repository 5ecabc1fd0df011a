"""Render the activity block of a QuickBooks customer. Pure.

In Notes the block is between two marker lines. All text outside them belongs to the company's
users and stays byte for byte. The markers carry a code of sync and customer. A line that only
resembles a marker, or a block copied from another customer, is therefore also users' text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ml_connector.model import Engagement, MemberEvent, Status

LONGEST = 2000
"""The limit of Notes and of an attached note, in UTF-16 units as QuickBooks' server counts:
https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/customer"""

MAX_EVENTS = 20
_MAX_LINE = 200

_STATUSES = {
    Status.SUBSCRIBED: "Subscribed to the newsletter",
    Status.PENDING: "Has not confirmed the subscription",
    Status.TRANSACTIONAL: "Not subscribed, gets transactional mail only",
    Status.UNSUBSCRIBED: "Unsubscribed from the newsletter",
    Status.CLEANED: "Bounced: mail to this address does not arrive",
    Status.ARCHIVED: "Archived in Mailchimp, gets no newsletter",
    Status.FORGOTTEN: "Deleted permanently in Mailchimp, gets no newsletter",
}
_EVENTS = {
    Status.SUBSCRIBED.value: "subscribed",
    Status.PENDING.value: "asked to subscribe, not yet confirmed",
    Status.TRANSACTIONAL.value: "set to transactional mail only",
    Status.UNSUBSCRIBED.value: "unsubscribed",
    Status.CLEANED.value: "mail bounced permanently",
    "complained": "reported a mail as spam (complaint)",
    Status.ARCHIVED.value: "archived in Mailchimp",
    "profile_changed": "changed their details in Mailchimp",
    "address_changed": "changed their address in Mailchimp",
    "engaged": "opened or clicked",
    "quiet": "has not opened or clicked for 30 days",
    "never_opened": "no bounce for 30 days",
    "bouncing": "mail bounces for now",
    "bounced": "mail bounced permanently",
}
_ENGAGEMENT = {
    Engagement.ENGAGED.value: "Opens or clicks",
    Engagement.QUIET.value: "No opens lately",
    Engagement.BOUNCING.value: "Mail bounces for now",
}
"""Nothing about a contact that was never mailed: the first campaign would change every customer.
Nothing about a contact that opened none: Mailchimp's rates may end that without an event."""


class Suggestion(NamedTuple):
    """A value that a person gave a merge field in Mailchimp: the field's name, the value, when."""

    name: str
    value: Any
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactSummary:
    """What a customer's block shows of its contact; ``events`` newest first.

    ``status`` None: there is no contact. ``address``: the member's address in Mailchimp if it
    differs from the customer's. ``names``: of the merge fields, by tag. ``values``: whether
    changed fields show their values.
    """

    status: Status | None
    since: datetime | None = None
    engagement: str | None = None
    last_engaged: datetime | None = None
    last_clicked: datetime | None = None
    address: str | None = None
    events: Sequence[MemberEvent] = ()
    suggestions: Sequence[Suggestion] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    values: bool = True


def render_lines(standing: ContactSummary, zone: ZoneInfo) -> list[str]:
    """Return the lines between the markers, the most important first; dates in ``zone``."""
    said = _STATUSES.get(standing.status) if standing.status else None
    if standing.status is Status.CLEANED and any(e.kind == "complained" for e in standing.events):
        said = "Reported a mail as spam, gets no newsletter"
    status = said or "Not in the Mailchimp audience"
    if said and standing.since:
        status += f" since {_day(standing.since, zone)}"
    engagement = _ENGAGEMENT.get(standing.engagement or "")
    if engagement and standing.status is not Status.CLEANED:
        status += f". {engagement}"
        # Privacy proxies open all mail, so a click means more.
        days = {
            "clicked": standing.last_clicked and _day(standing.last_clicked, zone),
            "opened": standing.last_engaged and _day(standing.last_engaged, zone),
        }
        if days["clicked"] == days["opened"]:
            del days["opened"]
        told = " and ".join(f"{did} {day}" for did, day in days.items() if day)
        status += f", last {told}" if told else ""
    lines = [f"{status}."]
    if standing.address:
        lines.append(_plain(f"In Mailchimp the address is now {standing.address}."))
    lines += [
        _plain(f"{each.name} in Mailchimp: {said_of(each.value)} ({_day(each.since, zone)})")
        for each in standing.suggestions
    ]
    return lines + [
        _plain(f"{_day(event.happened_at, zone)} {_event(event, standing)}")
        for event in standing.events[:MAX_EVENTS]
    ]


def said_of(value: Any) -> str:
    """Return a merge field's value as one text; "empty" for none."""
    parts = value.values() if isinstance(value, Mapping) else [value]
    return ", ".join(str(part) for part in parts if part) or "empty"


def _event(event: MemberEvent, standing: ContactSummary) -> str:
    said = _EVENTS.get(event.kind, event.kind.replace("_", " "))
    detail = event.detail or {}
    if reason := given_reason(detail):
        return f"{said}: {reason}"
    if detail.get("fields"):
        return f"{said}: {changed_fields(detail, standing.names, values=standing.values)}"
    if detail.get("email"):
        return f"{said} to {detail['email']}"
    return said


def given_reason(detail: Mapping[str, Any]) -> str:
    """Return why a member left; empty without a reason. Mailchimp writes "N/A …" for none."""
    reason = str(detail.get("reason") or "")
    return "" if reason.startswith("N/A") else reason


def changed_fields(detail: Mapping[str, Any], names: Mapping[str, str], *, values: bool) -> str:
    """Return the fields that a profile change touched, with old and new value if ``values``."""
    told = detail.get("values", {}) if values else {}
    said = []
    for tag in detail["fields"]:
        name = names.get(tag, tag)
        if tag in told:
            old, new = map(said_of, told[tag])
            name = f"{name} from {old} to {new}"
        said.append(name)
    return ", ".join(said)


def _day(time: datetime, zone: ZoneInfo) -> str:
    return time.astimezone(zone).date().isoformat()


def _plain(line: str) -> str:
    """Return one line that any QuickBooks company can store: US companies use ISO-8859-1."""
    flat = re.sub(r"[\s\x00-\x1f\x7f-\x9f\xad]+", " ", line).strip()
    flat = re.sub(r"-{3,} ", "-- ", flat)  # could otherwise resemble a marker
    text = flat.encode("latin-1", errors="replace").decode("latin-1")
    return text if len(text) <= _MAX_LINE else text[: _MAX_LINE - 3] + "..."


@dataclass(frozen=True, slots=True)
class Markers:
    """The first and last lines of one customer's block for one sync."""

    sync: str
    code: str

    @property
    def first(self) -> str:
        """The line that opens the block."""
        return f"--- Mailchimp {self.sync} [{self.code}], kept up to date by the sync ---"

    @property
    def last(self) -> str:
        """The line that closes the block."""
        return f"--- end of Mailchimp {self.sync} [{self.code}] ---"

    def block(self, lines: Sequence[str], room: int = LONGEST) -> str | None:
        """Return the block with as many lines as fit into ``room``; None if not even one fits.

        ``room`` is in UTF-16 units.
        """
        for count in range(len(lines), 0, -1):
            text = "\n".join([self.first, *lines[:count], self.last])
            if length(text) <= room:
                return text
        return None

    def into(self, notes: str, lines: Sequence[str]) -> str | None:
        """Return ``notes`` with the block inserted or replaced; None if it does not fit."""
        before, after, found = self._around(notes)
        if not found and notes and not notes.endswith("\n"):
            before += "\n"
        block = self.block(lines, LONGEST - length(before) - length(after))
        return None if block is None else before + block + after

    def out_of(self, notes: str) -> str:
        """Return ``notes`` without the block."""
        before, after, found = self._around(notes)
        return before + after if found else notes

    def _around(self, notes: str) -> tuple[str, str, bool]:
        """Return the text before and after the block, and whether there is a block.

        A person may have deleted the line break before or after it. The line break is then
        restored, so the block keeps lines of its own.
        """
        first, last = re.escape(self.first), re.escape(self.last)
        found = re.search(rf"{first}(?:(?!{first}).)*?{last}", notes, flags=re.DOTALL)
        if found is None:
            return notes, "", False
        before, after = notes[: found.start()], notes[found.end() :]
        if before and not before.endswith("\n"):
            before += "\n"
        if not re.match(r"[ \t]*(\r?\n|\Z)", after):
            after = "\n" + after
        return before, after, True


def length(text: str) -> int:
    """Return the length in UTF-16 units: an emoji counts two."""
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2
