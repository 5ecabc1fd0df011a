"""What people do to an audience without the API: marketers in the app, the contacts themselves."""

from typing import Any

from sandbox.mailchimp import writes
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.members import STATUSES, Member, subscriber_hash
from sandbox.mailchimp.timestamps import from_text

ORIGINS = ("marketer", "self", "api", "mailchimp")


def seed(audience: Audience, given: dict[str, Any]) -> Member:
    """Put a member there as an import by a marketer would; nothing is validated.

    `origin` says who caused the status: an opt-out by `self` or a bounce by `mailchimp` is a
    compliance state. `last_changed` may be in the past.

    Raises:
        ValueError: no address, or an unknown status, origin or merge field.
    """
    email, status = given.get("email_address"), given.get("status", "subscribed")
    origin = given.get("origin", "marketer")
    values = given.get("merge_fields") or {}
    unknown = set(values) - set(audience.merge_fields.by_tag)
    if not email or status not in (*STATUSES, "archived") or origin not in ORIGINS or unknown:
        raise ValueError(f"cannot seed {given}: address, status, origin or merge fields are wrong")
    member = audience.find(email)
    if member is None:
        member = audience.create(email, status, by=origin, source="Import")
    member.set_status(status, by=origin, at=audience.now())
    member.compliance = status in ("unsubscribed", "cleaned") and origin in ("self", "mailchimp")
    member.merge_values |= {tag: value for tag, value in values.items() if value != ""}
    writes.add_tags(audience, member, given.get("tags") or [])
    member.last_changed = (
        from_text(given["last_changed"]) if given.get("last_changed") else audience.now()
    )
    audience.recency.touch(member)
    return member


def unsubscribe(audience: Audience, member: Member, given: dict[str, Any]) -> None:
    """Opt the person out (`by: self`, the default), or let a marketer do it for them.

    `abuse` says that the person reported the mail as spam.
    """
    by, before = given.get("by", "self"), member.status
    if by not in ("self", "marketer"):
        raise ValueError("by is self or marketer")
    member.set_status("unsubscribed", by=by, at=audience.now())
    if by == "self":
        member.unsubscribe_reason = given.get("reason", "N/A (No reason given)")
    audience.touch(member)
    abuse, campaign_id = bool(given.get("abuse")), given.get("campaign_id", "")
    if abuse:
        audience.report_abuse(member, campaign_id)
    audience.tell_status(member, before, abuse=abuse, campaign_id=campaign_id)


def clean(audience: Audience, member: Member, given: dict[str, Any]) -> None:
    """Clean the address after a hard bounce, or with `abuse` after a complaint."""
    before = member.status
    member.set_status("cleaned", by="mailchimp", at=audience.now())
    audience.touch(member)
    abuse, campaign_id = bool(given.get("abuse")), given.get("campaign_id", "")
    if abuse:
        audience.report_abuse(member, campaign_id)
    audience.tell_status(member, before, abuse=abuse, campaign_id=campaign_id)


def archive(audience: Audience, member: Member, _: dict[str, Any]) -> None:
    """Archive the member as a marketer."""
    writes.archive(audience, member, by="marketer")


def change_email(audience: Audience, member: Member, given: dict[str, Any]) -> None:
    """Change the address as the person, through the preferences form.

    The old address is no longer found; `contact_id`, `web_id`, tags and merge fields stay.
    """
    email = given.get("email_address")
    if not email or audience.find(email) not in (None, member):
        raise ValueError("send an email_address that is not in the audience yet")
    old = member.email_address
    audience.rekey(member, email)
    audience.touch(member)
    audience.tell_address(member, old, by="self")


def forget(audience: Audience, member: Member, _: dict[str, Any]) -> None:
    """Delete the member for ever as a marketer."""
    audience.forget(member, by="marketer")


def confirm(audience: Audience, member: Member, _: dict[str, Any]) -> None:
    """Click the link in the confirmation mail as the person."""
    if member.status != "pending":
        raise ValueError("only a pending member can confirm")
    _opt_in(audience, member, "subscribed", before="pending")


def profile(audience: Audience, member: Member, given: dict[str, Any]) -> None:
    """Edit the person's own fields, groups and permissions by name, and language."""
    member.merge_values = audience.merge_fields.take(
        member.merge_values, given.get("merge_fields") or {}, validate=False
    )
    named = {
        interest_id: name
        for each in audience.interests.categories.values()
        for interest_id, name in each.interests.items()
    }
    for name, on in (given.get("groups") or {}).items():
        ids = {each: on for each, its in named.items() if its == name}
        member.interests = audience.interests.take(member.interests, ids)
    texts = {text: each for each, text in audience.permissions.items()}
    for text, on in (given.get("permissions") or {}).items():
        chosen = {texts[text]}
        member.permissions = member.permissions | chosen if on else member.permissions - chosen
    member.language = given.get("language", member.language)
    audience.touch(member)
    audience.tell("profile", member, by="self")


def tag(audience: Audience, member: Member, given: dict[str, Any]) -> None:
    """Set the tags of `add` and remove those of `remove`, as a marketer."""
    tags = [(name, True) for name in given.get("add", [])]
    writes.set_tags(audience, member, [*tags, *((name, False) for name in given.get("remove", []))])


def subscribe(audience: Audience, email: str) -> Member:
    """Sign the person up through a form: new, again, or after a permanent deletion.

    With double opt-in on they are pending until they confirm.
    """
    status = "pending" if audience.settings.double_optin else "subscribed"
    audience.forgotten.pop(subscriber_hash(email), None)
    member = audience.find(email)
    before = member.status if member else ""
    if member is None:
        member = audience.create(email, status, by="self", source="Hosted Signup Form")
    _opt_in(audience, member, status, before=before)
    return member


def _opt_in(audience: Audience, member: Member, status: str, *, before: str) -> None:
    member.set_status(status, by="self", at=audience.now())
    if status == "subscribed":
        member.timestamp_opt = audience.now()
    audience.touch(member)
    audience.tell_status(member, before)


ACTIONS = {
    "unsubscribe": unsubscribe,
    "clean": clean,
    "archive": archive,
    "upemail": change_email,
    "forget": forget,
    "confirm": confirm,
    "profile": profile,
    "tags": tag,
}
