"""`/campaigns`, and below `/reports/{campaign_id}` the reports of a campaign."""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.mailchimp import listing, reports
from sandbox.mailchimp.account import Account
from sandbox.mailchimp.campaigns import Campaign
from sandbox.mailchimp.web import Handler, answer, collection, resource

_TYPES = ("regular", "plaintext", "absplit", "rss", "variate")
_STATUSES = ("save", "paused", "schedule", "sending", "sent")
_SORT_FIELDS = {"send_time": "send_time", "create_time": "created"}


class CampaignsApi:
    """Campaigns are sent through the control API; here they are only read."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """Return the resources."""
        report = "/reports/{campaign_id}"
        return [
            resource("/campaigns", GET=self.list),
            resource("/reports", GET=self.list_reports),
            resource(f"{report}/email-activity", GET=self._report(reports.email_activity)),
            resource(f"{report}/sent-to", GET=self._report(reports.sent_to)),
            resource(f"{report}/unsubscribed", GET=self._report(reports.unsubscribed)),
        ]

    async def list(self, request: Request) -> Response:
        """List a page of campaigns; `since_...` means after and `before_...` before that second."""
        query = request.query_params
        found = [
            each
            for each in self._account.campaigns.values()
            if each.type != "automation" and all(fits(each) for fits in _filters(query))
        ]
        sort_field = listing.one_of(query, "sort_field", tuple(_SORT_FIELDS))
        if sort_field is not None:
            found.sort(key=attrgetter(_SORT_FIELDS[sort_field]))
        if listing.one_of(query, "sort_dir", ("ASC", "DESC")) == "DESC":
            found.reverse()
        return collection(request, "campaigns", [each.render() for each in found])

    async def list_reports(self, request: Request) -> Response:
        """List a page of reports, those of automations included."""
        query = request.query_params
        kind = listing.one_of(query, "type", _TYPES)
        since, before = (listing.moment(query, f"{side}_send_time") for side in ("since", "before"))
        found = [
            each
            for each in self._account.campaigns.values()
            if each.status() != "schedule"
            and kind in (None, each.type)
            and (since is None or each.send_time > since)
            and (before is None or each.send_time < before)
        ]
        return collection(request, "reports", [each.render_report() for each in found])

    def _report(self, report: Callable[[Campaign, Mapping[str, str]], dict[str, Any]]) -> Handler:
        async def handler(request: Request) -> Response:
            campaign = self._account.sent_campaign(request.path_params["campaign_id"])
            return answer(report(campaign, request.query_params))

        return handler


def _filters(query: Mapping[str, str]) -> Iterable[Callable[[Campaign], bool]]:
    kind = listing.one_of(query, "type", _TYPES)
    if kind is not None:
        yield lambda each: each.type == kind
    status = listing.one_of(query, "status", _STATUSES)
    if status is not None:
        yield lambda each: each.status() == status
    if query.get("list_id"):
        yield lambda each: each.audience.id == query["list_id"]
    if query.get("folder_id"):
        yield lambda _: False
    if query.get("member_id"):
        yield lambda each: any(to.id == query["member_id"] for to in each.recipients.values())
    for name, attribute in _SORT_FIELDS.items():
        moment_of = attrgetter(attribute)
        since, before = (listing.moment(query, f"{side}_{name}") for side in ("since", "before"))
        if since is not None:
            yield lambda each, of=moment_of, since=since: of(each) > since  # type: ignore[misc]
        if before is not None:
            yield lambda each, of=moment_of, before=before: of(each) < before  # type: ignore[misc]
