"""Changes of members, as listeners and webhooks receive them."""

from collections.abc import Callable

from msgspec import Struct

from sandbox.mailchimp.members import Member
from sandbox.mailchimp.merge_fields import MergeFields


class Change(Struct, frozen=True, gc=False):
    """One change, in Mailchimp's words for its webhooks.

    Attributes:
        type: subscribe, unsubscribe, profile, upemail, cleaned or campaign.
        list_id: the audience.
        at: the second of the mock server's clock.
        merge_fields: the audience's definitions, to render the member's values.
        member: as it is after the change; None for a campaign.
        by: as in `StatusChange`.
        details: further values of the type: `action`, `reason`, `old_email`, ...
    """

    type: str
    list_id: str
    at: int
    merge_fields: MergeFields
    member: Member | None
    by: str
    details: dict[str, str] = {}


class Changes:
    """Report every change to every listener, in order, before the write gets its response."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Change], None]] = []

    def tell(self, change: Change) -> None:
        """Pass the change to every listener."""
        for listener in self.listeners:
            listener(change)
