"""The control API's part about campaigns: send one, and let its recipients react."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.control import read_json, reply
from sandbox.mailchimp import reactions
from sandbox.mailchimp.account import DEFAULT_AUDIENCE, Account
from sandbox.mailchimp.control import explained
from sandbox.mailchimp.timestamps import from_text
from sandbox.mailchimp.web import Handler


class CampaignControl:
    """`/_sandbox/campaigns/...`."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """Return the control calls."""
        one = "/_sandbox/campaigns/{campaign_id}"
        calls: list[tuple[str, Handler]] = [
            ("/_sandbox/campaigns", self.send),
            (f"{one}/recipients", self.send_further),
            (f"{one}/activity", self.act),
            (f"{one}/simulate", self.simulate),
        ]
        return [Route(path, explained(call), methods=["POST"]) for path, call in calls]

    async def send(self, request: Request) -> Response:
        """Send a campaign, now or at a time in the past; one in the future is scheduled."""
        body = await read_json(request)
        asked = request.query_params.get("audience", DEFAULT_AUDIENCE)
        audience = self._account.audience(body.get("audience", asked))
        title = body.get("title") or body.get("subject") or "Sample campaign"
        sent_at = from_text(body["send_time"]) if body.get("send_time") else audience.now()
        campaign = self._account.add_campaign(
            audience,
            reactions.recipients(audience, body.get("recipients")),
            title=title,
            subject=body.get("subject") or title,
            send_time=sent_at,
            type="automation" if body.get("type") == "automation" else "regular",
        )
        return reply({"id": campaign.id, "recipients": len(campaign.recipients)}, 201)

    async def send_further(self, request: Request) -> Response:
        """Send an automation's mail to further members."""
        campaign = self._account.sent_campaign(request.path_params["campaign_id"])
        body = await read_json(request)
        campaign.send(reactions.recipients(campaign.audience, body["recipients"]))
        return reply({"recipients": len(campaign.recipients)}, 201)

    async def act(self, request: Request) -> Response:
        """Let recipients open, click or bounce; nothing happens if one of a list is wrong."""
        campaign = self._account.sent_campaign(request.path_params["campaign_id"])
        body = await read_json(request)
        audience = campaign.audience
        given: list[Any] = body.get("activity", [body])
        read = [
            (audience.get(each.get("email_address", "")), reactions.read(each, now=audience.now()))
            for each in given
        ]
        for member, _ in read:
            campaign.check_recipient(member)
        for member, entry in read:
            reactions.react(campaign, member, entry)
        return reply({"recorded": len(read)}, 201)

    async def simulate(self, request: Request) -> Response:
        """Let shares of the recipients react; return how many did."""
        campaign = self._account.sent_campaign(request.path_params["campaign_id"])
        body = await read_json(request)
        shares = {name: body[name] for name in reactions.SHARES if name in body}
        return reply(reactions.simulate(campaign, shares, seed=body.get("seed", 1)), 201)
