"""`/lists/{list_id}/interest-categories` and the interests below."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.mailchimp.account import Account
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.web import answer, collection, partial, read_object, resource


class InterestsApi:
    """Categories of groups, and the groups."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """Return the resources."""
        all_of_them = "/lists/{list_id}/interest-categories"
        one = f"{all_of_them}/{{category_id}}"
        return [
            resource(all_of_them, GET=self.list, POST=self.add),
            resource(one, GET=self.get),
            resource(f"{one}/interests", GET=self.list_interests, POST=self.add_interest),
        ]

    async def list(self, request: Request) -> Response:
        """List a page of categories."""
        audience = self._audience(request)
        found = [each.render(audience.id) for each in audience.interests.categories.values()]
        return collection(request, "categories", found, list_id=audience.id)

    async def add(self, request: Request) -> Response:
        """Make a category."""
        audience = self._audience(request)
        return answer(audience.interests.add(await read_object(request)).render(audience.id))

    async def get(self, request: Request) -> Response:
        """Return one category."""
        audience = self._audience(request)
        category = audience.interests.find(request.path_params["category_id"])
        return partial(request, category.render(audience.id))

    async def list_interests(self, request: Request) -> Response:
        """List a page of a category's interests."""
        audience = self._audience(request)
        category = audience.interests.find(request.path_params["category_id"])
        found = category.render_interests(audience.id)
        more = {"list_id": audience.id, "category_id": category.id}
        return collection(request, "interests", found, **more)

    async def add_interest(self, request: Request) -> Response:
        """Make an interest."""
        audience = self._audience(request)
        category = audience.interests.find(request.path_params["category_id"])
        made = audience.interests.add_interest(category, await read_object(request))
        return answer(made | {"list_id": audience.id})

    def _audience(self, request: Request) -> Audience:
        return self._account.audience(request.path_params["list_id"])
