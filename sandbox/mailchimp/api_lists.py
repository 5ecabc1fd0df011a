"""The account, its audiences, batch subscribe, tag search and merge fields."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.mailchimp.account import Account
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.batch import BatchSubscribe
from sandbox.mailchimp.merge_fields import MergeField
from sandbox.mailchimp.web import (
    answer,
    collection,
    flag,
    no_content,
    partial,
    read_body,
    read_object,
    resource,
)


class ListsApi:
    """What is not about a single member."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """Return the resources."""
        one = "/lists/{list_id}"
        fields = f"{one}/merge-fields"
        return [
            resource("/ping", GET=self.ping),
            resource("/", GET=self.root),
            resource("", GET=self.root),
            resource("/lists", GET=self.list),
            resource(one, GET=self.get, POST=self.batch_subscribe),
            resource(f"{one}/tag-search", GET=self.search_tags),
            resource(f"{one}/abuse-reports", GET=self.list_abuse_reports),
            resource(fields, GET=self.list_fields, POST=self.add_field),
            resource(
                f"{fields}/{{merge_id}}",
                GET=self.get_field,
                PATCH=self.change_field,
                DELETE=self.remove_field,
            ),
        ]

    async def ping(self, _: Request) -> Response:
        """Return whether the API is up and the key is good."""
        return answer({"health_status": "Everything's Chimpy!"})

    async def root(self, request: Request) -> Response:
        """Return the account."""
        return partial(request, self._account.render())

    async def list(self, request: Request) -> Response:
        """List all audiences."""
        lists = [each.render() for each in self._account.audiences.values()]
        return collection(request, "lists", lists)

    async def get(self, request: Request) -> Response:
        """Return one audience."""
        return partial(request, self._audience(request).render())

    async def batch_subscribe(self, request: Request) -> Response:
        """Write up to 500 members."""
        batch = BatchSubscribe(
            self._audience(request),
            await read_body(request),
            validate=not flag(request, "skip_merge_validation"),
            skip_duplicates=flag(request, "skip_duplicate_check"),
        )
        return answer(batch.run())

    async def search_tags(self, request: Request) -> Response:
        """Find tags by the start of their `name`."""
        found = self._audience(request).tags.starting_with(request.query_params.get("name", ""))
        tags = [{"id": each.id, "name": each.name} for each in found]
        return answer({"tags": tags, "total_items": len(tags), "_links": []})

    async def list_abuse_reports(self, request: Request) -> Response:
        """List a page of spam complaints."""
        audience = self._audience(request)
        return collection(request, "abuse_reports", audience.abuse_reports, list_id=audience.id)

    async def list_fields(self, request: Request) -> Response:
        """List a page of merge fields."""
        audience = self._audience(request)
        kind = request.query_params.get("type")
        only_required = flag(request, "required")
        found = [
            each.render(audience.id)
            for each in audience.merge_fields.by_tag.values()
            if (not kind or each.type == kind) and (not only_required or each.required)
        ]
        return collection(request, "merge_fields", found, list_id=audience.id)

    async def add_field(self, request: Request) -> Response:
        """Define a merge field."""
        audience = self._audience(request)
        return answer(audience.merge_fields.add(await read_object(request)).render(audience.id))

    async def get_field(self, request: Request) -> Response:
        """Return one merge field."""
        audience, field = self._field(request)
        return partial(request, field.render(audience.id))

    async def change_field(self, request: Request) -> Response:
        """Change a merge field; members keep their values when its tag changes."""
        audience, field = self._field(request)
        old = audience.merge_fields.change(field, await read_object(request))
        if field.tag != old:
            audience.rename_tag(old, field.tag)
        return answer(field.render(audience.id))

    async def remove_field(self, request: Request) -> Response:
        """Drop a merge field and everyone's values in it."""
        audience, field = self._field(request)
        audience.merge_fields.remove(field)
        audience.rename_tag(field.tag, None)
        return no_content()

    def _audience(self, request: Request) -> Audience:
        return self._account.audience(request.path_params["list_id"])

    def _field(self, request: Request) -> tuple[Audience, MergeField]:
        audience = self._audience(request)
        return audience, audience.merge_fields.find(request.path_params["merge_id"])
