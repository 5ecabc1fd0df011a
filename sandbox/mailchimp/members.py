"""One member of an audience: what is stored, and how the API shows it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct, UnsetType, field

from sandbox.mailchimp.timestamps import to_text

if TYPE_CHECKING:
    from sandbox.mailchimp.audience import Audience

STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
TAGS_SHOWN = 50
UNSUBSCRIBED_BY_ADMIN = "N/A (Unsubscribed by admin)"


@lru_cache(maxsize=1024)  # a write asks several times in a row
def subscriber_hash(email: str) -> str:
    """The member id: MD5 of the address in lower case."""
    return hashlib.md5(email.strip().lower().encode(), usedforsecurity=False).hexdigest()


class StatusChange(Struct, gc=False):
    """One change of status.

    Attributes:
        by: who caused it: `api`, `marketer`, `self` (the person) or `mailchimp` (a bounce).
    """

    at: int
    before: str
    after: str
    by: str


class Member(Struct, eq=False, gc=False):
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

    def full_name(self) -> str:
        """The first and last name, as far as they are known."""
        values = self.merge_values
        return " ".join([str(values[tag]) for tag in ("FNAME", "LNAME") if tag in values])

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


class Document(Struct, gc=False):
    """A member as the API shows it; what is UNSET is left out."""

    id: str
    email_address: str
    unique_email_id: str
    contact_id: str | UnsetType
    full_name: str | UnsetType
    web_id: int | UnsetType
    email_type: str
    status: str
    unsubscribe_reason: str | UnsetType
    consents_to_one_to_one_messaging: bool | UnsetType
    merge_fields: dict[str, Any]
    stats: dict[str, int]
    ip_signup: str
    timestamp_signup: str
    ip_opt: str
    timestamp_opt: str
    member_rating: int
    last_changed: str
    language: str
    vip: bool
    email_client: str
    location: dict[str, Any]
    source: str | UnsetType
    tags_count: int
    tags: list[dict[str, Any]]
    list_id: str
    _links: list[dict[str, str]]


SHOWN = Document.__struct_fields__
_STATS = {"avg_open_rate": 0, "avg_click_rate": 0}


def show(member: Member, audience: Audience, *, in_batch: bool = False) -> Document:
    """The member's document; in answers to a batch it has fewer parts."""
    tags = audience.tags.by_id
    unsubscribed = member.status == "unsubscribed"
    return Document(
        id=member.id,
        email_address=member.email_address,
        unique_email_id=member.unique_email_id,
        contact_id=UNSET if in_batch else member.contact_id,
        full_name=UNSET if in_batch else member.full_name(),
        web_id=UNSET if in_batch else member.web_id,
        email_type=member.email_type,
        status=member.status,
        unsubscribe_reason=(member.unsubscribe_reason if unsubscribed and not in_batch else UNSET),
        consents_to_one_to_one_messaging=UNSET if in_batch else member.status == "subscribed",
        merge_fields=audience.merge_fields.render(member.merge_values),
        stats=_STATS,
        ip_signup=member.ip_signup,
        timestamp_signup=to_text(member.timestamp_signup),
        ip_opt=member.ip_opt,
        timestamp_opt=to_text(member.timestamp_opt),
        member_rating=2,
        last_changed=to_text(member.last_changed),
        language=member.language,
        vip=member.vip,
        email_client="",
        location={
            "latitude": member.latitude,
            "longitude": member.longitude,
            "gmtoff": 0,
            "dstoff": 0,
            "country_code": "",
            "timezone": "",
            "region": "",
        },
        source=UNSET if in_batch else member.source,
        tags_count=len(member.tags),
        tags=[{"id": each, "name": tags[each].name} for each in islice(member.tags, TAGS_SHOWN)],
        list_id=audience.id,
        _links=[
            {
                "rel": "self",
                "href": f"/3.0/lists/{audience.id}/members/{member.id}",
                "method": "GET",
                "targetSchema": "/schema/3.0/Definitions/Lists/Members/Response.json",
            }
        ],
    )


def render(member: Member, audience: Audience, keys: Iterable[str] = SHOWN) -> dict[str, Any]:
    """Those parts of the member's document that `keys` name."""
    document = show(member, audience)
    return {key: value for key in keys if (value := getattr(document, key)) is not UNSET}


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
