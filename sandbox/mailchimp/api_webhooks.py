"""`/lists/{list_id}/webhooks`."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.mailchimp import deliveries, problems, webhooks
from sandbox.mailchimp.account import Account
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.web import answer, collection, no_content, read_object, resource
from sandbox.mailchimp.webhooks import Webhook


class WebhooksApi:
    """Registration; an address must respond to a GET with 200 whenever it is set or edited."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """Return the resources."""
        every = "/lists/{list_id}/webhooks"
        return [
            resource(every, GET=self.list, POST=self.add),
            resource(
                f"{every}/{{webhook_id}}", GET=self.get, PATCH=self.change, DELETE=self.remove
            ),
        ]

    async def list(self, request: Request) -> Response:
        """List a page of webhooks."""
        audience = self._audience(request)
        found = [each.render() for each in audience.webhooks.values()]
        return collection(request, "webhooks", found, list_id=audience.id)

    async def add(self, request: Request) -> Response:
        """Register one; only this response holds its `signing_secret`."""
        audience = self._audience(request)
        body: dict[str, Any] = await read_object(request)
        webhooks.check(body, url_required=True)
        await self._check_address(audience, body["url"], None)
        signed = self._account.settings.webhook_signing
        created = webhooks.create(audience.id, body, signed=signed)
        audience.webhooks[created.id] = created
        secret = {"signing_secret": created.signing_secret} if signed else {}
        return answer(created.render() | secret)

    async def get(self, request: Request) -> Response:
        """Return one webhook."""
        return answer(self._webhook(request).render())

    async def change(self, request: Request) -> Response:
        """Edit one; events and sources that are not sent stay unchanged."""
        webhook = self._webhook(request)
        body: dict[str, Any] = await read_object(request)
        webhooks.check(body, url_required=False)
        url = body.get("url", webhook.url)
        await self._check_address(self._audience(request), url, webhook)
        webhook.url = url
        webhook.events |= body.get("events", {})
        webhook.sources |= body.get("sources", {})
        return answer(webhook.render())

    async def remove(self, request: Request) -> Response:
        """Remove one; what is on its way to it is no longer sent."""
        webhook = self._webhook(request)
        del self._audience(request).webhooks[webhook.id]
        return no_content()

    async def _check_address(self, audience: Audience, url: str, own: Webhook | None) -> None:
        message = ""
        if not await deliveries.answers(url, self._account.settings.webhook_timeout_seconds):
            message = "The URL did not respond to a GET request with the status 200."
        elif any(each.url == url and each is not own for each in audience.webhooks.values()):
            message = "Sorry, you can't set up multiple WebHooks for one URL"
        if message:
            raise problems.schema([{"field": "url", "message": message}])

    def _audience(self, request: Request) -> Audience:
        return self._account.audience(request.path_params["list_id"])

    def _webhook(self, request: Request) -> Webhook:
        found = self._audience(request).webhooks.get(request.path_params["webhook_id"])
        if found is None:
            raise problems.not_found()
        return found
