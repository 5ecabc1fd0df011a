"""`/lists/{list_id}/members` and what is below it."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.mailchimp import listing, schema, writes
from sandbox.mailchimp.account import Account
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.member_documents import render
from sandbox.mailchimp.members import Member
from sandbox.mailchimp.timestamps import to_text
from sandbox.mailchimp.web import (
    answer,
    collection,
    flag,
    no_content,
    partial,
    read_body,
    resource,
)


class MembersApi:
    """Members one at a time, their listing and their tags."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """Return the resources."""
        one = "/lists/{list_id}/members/{handle}"
        return [
            resource("/lists/{list_id}/members", GET=self.list, POST=self.add),
            resource(one, GET=self.get, PUT=self.put, PATCH=self.patch, DELETE=self.archive),
            resource(f"{one}/actions/delete-permanent", POST=self.forget),
            resource(f"{one}/tags", GET=self.get_tags, POST=self.set_tags),
        ]

    async def list(self, request: Request) -> Response:
        """List a page of members."""
        return answer(listing.list_members(self._audience(request), request.query_params))

    async def add(self, request: Request) -> Response:
        """Add a member, or bring an archived one back."""
        audience = self._audience(request)
        body = schema.check_member(await read_body(request), required=("email_address", "status"))
        validate = not flag(request, "skip_merge_validation")
        return answer(render(writes.post(audience, body, validate=validate), audience))

    async def get(self, request: Request) -> Response:
        """Return one member, archived or not."""
        audience, member = self._member(request)
        return partial(request, render(member, audience))

    async def put(self, request: Request) -> Response:
        """Add or update a member."""
        audience = self._audience(request)
        body = schema.check_member(await read_body(request))
        validate = not flag(request, "skip_merge_validation")
        member = writes.put(audience, request.path_params["handle"], body, validate=validate)
        return answer(render(member, audience))

    async def patch(self, request: Request) -> Response:
        """Update a member; 404 when there is none."""
        audience, member = self._member(request)
        body = schema.check_member(await read_body(request))
        validate = not flag(request, "skip_merge_validation")
        writes.update(audience, member, body, validate=validate)
        return answer(render(member, audience))

    async def archive(self, request: Request) -> Response:
        """Archive a member."""
        writes.archive(*self._member(request))
        return no_content()

    async def forget(self, request: Request) -> Response:
        """Delete a member for ever."""
        audience, member = self._member(request)
        audience.forget(member, by="api")
        return no_content()

    async def get_tags(self, request: Request) -> Response:
        """List all tags of a member."""
        audience, member = self._member(request)
        tags = [
            {"id": each, "name": audience.tags.by_id[each].name, "date_added": to_text(added)}
            for each, added in member.tags.items()
        ]
        return collection(request, "tags", tags)

    async def set_tags(self, request: Request) -> Response:
        """Switch tags on or off; works on archived members too."""
        audience, member = self._member(request)
        writes.set_tags(audience, member, schema.check_tags(await read_body(request)))
        return no_content()

    def _audience(self, request: Request) -> Audience:
        return self._account.audience(request.path_params["list_id"])

    def _member(self, request: Request) -> tuple[Audience, Member]:
        audience = self._audience(request)
        return audience, audience.get(request.path_params["handle"])
