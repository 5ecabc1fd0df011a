"""What the reports say about one campaign's recipients, one page at a time."""

from collections.abc import Callable, Mapping
from typing import Any

from sandbox.mailchimp import listing, projection
from sandbox.mailchimp.campaigns import Activity, Campaign
from sandbox.mailchimp.members import Member
from sandbox.mailchimp.timestamps import to_text


def email_activity(campaign: Campaign, query: Mapping[str, str]) -> dict[str, Any]:
    """Report opens, clicks and bounces by recipient.

    `since` leaves the events after that second ("events that occur after a specific time", says
    the contract) and the recipients who have any; without it every recipient is listed.
    """
    since = listing.moment(query, "since")
    activity = campaign.activity
    members = campaign.reached()
    if since is not None:
        newest = {contact_id: entries[-1].at for contact_id, entries in activity.items()}
        members = [each for each in members if newest.get(each.contact_id, since) > since]

    def show(member: Member) -> dict[str, Any]:
        entries: list[Activity] = activity.get(member.contact_id, [])
        shown = [each.render() for each in entries if since is None or each.at > since]
        return _recipient(campaign, member) | {"activity": shown, "_links": []}

    return _page(campaign, query, "emails", members, show)


def sent_to(campaign: Campaign, query: Mapping[str, str]) -> dict[str, Any]:
    """Report each recipient, how the delivery ended and how often the mail was opened."""

    def show(member: Member) -> dict[str, Any]:
        entries = campaign.activity.get(member.contact_id, [])
        opens = [each.at for each in entries if each.action == "open"]
        bounces = [each.type for each in entries if each.action == "bounce"]
        return _recipient(campaign, member) | {
            "merge_fields": campaign.audience.merge_fields.render(member.merge_values),
            "vip": member.vip,
            "status": bounces[-1] if bounces else "sent",
            "open_count": len(opens),
            "last_open": to_text(max(opens, default=None)),
            "gmt_offset": 0,
            "_links": [],
        }

    return _page(campaign, query, "sent_to", campaign.reached(), show)


def unsubscribed(campaign: Campaign, query: Mapping[str, str]) -> dict[str, Any]:
    """Report who left through this campaign; `reason` is what they gave."""

    def show(member: Member) -> dict[str, Any]:
        opt_out = campaign.opt_outs[member.contact_id]
        return _recipient(campaign, member) | {
            "merge_fields": campaign.audience.merge_fields.render(member.merge_values),
            "vip": member.vip,
            "timestamp": to_text(opt_out.at),
            "reason": opt_out.reason,
            "_links": [],
        }

    left = [each for each in campaign.reached() if each.contact_id in campaign.opt_outs]
    return _page(campaign, query, "unsubscribes", left, show)


def _recipient(campaign: Campaign, member: Member) -> dict[str, Any]:
    return {
        "campaign_id": campaign.id,
        "list_id": campaign.audience.id,
        "list_is_active": True,
        "email_id": member.id,
        "email_address": member.email_address,
    }


def _page(
    campaign: Campaign,
    query: Mapping[str, str],
    name: str,
    members: list[Member],
    show: Callable[[Member], dict[str, Any]],
) -> dict[str, Any]:
    document = {
        name: [show(each) for each in listing.read_page(query).of(members)],
        "campaign_id": campaign.id,
        "total_items": len(members),
        "_links": [],
    }
    wanted = projection.parse(query.get("fields"))
    unwanted = projection.parse(query.get("exclude_fields"))
    shown: dict[str, Any] = projection.project(document, wanted, unwanted)
    return shown
