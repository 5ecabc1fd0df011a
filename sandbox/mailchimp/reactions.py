"""What recipients do with a campaign, and what it does to them as members."""

import gc
import random
from typing import Any

from sandbox.mailchimp import people
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.campaigns import ACTIONS, BOUNCES, Activity, Campaign
from sandbox.mailchimp.members import Member
from sandbox.mailchimp.timestamps import from_text

READER_IP = "198.51.100.7"
LINK = "https://www.sample-company.com/news"
SHARES = ("opens", "clicks", "soft_bounces", "hard_bounces")
_SPREAD_SECONDS = 2 * 24 * 3600


def recipients(audience: Audience, addresses: list[str] | None) -> list[Member]:
    """Return the members with these addresses, or all subscribed ones; 404 for a stranger."""
    if addresses is not None:
        return [audience.get(each) for each in addresses]
    return [each for each in audience.by_contact_id.values() if each.status == "subscribed"]


def read(given: Any, *, now: int) -> Activity:
    """Read one activity as the control API takes it; by default it happens now.

    Raises:
        ValueError: an unknown action, a bounce without its type, or no timestamp.
    """
    action, kind = given.get("action"), given.get("type", "")
    if action not in ACTIONS or (action == "bounce" and kind not in BOUNCES):
        raise ValueError("action is open, click or bounce; a bounce has the type hard or soft")
    at = from_text(given["timestamp"]) if given.get("timestamp") else now
    if action == "bounce":
        return Activity(at, action, type=kind)
    url = given.get("url", LINK) if action == "click" else ""
    return Activity(at, action, url=url, ip=given.get("ip", READER_IP))


def react(campaign: Campaign, member: Member, entry: Activity) -> None:
    """Record it. A hard bounce cleans the member; anything else leaves the member unchanged."""
    campaign.record(member, entry)
    if entry.type == "hard" and member.status != "cleaned":
        people.clean(campaign.audience, member, {"campaign_id": campaign.id})


def opt_out(campaign: Campaign, member: Member, given: dict[str, Any]) -> None:
    """Opt the person out through the campaign's link.

    Raises:
        ValueError: the campaign was not sent to them.
    """
    campaign.check_recipient(member)
    people.unsubscribe(campaign.audience, member, given)
    campaign.record_opt_out(member)


def simulate(campaign: Campaign, shares: dict[str, float], *, seed: int) -> dict[str, int]:
    """Let shares of the recipients bounce, open and click, the same ones for the same seed.

    Who bounced opens nothing, and who clicks has opened. It happens in the two days after the
    campaign was sent, as far as they are over.

    Raises:
        ValueError: the shares cannot be had: opens and bounces together, or clicks alone, are more
            than there are.
    """
    opens, clicks, soft, hard = (shares.get(name, 0.0) for name in SHARES)
    if min(opens, clicks, soft, hard) < 0 or opens + soft + hard > 1 or clicks > opens:
        raise ValueError("opens and bounces are at most 1 together, clicks at most the opens")
    rng = random.Random(seed)  # noqa: S311 - sample data
    spread = max(0, min(campaign.audience.now() - campaign.send_time, _SPREAD_SECONDS))
    counts = dict.fromkeys(SHARES, 0)
    for member in campaign.reached():
        chance, at = rng.random(), campaign.send_time + rng.randint(0, spread)
        if chance < hard:
            react(campaign, member, Activity(at, "bounce", type="hard"))
            counts["hard_bounces"] += 1
        elif chance < hard + soft:
            react(campaign, member, Activity(at, "bounce", type="soft"))
            counts["soft_bounces"] += 1
        elif chance < hard + soft + opens:
            react(campaign, member, Activity(at, "open", ip=READER_IP))
            counts["opens"] += 1
            if chance < hard + soft + clicks:
                react(campaign, member, Activity(at, "click", url=LINK, ip=READER_IP))
                counts["clicks"] += 1
    gc.freeze()  # as after generating members
    return counts
