"""Campaigns that were sent: who got them, and what the recipients did with them."""

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.members import Member
from sandbox.mailchimp.timestamps import to_text
from sandbox.memory import Remembered

ACTIONS = ("open", "click", "bounce")
BOUNCES = ("hard", "soft")
KEPT = 1000  # opens, and clicks, of one member in one campaign


class Activity(NamedTuple):
    """One open, click or bounce; `type` is of a bounce, `url` of a click."""

    at: int
    action: str
    type: str = ""
    url: str = ""
    ip: str = ""

    def render(self) -> dict[str, Any]:
        """Return the entry as a report shows it, without what the action does not have."""
        shown: dict[str, Any] = {"action": self.action}
        if self.action == "bounce":
            shown["type"] = self.type
        shown["timestamp"] = to_text(self.at)
        if self.action == "click":
            shown["url"] = self.url
        if self.action != "bounce":
            shown["ip"] = self.ip
        return shown


class OptOut(NamedTuple):
    """A member who left through a campaign's link."""

    at: int
    reason: str


@dataclass(eq=False)
class Campaign(Remembered):
    """One campaign.

    Attributes:
        recipients: the members it was sent to, by `contact_id`.
        activity: by `contact_id`, the oldest first; only members with activity.
        opt_outs: who left through it, by `contact_id`.
    """

    id: str
    web_id: int
    audience: Audience
    title: str
    subject: str
    created: int
    send_time: int
    recipients: dict[str, Member]
    type: str = "regular"
    activity: dict[str, list[Activity]] = field(default_factory=dict)
    opt_outs: dict[str, OptOut] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _bounced: set[str] = field(default_factory=set)

    def status(self) -> str:
        """Return `schedule` before the time to send, `sent` after it; an automation is `sending`."""
        if self.type == "automation":
            return "sending"
        return "sent" if self.send_time <= self.audience.now() else "schedule"

    def send(self, members: Iterable[Member]) -> None:
        """Send it to further members: an automation gains recipients as long as it runs."""
        for each in members:
            each.mailed += each.contact_id not in self.recipients
            self.recipients[each.contact_id] = each

    def reached(self) -> list[Member]:
        """Return the recipients, without those who were deleted for ever since."""
        known = self.audience.by_contact_id
        return [each for contact_id, each in self.recipients.items() if contact_id in known]

    def check_recipient(self, member: Member) -> None:
        """Raise ValueError unless the campaign was sent to that member."""
        if member.contact_id not in self.recipients:
            raise ValueError(f"{member.email_address} is no recipient of campaign {self.id}")

    def record(self, member: Member, entry: Activity) -> None:
        """Record an action of a recipient or a bounce; opens or clicks beyond 1,000 are dropped.

        Raises:
            ValueError: the campaign was not sent to that member.
        """
        self.check_recipient(member)
        entries = self.activity.setdefault(member.contact_id, [])
        same = sum(each.action == entry.action for each in entries)
        if same >= KEPT:
            return
        insort(entries, entry, key=attrgetter("at"))
        self._counts[entry.action] += 1
        self._counts[f"members with {entry.action}"] += not same
        member.opened += entry.action == "open" and not same
        member.clicked += entry.action == "click" and not same
        if entry.action == "bounce":
            self._bounced.add(member.contact_id)

    def record_opt_out(self, member: Member) -> None:
        """Record that the member left through this campaign."""
        self.check_recipient(member)
        self.opt_outs[member.contact_id] = OptOut(self.audience.now(), member.unsubscribe_reason)

    def render_report(self) -> dict[str, Any]:
        """Return the report's figures."""
        hard = sum(
            any(each.type == "hard" for each in entries) for entries in self.activity.values()
        )
        return {
            "id": self.id,
            "campaign_title": self.title,
            "type": self.type,
            "list_id": self.audience.id,
            "list_is_active": True,
            "list_name": self.audience.name,
            "subject_line": self.subject,
            "preview_text": "",
            "emails_sent": len(self.recipients),
            "abuse_reports": 0,
            "unsubscribed": len(self.opt_outs),
            "send_time": to_text(self.send_time),
            "bounces": {
                "hard_bounces": hard,
                "soft_bounces": len(self._bounced) - hard,
                "syntax_errors": 0,
            },
            "opens": {
                "opens_total": self._counts["open"],
                "unique_opens": self._counts["members with open"],
            },
            "clicks": {
                "clicks_total": self._counts["click"],
                "unique_clicks": self._counts["members with click"],
            },
            "_links": [],
        }

    def render(self) -> dict[str, Any]:
        """Return the campaign as the API lists it."""
        status = self.status()
        sent = status != "schedule"
        return {
            "id": self.id,
            "web_id": self.web_id,
            "type": self.type,
            "create_time": to_text(self.created),
            "archive_url": "",
            "long_archive_url": "",
            "status": status,
            "emails_sent": len(self.recipients) if sent else 0,
            "send_time": to_text(self.send_time),
            "content_type": "template",
            "needs_block_refresh": False,
            "resendable": False,
            "recipients": {
                "list_id": self.audience.id,
                "list_is_active": True,
                "list_name": self.audience.name,
                "segment_text": "",
                "recipient_count": len(self.recipients),
            },
            "settings": {
                "subject_line": self.subject,
                "preview_text": "",
                "title": self.title,
                "from_name": "Sample Company",
                "reply_to": "office@sample-company.com",
                "use_conversation": False,
                "to_name": "*|FNAME|*",
                "folder_id": "",
                "authenticate": True,
                "auto_footer": False,
                "inline_css": False,
                "auto_tweet": False,
                "fb_comments": False,
                "timewarp": False,
                "template_id": 0,
                "drag_and_drop": True,
            },
            "tracking": {
                "opens": True,
                "html_clicks": True,
                "text_clicks": False,
                "goal_tracking": False,
                "ecomm360": False,
                "google_analytics": "",
                "clicktale": "",
            },
            **({"report_summary": self._summary()} if sent else {}),
            "delivery_status": {"enabled": False},
            "_links": [],
        }

    def _summary(self) -> dict[str, Any]:
        delivered = len(self.recipients) - len(self._bounced)
        openers, clickers = self._counts["members with open"], self._counts["members with click"]
        return {
            "opens": self._counts["open"],
            "unique_opens": openers,
            "open_rate": openers / delivered if delivered else 0,
            "clicks": self._counts["click"],
            "subscriber_clicks": clickers,
            "click_rate": clickers / delivered if delivered else 0,
            "ecommerce": {"total_orders": 0, "total_spent": 0, "total_revenue": 0},
        }
