"""The Mailchimp account behind the mock server: its audiences and settings."""

import hashlib
from collections.abc import Iterable
from typing import Any

from sandbox.clock import Clock
from sandbox.mailchimp import problems
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.campaigns import Campaign
from sandbox.mailchimp.changes import Changes
from sandbox.mailchimp.grants import Grants
from sandbox.mailchimp.members import Member
from sandbox.mailchimp.settings import Settings

DEFAULT_AUDIENCE = "a1b2c3d4e5"
FIRST_CAMPAIGN = 2_000_001


class Account:
    """All state. A fresh one has the audience "Sample audience", which also has COMPANY."""

    settings: Settings
    audiences: dict[str, Audience]
    campaigns: dict[str, Campaign]
    grants: Grants

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.changes = Changes()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.settings = Settings()
        self.audiences = {}
        self.campaigns = {}
        self.grants = Grants()
        sample = self.add_audience(DEFAULT_AUDIENCE, "Sample audience")
        sample.merge_fields.add({"tag": "COMPANY", "name": "Company", "type": "text"})

    def audience(self, list_id: str) -> Audience:
        """Return the audience with this id; 404 if there is none."""
        if list_id not in self.audiences:
            raise problems.not_found()
        return self.audiences[list_id]

    def add_audience(
        self, list_id: str, name: str, merge_fields: list[dict[str, Any]] | None = None
    ) -> Audience:
        """Create an empty audience, replacing any of the same id; by default with the usual four fields."""
        audience = Audience(
            list_id, name, clock=self.clock, settings=self.settings, changes=self.changes
        )
        if merge_fields is not None:
            audience.merge_fields.replace(merge_fields)
        self.audiences[list_id] = audience
        return audience

    def sent_campaign(self, campaign_id: str) -> Campaign:
        """Return the campaign with this id; 404 if there is none or it was not sent yet."""
        campaign = self.campaigns.get(campaign_id)
        if campaign is None or campaign.status() == "schedule":
            raise problems.not_found()
        return campaign

    def add_campaign(
        self,
        audience: Audience,
        recipients: Iterable[Member],
        *,
        title: str,
        subject: str,
        send_time: int,
        type: str = "regular",  # noqa: A002 -- the API's word
    ) -> Campaign:
        """Create a campaign to these members; one with a future time is scheduled."""
        web_id = FIRST_CAMPAIGN + len(self.campaigns)
        campaign = Campaign(
            hashlib.md5(str(web_id).encode(), usedforsecurity=False).hexdigest()[:10],
            web_id,
            audience,
            title,
            subject,
            min(send_time, audience.now()),
            send_time,
            {},
            type,
        )
        campaign.send(recipients)
        self.campaigns[campaign.id] = campaign
        if campaign.status() == "sent":
            audience.tell(
                "campaign",
                None,
                by="marketer",
                id=campaign.id,
                subject=subject,
                status="sent",
                reason="",
            )
        return campaign

    def render(self) -> dict[str, Any]:
        """Return the account as the API's root shows it."""
        return {
            "account_id": "0123456789abcdef01234567",
            "login_id": "1",
            "account_name": "Sample Company",
            "email": "office@sample-company.com",
            "first_name": "Sample",
            "last_name": "Owner",
            "username": "sample-owner",
            "avatar_url": "",
            "role": "owner",
            "member_since": "2020-01-01T00:00:00+00:00",
            "pricing_plan_type": "monthly",
            "first_payment": "",
            "account_timezone": "America/Los_Angeles",
            "account_industry": "",
            "contact": {
                "company": "Sample Company",
                "addr1": "1 Main Street",
                "addr2": "",
                "city": "Springfield",
                "state": "IL",
                "zip": "62701",
                "country": "US",
            },
            "pro_enabled": False,
            "last_login": "",
            "total_subscribers": sum(
                each.stats()["member_count"] for each in self.audiences.values()
            ),
            "industry_stats": {"open_rate": 0, "bounce_rate": 0, "click_rate": 0},
            "_links": [],
        }
