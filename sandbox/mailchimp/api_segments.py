"""`POST /lists/{list_id}/segments/{segment_id}`: members into and out of a tag, many in one call.

A tag is a static segment, and has its id. Addresses that are not in the audience are ignored.
https://mailchimp.com/developer/marketing/api/list-segments/batch-add-or-remove-members/
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.mailchimp import problems, schema, writes
from sandbox.mailchimp.account import Account
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.member_documents import render
from sandbox.mailchimp.members import Member
from sandbox.mailchimp.tags import Tag
from sandbox.mailchimp.web import answer, read_body, resource

SHOWN = ("id", "email_address", "unique_email_id", "email_type", "status", "merge_fields", "_links")


class SegmentsApi:
    """Static segments, as far as they are tags."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """Return the resources."""
        return [resource("/lists/{list_id}/segments/{segment_id}", POST=self.change)]

    async def change(self, request: Request) -> Response:
        """Add up to 500 members and take up to 500 off."""
        audience = self._account.audience(request.path_params["list_id"])
        tag = _tag(audience, request.path_params["segment_id"])
        to_add, to_remove = schema.check_segment(await read_body(request))
        added = _switch(audience, tag, to_add, active=True)
        removed = _switch(audience, tag, to_remove, active=False)
        return answer(
            {
                "members_added": [render(each, audience, SHOWN) for each in added],
                "members_removed": [render(each, audience, SHOWN) for each in removed],
                "errors": [],
                "total_added": len(added),
                "total_removed": len(removed),
                "error_count": 0,
                "_links": [],
            }
        )


def _tag(audience: Audience, segment_id: str) -> Tag:
    found = audience.tags.by_id.get(int(segment_id)) if segment_id.isdecimal() else None
    if found is None:
        raise problems.not_found()
    return found


def _switch(audience: Audience, tag: Tag, emails: list[str], *, active: bool) -> list[Member]:
    found = [member for email in emails if (member := audience.find(email)) is not None]
    changed = [member for member in found if (tag.id in member.tags) != active]
    for member in changed:
        writes.set_tags(audience, member, [(tag.name, active)])
    return changed
