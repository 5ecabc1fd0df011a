"""One member of an audience: what is stored, and how the API shows it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.mailchimp.timestamps import to_text

if TYPE_CHECKING:
    from sandbox.mailchimp.audience import Audience

STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
TAGS_SHOWN = 50
UNSUBSCRIBED_BY_ADMIN = "N/A (Unsubscribed by admin)"


def subscriber_hash(email: str) -> str:
    """The member id: MD5 of the address in lower case."""
    return hashlib.md5(email.strip().lower().encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class StatusChange:
    """One change of status.

    Attributes:
        by: who caused it: `api`, `marketer`, `self` (the person) or `mailchimp` (a bounce).
    """

    at: int
    before: str
    after: str
    by: str


@dataclass(slots=True, eq=False)
class Member:
    """A stored member.

    Attributes:
        merge_values: values by merge tag, without the unset ones.
        tags: tag id to the second it was added.
        compliance: the person opted out or the address bounced; the API cannot subscribe them
            until they come back by themselves, even after an archive.
        status_changes: the first entry is the creation; the last one tells who set the status.
    """

    email_address: str
    web_id: int
    contact_id: str
    status: str
    last_changed: int
    id: str = ""
    unique_email_id: str = ""
    email_type: str = "html"
    language: str = ""
    vip: bool = False
    ip_signup: str = ""
    ip_opt: str = ""
    timestamp_signup: int | None = None
    timestamp_opt: int | None = None
    latitude: float = 0
    longitude: float = 0
    source: str = "API - Generic"
    unsubscribe_reason: str = ""
    unsubscribed_at: int | None = None
    compliance: bool = False
    merge_values: dict[str, Any] = field(default_factory=dict)
    tags: dict[int, int] = field(default_factory=dict)
    status_changes: list[StatusChange] = field(default_factory=list)

    def rekey(self, email: str) -> None:
        """Take another address; `contact_id` and `web_id` stay."""
        self.email_address = email
        self.id = subscriber_hash(email)
        self.unique_email_id = self.id[:10]

    def set_status(self, status: str, *, by: str, at: int) -> None:
        """Record a change of status and who caused it."""
        if self.status_changes and (status, by) == (self.status, self.status_changes[-1].by):
            return
        self.status_changes.append(StatusChange(at, self.status, status, by))
        self.status = status
        if status in ("subscribed", "pending", "transactional"):
            self.unsubscribe_reason = ""
            self.unsubscribed_at = None
        elif status == "unsubscribed":
            self.unsubscribed_at = at
            if by in ("api", "marketer"):
                self.unsubscribe_reason = UNSUBSCRIBED_BY_ADMIN
        if by in ("self", "mailchimp"):
            self.compliance = status in ("unsubscribed", "cleaned")

    def contents(self) -> tuple[Any, ...]:
        """All that a write can change, to tell a change from a repetition."""
        return (self.email_address, self.status, self.profile(), frozenset(self.tags))

    def profile(self) -> tuple[Any, ...]:
        """What a change of the profile can change: all but the address, the status and the tags."""
        return (
            self.email_type,
            self.language,
            self.vip,
            self.ip_signup,
            self.ip_opt,
            self.timestamp_signup,
            self.timestamp_opt,
            self.latitude,
            self.longitude,
            dict(self.merge_values),
        )


Renderer = Callable[[Member, "Audience"], Any]

SHOWN: dict[str, Renderer] = {
    "id": lambda m, _: m.id,
    "email_address": lambda m, _: m.email_address,
    "unique_email_id": lambda m, _: m.unique_email_id,
    "contact_id": lambda m, _: m.contact_id,
    "full_name": lambda m, _: " ".join(
        str(m.merge_values[tag]) for tag in ("FNAME", "LNAME") if tag in m.merge_values
    ),
    "web_id": lambda m, _: m.web_id,
    "email_type": lambda m, _: m.email_type,
    "status": lambda m, _: m.status,
    "unsubscribe_reason": lambda m, _: m.unsubscribe_reason,
    "consents_to_one_to_one_messaging": lambda m, _: m.status == "subscribed",
    "merge_fields": lambda m, a: a.merge_fields.render(m.merge_values),
    "stats": lambda _m, _a: {"avg_open_rate": 0, "avg_click_rate": 0},
    "ip_signup": lambda m, _: m.ip_signup,
    "timestamp_signup": lambda m, _: to_text(m.timestamp_signup),
    "ip_opt": lambda m, _: m.ip_opt,
    "timestamp_opt": lambda m, _: to_text(m.timestamp_opt),
    "member_rating": lambda _m, _a: 2,
    "last_changed": lambda m, _: to_text(m.last_changed),
    "language": lambda m, _: m.language,
    "vip": lambda m, _: m.vip,
    "email_client": lambda _m, _a: "",
    "location": lambda m, _: {
        "latitude": m.latitude,
        "longitude": m.longitude,
        "gmtoff": 0,
        "dstoff": 0,
        "country_code": "",
        "timezone": "",
        "region": "",
    },
    "source": lambda m, _: m.source,
    "tags_count": lambda m, _: len(m.tags),
    "tags": lambda m, a: [
        {"id": tag_id, "name": a.tags.by_id[tag_id].name} for tag_id in list(m.tags)[:TAGS_SHOWN]
    ],
    "list_id": lambda _m, a: a.id,
    "_links": lambda m, a: [
        {
            "rel": "self",
            "href": f"/3.0/lists/{a.id}/members/{m.id}",
            "method": "GET",
            "targetSchema": "/schema/3.0/Definitions/Lists/Members/Response.json",
        }
    ],
}
NOT_IN_BATCH = {
    "contact_id",
    "full_name",
    "web_id",
    "unsubscribe_reason",
    "consents_to_one_to_one_messaging",
    "source",
}
SHOWN_IN_BATCH = tuple(key for key in SHOWN if key not in NOT_IN_BATCH)


def render(
    member: Member, audience: Audience, keys: Iterable[str] = tuple(SHOWN)
) -> dict[str, Any]:
    """The member as the API shows it; `unsubscribe_reason` only while unsubscribed."""
    return {
        key: SHOWN[key](member, audience)
        for key in keys
        if key != "unsubscribe_reason" or member.status == "unsubscribed"
    }


def render_in_full(member: Member, audience: Audience) -> dict[str, Any]:
    """What the control API shows: the member plus what Mailchimp keeps to itself."""
    return render(member, audience) | {
        "compliance": member.compliance,
        "status_changed_by": member.status_changes[-1].by,
        "status_changes": [
            {"at": to_text(each.at), "before": each.before, "after": each.after, "by": each.by}
            for each in member.status_changes
        ],
    }
