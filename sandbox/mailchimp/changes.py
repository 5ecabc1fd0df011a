"""What happened to members, told to whoever listens, as the webhooks do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from sandbox.mailchimp.audience import Audience
    from sandbox.mailchimp.members import Member


class Change(Struct, frozen=True, gc=False):
    """One change, in Mailchimp's words for its webhooks.

    Attributes:
        type: subscribe, unsubscribe, profile, upemail, cleaned or campaign.
        member: as it is after the change; None for a campaign.
        by: as in `StatusChange`.
        details: what the type has beside the member: `action`, `reason`, `old_email`, ...
    """

    type: str
    audience: Audience
    member: Member | None
    by: str
    details: dict[str, str] = {}


class Changes:
    """Tells every listener of every change, in order, before the write that made it is answered."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Change], None]] = []

    def tell(
        self, kind: str, audience: Audience, member: Member | None, *, by: str, **details: str
    ) -> None:
        """Something happened."""
        for listener in self.listeners:
            listener(Change(kind, audience, member, by, details))

    def status(
        self,
        audience: Audience,
        member: Member,
        before: str,
        *,
        abuse: bool = False,
        campaign_id: str = "",
    ) -> None:
        """The member's status was set; tells of it if it is another one than `before`.

        Of a new member, whose `before` is empty, only a subscription is told.
        """
        if member.status == before or (not before and member.status != "subscribed"):
            return
        by = member.status_changes[-1].by
        sent = {"campaign_id": campaign_id} if campaign_id else {}
        match member.status:
            case "subscribed":
                self.tell("subscribe", audience, member, by=by)
            case "unsubscribed" | "archived":
                action = "unsub" if member.status == "unsubscribed" else "delete"
                reason = "abuse" if abuse else "manual"
                self.tell(
                    "unsubscribe", audience, member, by=by, action=action, reason=reason, **sent
                )
            case "cleaned":
                reason = "abuse" if abuse else "hard"
                self.tell("cleaned", audience, member, by=by, reason=reason, **sent)

    def address(self, audience: Audience, member: Member, old: str, *, by: str) -> None:
        """The member has another address; Mailchimp reports that as a change of profile too."""
        self.tell("upemail", audience, member, by=by, old_email=old)
        self.tell("profile", audience, member, by=by)
