"""The control API's own part: audiences, members as people make them, settings."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.control import read_json, reply
from sandbox.mailchimp import people, reactions
from sandbox.mailchimp.account import DEFAULT_AUDIENCE, Account
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.generate import generate
from sandbox.mailchimp.member_documents import render_in_full
from sandbox.mailchimp.members import Member, subscriber_hash
from sandbox.mailchimp.problems import ProblemError

Handler = Callable[[Request], Awaitable[Response]]


class Control:
    """`/_sandbox/...`; `?audience=ID` picks another audience than the sample one."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """Return the control calls."""
        members = "/_sandbox/members"
        calls: list[tuple[str, str, Handler]] = [
            ("GET", "/_sandbox/audiences", self.list_audiences),
            ("POST", "/_sandbox/audiences", self.add_audience),
            ("PUT", "/_sandbox/groups", self.set_groups),
            ("PUT", "/_sandbox/permissions", self.set_permissions),
            ("GET", "/_sandbox/settings", self.get_settings),
            ("PUT", "/_sandbox/settings", self.change_settings),
            ("GET", "/_sandbox/tokens", self.list_tokens),
            ("POST", "/_sandbox/tokens/revoke", self.revoke_tokens),
            ("GET", members, self.list_members),
            ("POST", members, self.seed),
            ("POST", f"{members}/generate", self.generate),
            ("GET", f"{members}/{{email}}", self.get_member),
            ("POST", f"{members}/{{email}}/{{action}}", self.act),
        ]
        return [Route(path, explained(call), methods=[method]) for method, path, call in calls]

    async def list_audiences(self, _: Request) -> Response:
        """List ids, names, members by status (archived and forgotten included), confirmation mails."""
        return reply({"audiences": [_summary(each) for each in self._account.audiences.values()]})

    async def add_audience(self, request: Request) -> Response:
        """Create an audience, in place of any of that id, with exactly the merge fields given."""
        body = await read_json(request)
        if not body.get("id"):
            raise ValueError("send an id")
        audience = self._account.add_audience(
            body["id"], body.get("name", body["id"]), body.get("merge_fields")
        )
        for each in body.get("members", []):
            people.seed(audience, each)
        return reply(_summary(audience), 201)

    async def set_groups(self, request: Request) -> Response:
        """Replace the groups, `{"Customer type": ["Retail"]}`: names by category."""
        audience = self._audience(request)
        audience.interests.replace(await read_json(request))
        return reply(
            {each.title: each.interests for each in audience.interests.categories.values()}
        )

    async def set_permissions(self, request: Request) -> Response:
        """Turn GDPR fields on, `{"permissions": ["Email"]}`, or off with an empty list."""
        audience = self._audience(request)
        audience.ask_permissions((await read_json(request))["permissions"])
        return reply(audience.permissions)

    async def get_settings(self, _: Request) -> Response:
        """Return the switches."""
        return reply(self._account.settings.as_dict())

    async def change_settings(self, request: Request) -> Response:
        """Turn some of the switches."""
        self._account.settings.change(await read_json(request))
        return await self.get_settings(request)

    async def list_tokens(self, _: Request) -> Response:
        """List the OAuth tokens that are good."""
        return reply({"tokens": self._account.grants.tokens})

    async def revoke_tokens(self, request: Request) -> Response:
        """Take the access back that consents gave, as the user may in Mailchimp."""
        self._account.grants.tokens = []
        return await self.list_tokens(request)

    async def list_members(self, request: Request) -> Response:
        """List all members, archived and forgotten included; `?status=` narrows."""
        audience = self._audience(request)
        everyone = [_show(audience, each) for each in audience.by_contact_id.values()]
        everyone += [_show(audience, each) for each in audience.forgotten.values()]
        status = request.query_params.get("status")
        found = [each for each in everyone if status in (None, each["status"])]
        return reply({"members": found, "total_items": len(found)})

    async def seed(self, request: Request) -> Response:
        """Put one member there, or many under `members`."""
        audience = self._audience(request)
        body = await read_json(request)
        given = body.get("members", [body])
        seeded = [_show(audience, people.seed(audience, each)) for each in given]
        return reply({"members": seeded, "total_items": len(seeded)}, 201)

    async def generate(self, request: Request) -> Response:
        """Put many made-up members there."""
        audience = self._audience(request)
        body = await read_json(request)
        count = body.get("count")
        if not isinstance(count, int) or count < 1:
            raise ValueError("count is a number above 0")
        generate(audience, count, seed=body.get("seed", 1), status=body.get("status", "subscribed"))
        return reply(_summary(audience), 201)

    async def get_member(self, request: Request) -> Response:
        """Return one member, archived and forgotten included."""
        audience = self._audience(request)
        email = request.path_params["email"]
        member = audience.forgotten.get(subscriber_hash(email)) or audience.get(email)
        return reply(_show(audience, member))

    async def act(self, request: Request) -> Response:
        """Do as a person or a marketer would; the action's name is in the path."""
        audience = self._audience(request)
        email, action = request.path_params["email"], request.path_params["action"]
        body = await read_json(request)
        if action == "subscribe":
            return reply(_show(audience, people.subscribe(audience, email)))
        if action not in people.ACTIONS:
            raise ValueError(f"actions are subscribe, {', '.join(people.ACTIONS)}")
        member = audience.get(email)
        if action == "unsubscribe" and body.get("campaign_id"):
            reactions.opt_out(self._account.sent_campaign(body["campaign_id"]), member, body)
            return reply(_show(audience, member))
        people.ACTIONS[action](audience, member, body)
        return reply(_show(audience, member))

    def _audience(self, request: Request) -> Audience:
        return self._account.audience(request.query_params.get("audience", DEFAULT_AUDIENCE))


def _show(audience: Audience, member: Member) -> dict[str, Any]:
    shown = render_in_full(member, audience)
    if member.id in audience.forgotten and audience.forgotten[member.id] is member:
        shown["status"] = "forgotten"
    return shown


def _summary(audience: Audience) -> dict[str, Any]:
    statuses = Counter(each.status for each in audience.by_contact_id.values())
    statuses["forgotten"] = len(audience.forgotten)
    return {
        "id": audience.id,
        "name": audience.name,
        "merge_fields": list(audience.merge_fields.by_tag),
        "members": dict(statuses),
        "confirmation_mails": audience.confirmation_mails,
    }


def explained(call: Handler) -> Handler:
    """Wrap a call: respond to what Mailchimp would refuse with the problem's status and detail."""

    async def carried_out(request: Request) -> Response:
        try:
            return await call(request)
        except ProblemError as problem:
            return reply({"error": problem.detail}, problem.status)

    return carried_out
