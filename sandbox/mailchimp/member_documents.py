"""Render members as the API and the control API show them."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.members import Member
from sandbox.mailchimp.timestamps import to_text

TAGS_SHOWN = 50


class Document(Struct, gc=False):
    """A member as the API shows it; what is UNSET is left out."""

    id: str
    email_address: str
    unique_email_id: str
    contact_id: str | UnsetType
    full_name: str | UnsetType
    web_id: int | UnsetType
    email_type: str
    status: str
    unsubscribe_reason: str | UnsetType
    consents_to_one_to_one_messaging: bool | UnsetType
    merge_fields: dict[str, Any]
    interests: dict[str, bool] | UnsetType
    stats: dict[str, float]
    ip_signup: str
    timestamp_signup: str
    ip_opt: str
    timestamp_opt: str
    member_rating: int
    last_changed: str
    language: str
    vip: bool
    email_client: str
    location: dict[str, Any]
    marketing_permissions: list[dict[str, Any]] | UnsetType
    source: str | UnsetType
    tags_count: int
    tags: list[dict[str, Any]]
    list_id: str
    _links: list[dict[str, str]]


SHOWN = Document.__struct_fields__
_NO_STATS = {"avg_open_rate": 0.0, "avg_click_rate": 0.0}


def _stats(member: Member) -> dict[str, float]:
    return {
        "avg_open_rate": min(1.0, member.opened / member.mailed),
        "avg_click_rate": min(1.0, member.clicked / member.mailed),
    }


def show(member: Member, audience: Audience, *, in_batch: bool = False) -> Document:
    """Render the member's document; in responses to a batch it has fewer parts."""
    tags = audience.tags.by_id
    unsubscribed = member.status == "unsubscribed"
    return Document(
        id=member.id,
        email_address=member.email_address,
        unique_email_id=member.unique_email_id,
        contact_id=UNSET if in_batch else member.contact_id,
        full_name=UNSET if in_batch else member.full_name(),
        web_id=UNSET if in_batch else member.web_id,
        email_type=member.email_type,
        status=member.status,
        unsubscribe_reason=(member.unsubscribe_reason if unsubscribed and not in_batch else UNSET),
        consents_to_one_to_one_messaging=UNSET if in_batch else member.status == "subscribed",
        merge_fields=audience.merge_fields.render(member.merge_values),
        interests=(
            audience.interests.render(member.interests) if audience.interests.categories else UNSET
        ),
        stats=_stats(member) if member.mailed else _NO_STATS,
        ip_signup=member.ip_signup,
        timestamp_signup=to_text(member.timestamp_signup),
        ip_opt=member.ip_opt,
        timestamp_opt=to_text(member.timestamp_opt),
        member_rating=2 if not member.opened else 5 if member.clicked else 4,
        last_changed=to_text(member.last_changed),
        language=member.language,
        vip=member.vip,
        email_client="",
        location={
            "latitude": member.latitude,
            "longitude": member.longitude,
            "gmtoff": 0,
            "dstoff": 0,
            "country_code": "",
            "timezone": "",
            "region": "",
        },
        marketing_permissions=(
            [
                {
                    "marketing_permission_id": each,
                    "text": said,
                    "enabled": each in member.permissions,
                }
                for each, said in audience.permissions.items()
            ]
            if audience.permissions and not in_batch
            else UNSET
        ),
        source=UNSET if in_batch else member.source,
        tags_count=len(member.tags),
        tags=[{"id": each, "name": tags[each].name} for each in islice(member.tags, TAGS_SHOWN)],
        list_id=audience.id,
        _links=[
            {
                "rel": "self",
                "href": f"/3.0/lists/{audience.id}/members/{member.id}",
                "method": "GET",
                "targetSchema": "/schema/3.0/Definitions/Lists/Members/Response.json",
            }
        ],
    )


def render(member: Member, audience: Audience, keys: Iterable[str] = SHOWN) -> dict[str, Any]:
    """Render those parts of the member's document that `keys` name."""
    document = show(member, audience)
    return {key: value for key in keys if (value := getattr(document, key)) is not UNSET}


def render_in_full(member: Member, audience: Audience) -> dict[str, Any]:
    """Render what the control API shows: the member plus what Mailchimp keeps to itself."""
    return render(member, audience) | {
        "compliance": member.compliance,
        "status_changed_by": member.status_changes[-1].by,
        "status_changes": [
            {"at": to_text(each.at), "before": each.before, "after": each.after, "by": each.by}
            for each in member.status_changes
        ],
    }
