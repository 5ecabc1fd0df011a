"""The Mailchimp half of the sandbox: real paths under `/3.0/`, the control API under `/_sandbox/`."""

import re

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from sandbox.clock import Clock
from sandbox.control import CONTROL_PREFIX, Conventions, Instrumented, Receive, Scope, Send
from sandbox.mailchimp.account import Account
from sandbox.mailchimp.api_campaigns import CampaignsApi
from sandbox.mailchimp.api_interests import InterestsApi
from sandbox.mailchimp.api_lists import ListsApi
from sandbox.mailchimp.api_members import MembersApi
from sandbox.mailchimp.api_segments import SegmentsApi
from sandbox.mailchimp.api_webhooks import WebhooksApi
from sandbox.mailchimp.control import Control
from sandbox.mailchimp.control_campaigns import CampaignControl
from sandbox.mailchimp.control_webhooks import WebhookControl
from sandbox.mailchimp.deliveries import Deliveries
from sandbox.mailchimp.front_door import OVER_LIMIT, FrontDoor, on_problem
from sandbox.mailchimp.oauth import PREFIX, OAuth
from sandbox.mailchimp.problems import ProblemError

_IDS = (
    (re.compile(r"(/lists/)[^/]+"), r"\1{list_id}"),
    (re.compile(r"(/members/)[^/]+"), r"\1{subscriber_hash}"),
    (re.compile(r"(/merge-fields/)[^/]+"), r"\1{merge_id}"),
    (re.compile(r"(/interest-categories/)[^/]+"), r"\1{category_id}"),
    (re.compile(r"(/segments/)[^/]+"), r"\1{segment_id}"),
    (re.compile(r"(/webhooks/)[^/]+"), r"\1{webhook_id}"),
    (re.compile(r"(/reports/)[^/]+"), r"\1{campaign_id}"),
)


class MailchimpSandbox(Instrumented):
    """The mock server. Requests beyond the connection limit are marked on arrival.

    Ten simultaneous connections are allowed per user, whatever the key; a delayed or hanging
    request holds its connection, as at Mailchimp.
    """

    def __init__(self) -> None:
        clock = Clock()
        self.account = Account(clock)
        self.deliveries = Deliveries(self.account)
        self.account.changes.listeners.append(self.deliveries.listen)
        api = Starlette(
            routes=[
                *ListsApi(self.account).routes(),
                *InterestsApi(self.account).routes(),
                *MembersApi(self.account).routes(),
                *SegmentsApi(self.account).routes(),
                *CampaignsApi(self.account).routes(),
                *WebhooksApi(self.account).routes(),
                *OAuth(self.account).routes(),
            ],
            exception_handlers={ProblemError: on_problem, HTTPException: on_problem},
        )
        api.router.redirect_slashes = False
        super().__init__(
            FrontDoor(api, self.account),
            conventions=Conventions(
                template=_without_ids, is_token=lambda path: path.startswith(PREFIX)
            ),
            clock=clock,
            routes=[
                *Control(self.account).routes(),
                *CampaignControl(self.account).routes(),
                *WebhookControl(self.deliveries).routes(),
            ],
            on_reset=self._forget,
            remembers=[clock, self.account, self.account.changes],
        )
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PREFIX):
            await super().__call__(scope, receive, send)
            return
        limit = self.account.settings.connection_limit
        scope[OVER_LIMIT] = 0 < limit <= self._open
        self._open += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._open -= 1

    def _forget(self) -> None:
        self.account.reset()
        self.deliveries.reset()


def create_app() -> MailchimpSandbox:
    """Create a mock server with the audience `a1b2c3d4e5` and the key `sandbox-key-us99`."""
    return MailchimpSandbox()


def _without_ids(path: str) -> str:
    for pattern, name in _IDS:
        path = pattern.sub(name, path)
    return path
