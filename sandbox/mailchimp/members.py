"""One member of an audience, as stored."""

import hashlib
from functools import lru_cache
from typing import Any

from msgspec import Struct, field

STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
UNSUBSCRIBED_BY_ADMIN = "N/A (Unsubscribed by admin)"


@lru_cache(maxsize=1024)  # a write asks several times in a row
def subscriber_hash(email: str) -> str:
    """Return the member id: MD5 of the address in lower case."""
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
        interests: ids of the groups the member is in.
        permissions: ids of the marketing permissions the member gave.
        compliance: the person opted out or the address bounced; the API cannot subscribe them
            until they come back by themselves, even after an archive.
        status_changes: the first entry is the creation; the last one names who set the status.
        mailed: campaigns sent to the member; `opened` and `clicked`: how many of them.
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
    interests: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    mailed: int = 0
    opened: int = 0
    clicked: int = 0

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
        """Return the first and last name, as far as they are known."""
        values = self.merge_values
        return " ".join([str(values[tag]) for tag in ("FNAME", "LNAME") if tag in values])

    def contents(self) -> tuple[Any, ...]:
        """Return all that a write can change, to distinguish a change from a repetition."""
        return (self.email_address, self.status, self.profile(), frozenset(self.tags))

    def profile(self) -> tuple[Any, ...]:
        """Return what a profile change can change: all but the address, the status and the tags."""
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
            self.interests,
            self.permissions,
        )
