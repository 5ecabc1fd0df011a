"""One audience: its members and the ways to find them, its merge fields and tags."""

import hashlib
from collections import Counter
from typing import Any, Self

from sandbox.clock import Clock
from sandbox.mailchimp import problems
from sandbox.mailchimp.changes import Change, Changes
from sandbox.mailchimp.interests import Interests
from sandbox.mailchimp.members import Member, StatusChange, subscriber_hash
from sandbox.mailchimp.merge_fields import MergeFields
from sandbox.mailchimp.recency import Recency
from sandbox.mailchimp.settings import Settings
from sandbox.mailchimp.tags import Tags
from sandbox.mailchimp.timestamps import to_text
from sandbox.mailchimp.webhooks import Webhook
from sandbox.memory import Remembered

FIRST_WEB_ID = 100_000_001
NEW_AUDIENCE_FIELDS: list[dict[str, Any]] = [
    {"tag": "FNAME", "name": "First Name", "type": "text"},
    {"tag": "LNAME", "name": "Last Name", "type": "text"},
    {"tag": "ADDRESS", "name": "Address", "type": "address"},
    {"tag": "PHONE", "name": "Phone Number", "type": "phone"},
]


class Audience(Remembered):
    """An audience in memory.

    A new one has the merge fields FNAME, LNAME, ADDRESS and PHONE, as at Mailchimp.

    Attributes:
        abuse_reports: spam complaints, oldest first, as the API shows them.
        permissions: texts of the marketing permissions by id; none where GDPR fields are off.
        forgotten: members deleted for ever, by subscriber hash; the API never sees them again.
        confirmation_mails: how many people a `pending` status has mailed.
    """

    id: str
    merge_fields: MergeFields
    tags: Tags

    def __init__(
        self,
        list_id: str,
        name: str,
        *,
        clock: Clock,
        settings: Settings,
        changes: Changes,
    ) -> None:
        self.id = list_id
        self.name = name
        self.clock = clock
        self.settings = settings
        self.changes = changes
        self.created = self.now()
        self.merge_fields = MergeFields()
        self.merge_fields.replace(NEW_AUDIENCE_FIELDS)
        self.tags = Tags()
        self.interests = Interests()
        self.permissions: dict[str, str] = {}
        self.recency = Recency()
        self.by_contact_id: dict[str, Member] = {}
        self.forgotten: dict[str, Member] = {}
        self.confirmation_mails = 0
        self.abuse_reports: list[dict[str, Any]] = []
        self.webhooks: dict[str, Webhook] = {}
        self._by_hash: dict[str, Member] = {}
        self._next_web_id = FIRST_WEB_ID
        self._stats: dict[str, Any] = {}
        self._stats_until = 0

    @classmethod
    def renew(cls, kept: dict[str, Any]) -> Self:
        """Make a new audience with the id, name and wiring of a kept one."""
        wiring = {name: kept[name] for name in ("clock", "settings", "changes")}
        return cls(kept["id"], kept["name"], **wiring)

    def now(self) -> int:
        """Return the current second of the mock server's clock."""
        return int(self.clock.now())

    def find(self, handle: str) -> Member | None:
        """Find a member by MD5 of the address, by the address itself, or by `contact_id`."""
        if "@" in handle:
            return self._by_hash.get(subscriber_hash(handle))
        return self._by_hash.get(handle.lower()) or self.by_contact_id.get(handle.lower())

    def get(self, handle: str) -> Member:
        """Find a member likewise; 404 if there is none, or it was deleted for ever."""
        found = self.find(handle)
        if found is None:
            raise problems.not_found()
        return found

    def create(self, email: str, status: str, *, by: str, source: str = "API - Generic") -> Member:
        """Create a member with an address and a status."""
        now = self.now()
        web_id = self._next_web_id
        self._next_web_id += 1
        identity = hashlib.md5(f"{self.id}:{web_id}".encode(), usedforsecurity=False).hexdigest()
        member = Member(email, web_id, identity, "", now, source=source)
        member.rekey(email)
        member.set_status(status, by=by, at=now)
        if status == "subscribed":
            member.timestamp_opt = now
        self.by_contact_id[member.contact_id] = member
        self._by_hash[member.id] = member
        self.recency.touch(member)
        return member

    def rekey(self, member: Member, email: str) -> None:
        """Give the member another address: the old hash is no longer found."""
        del self._by_hash[member.id]
        member.rekey(email)
        self._by_hash[member.id] = member

    def touch(self, member: Member) -> None:
        """Set the time of the member's last change to now."""
        member.last_changed = self.now()
        self.recency.touch(member)

    def forget(self, member: Member, *, by: str) -> None:
        """Delete for ever; the address cannot be imported again."""
        self.recency.drop(member)
        del self.by_contact_id[member.contact_id]
        del self._by_hash[member.id]
        member.status_changes.append(StatusChange(self.now(), member.status, "forgotten", by))
        self.forgotten[member.id] = member
        if member.status != "archived":
            self.tell("unsubscribe", member, by=by, action="delete", reason="manual")

    def tell(self, kind: str, member: Member | None, *, by: str, **details: str) -> None:
        """Report a change to the listeners; `details` are those of `Change`."""
        self.changes.tell(Change(kind, self.id, self.now(), self.merge_fields, member, by, details))

    def tell_status(
        self, member: Member, before: str, *, abuse: bool = False, campaign_id: str = ""
    ) -> None:
        """Report the member's status if it differs from `before`.

        For a new member, whose `before` is empty, only a subscription is reported.
        """
        if member.status == before or (not before and member.status != "subscribed"):
            return
        by = member.status_changes[-1].by
        sent = {"campaign_id": campaign_id} if campaign_id else {}
        match member.status:
            case "subscribed":
                self.tell("subscribe", member, by=by)
            case "unsubscribed" | "archived":
                action = "unsub" if member.status == "unsubscribed" else "delete"
                reason = "abuse" if abuse else "manual"
                self.tell("unsubscribe", member, by=by, action=action, reason=reason, **sent)
            case "cleaned":
                reason = "abuse" if abuse else "hard"
                self.tell("cleaned", member, by=by, reason=reason, **sent)

    def tell_address(self, member: Member, old: str, *, by: str) -> None:
        """Report another address; Mailchimp reports that as a change of profile too."""
        self.tell("upemail", member, by=by, old_email=old)
        self.tell("profile", member, by=by)

    def report_abuse(self, member: Member, campaign_id: str) -> None:
        """Record a spam complaint of the member."""
        self.abuse_reports.append(
            {
                "id": len(self.abuse_reports) + 1,
                "campaign_id": campaign_id,
                "list_id": self.id,
                "email_id": member.id,
                "email_address": member.email_address,
                "merge_fields": {},
                "vip": member.vip,
                "date": to_text(self.now()),
                "_links": [],
            }
        )

    def rename_tag(self, old: str, new: str | None) -> None:
        """Carry members' values over to a merge field's new tag, or drop them with the field."""
        for member in self.by_contact_id.values():
            value = member.merge_values.pop(old, None)
            if new is not None and value is not None:
                member.merge_values[new] = value

    def ask_permissions(self, texts: list[str]) -> None:
        """Turn GDPR fields on with these permissions, or off with none."""
        ids = (
            hashlib.md5(f"permission {text}".encode(), usedforsecurity=False).hexdigest()[:10]
            for text in texts
        )
        self.permissions = dict(zip(ids, texts, strict=True))

    def stats(self) -> dict[str, Any]:
        """Return the counters; Mailchimp caches them for at least five minutes."""
        now = self.now()
        if now >= self._stats_until or not self._stats:
            self._stats = self._count()
            self._stats_until = now + self.settings.stats_cache_seconds
        return self._stats

    def _count(self) -> dict[str, Any]:
        counts = Counter(each.status for each in self.by_contact_id.values())
        return {
            "member_count": counts["subscribed"],
            "total_contacts": len(self.by_contact_id) - counts["archived"],
            "unsubscribe_count": counts["unsubscribed"],
            "cleaned_count": counts["cleaned"],
            "member_count_since_send": counts["subscribed"],
            "unsubscribe_count_since_send": counts["unsubscribed"],
            "cleaned_count_since_send": counts["cleaned"],
            "campaign_count": 0,
            "campaign_last_sent": "",
            "merge_field_count": len(self.merge_fields.by_tag),
            "avg_sub_rate": 0,
            "avg_unsub_rate": 0,
            "target_sub_rate": 0,
            "open_rate": 0,
            "click_rate": 0,
            "last_sub_date": "",
            "last_unsub_date": "",
        }

    def render(self) -> dict[str, Any]:
        """Return the audience as `GET /lists/{list_id}` shows it."""
        return {
            "id": self.id,
            "web_id": 1,
            "name": self.name,
            "contact": {
                "company": "Sample Company",
                "address1": "1 Main Street",
                "address2": "",
                "city": "Springfield",
                "state": "IL",
                "zip": "62701",
                "country": "US",
                "phone": "",
            },
            "permission_reminder": "You are a customer of ours.",
            "use_archive_bar": True,
            "campaign_defaults": {
                "from_name": "Sample Company",
                "from_email": "office@sample-company.com",
                "subject": "",
                "language": "en",
            },
            "notify_on_subscribe": "",
            "notify_on_unsubscribe": "",
            "date_created": to_text(self.created),
            "list_rating": 0,
            "email_type_option": False,
            "double_optin": self.settings.double_optin,
            "has_welcome": False,
            "marketing_permissions": bool(self.permissions),
            "visibility": "prv",
            "modules": [],
            "stats": self.stats(),
            "_links": [],
        }
