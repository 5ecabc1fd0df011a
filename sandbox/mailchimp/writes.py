"""How one member is written: the rules shared by PUT, PATCH, POST and the batch subscribe."""

import re
from typing import Any

from sandbox.mailchimp import problems
from sandbox.mailchimp.audience import Audience
from sandbox.mailchimp.members import Member, subscriber_hash
from sandbox.mailchimp.timestamps import from_text

_ADDRESS = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>.]{2,}")
_FAKE_DOMAINS = frozenset({"example.com", "example.org", "example.net", "test.com"})
_PLAIN = ("email_type", "language", "vip", "ip_signup", "ip_opt")
_TIMES = ("timestamp_signup", "timestamp_opt")


def put(audience: Audience, handle: str, body: dict[str, Any], *, validate: bool) -> Member:
    """Add or update: `status_if_new` acts on creation only, `status` overwrites.

    A known member may be written without its address; archived counts as known, so
    `status_if_new` leaves it archived.
    """
    member = audience.find(handle)
    if member is not None:
        update(audience, member, body, validate=validate)
        return member
    status = body.get("status_if_new") or body.get("status")
    required = [] if status else ["status_if_new"]
    if not body.get("email_address"):
        required.insert(0, "email_address")
    if required:
        message = f"Required fields were not provided: {', '.join(required)}"
        raise problems.schema([{"field": "", "message": message}])
    if audience.find(body["email_address"]) is not None:
        raise problems.exists(body["email_address"])
    return create(audience, body, str(status), validate=validate)


def post(audience: Audience, body: dict[str, Any], *, validate: bool) -> Member:
    """Add; an archived member comes back with its old tags and merge fields."""
    member = audience.find(body["email_address"])
    if member is None:
        return create(audience, body, body["status"], validate=validate)
    if member.status != "archived":
        raise problems.exists(body["email_address"])
    update(audience, member, body, validate=validate)
    add_tags(audience, member, body.get("tags") or [])
    return member


def create(audience: Audience, body: dict[str, Any], status: str, *, validate: bool) -> Member:
    """Create a member by the API; tags in the body are set at creation."""
    email = check_address(audience, body["email_address"])
    _check_limit(audience)
    values = audience.merge_fields.take({}, body.get("merge_fields") or {}, validate=validate)
    interests = audience.interests.take(frozenset(), body.get("interests"))
    permissions = _permissions(audience, frozenset(), body)
    member = audience.create(email, status, by="api")
    member.merge_values = values
    member.interests, member.permissions = interests, permissions
    _write_plain(member, body)
    for name in body.get("tags") or []:
        member.tags[audience.tags.get_or_create(name).id] = audience.now()
    _mail_if_pending(audience, status)
    audience.tell_status(member, "")
    return member


def update(audience: Audience, member: Member, body: dict[str, Any], *, validate: bool) -> None:
    """Write `body` over a known member. Writing what is there already does not move `last_changed`.

    `tags` are ignored: for known members PUT did so from 2018 to 2023 at least
    (python-mailchimp#203), and nothing shows that it changed.
    """
    email = body.get("email_address") or member.email_address
    status = body.get("status")
    rekeyed = subscriber_hash(email) != member.id
    if rekeyed:
        email = check_address(audience, email)
        if audience.find(email) is not None:
            raise problems.exists(email)
    if status is not None:
        _check_status(audience, member, status)
    values = audience.merge_fields.take(
        member.merge_values, body.get("merge_fields") or {}, validate=validate
    )
    interests = audience.interests.take(member.interests, body.get("interests"))
    permissions = _permissions(audience, member.permissions, body)
    before, old = member.contents(), (member.email_address, member.status, member.profile())
    if rekeyed:
        audience.rekey(member, email)
    member.merge_values = values
    member.interests, member.permissions = interests, permissions
    _write_plain(member, body)
    if status is not None and status != member.status:
        member.set_status(status, by="api", at=audience.now())
        _mail_if_pending(audience, status)
    if member.contents() != before:
        audience.touch(member)
        _tell(audience, member, *old)


def _tell(
    audience: Audience, member: Member, address: str, status: str, profile: tuple[Any, ...]
) -> None:
    if member.email_address.lower() != address.lower():
        audience.tell_address(member, address, by="api")
    elif member.profile() != profile:
        audience.tell("profile", member, by="api")
    audience.tell_status(member, status)


def archive(audience: Audience, member: Member, *, by: str = "api") -> None:
    """DELETE: 405 for members who bounced, are pending or are archived already."""
    if member.status in ("cleaned", "pending", "archived"):
        raise problems.cannot_archive()
    before = member.status
    member.set_status("archived", by=by, at=audience.now())
    audience.touch(member)
    audience.tell_status(member, before)


def add_tags(
    audience: Audience, member: Member, names: list[str], *, replace: bool = False
) -> None:
    """Add tags by name; `replace` removes all other tags, as `sync_tags` does."""
    set_tags(audience, member, [(name, True) for name in names], replace=replace)


def set_tags(
    audience: Audience, member: Member, tags: list[tuple[str, bool]], *, replace: bool = False
) -> None:
    """Switch tags on or off; a real change moves `last_changed`."""
    before = set(member.tags)
    wanted = set() if replace else set(before)
    for name, active in tags:
        if active:
            wanted.add(audience.tags.get_or_create(name).id)
        else:
            known = audience.tags.get(name)
            wanted.discard(known.id if known else 0)
    if wanted != before:
        now = audience.now()
        member.tags = {each: member.tags.get(each, now) for each in sorted(wanted)}
        audience.touch(member)


def check_address(audience: Audience, email: str) -> str:
    """Return the trimmed address if the audience takes it.

    Raises:
        ProblemError: malformed, made up, forgotten or throttled.
    """
    email = email.strip()
    if not _ADDRESS.fullmatch(email):
        raise problems.bad_address()
    domain = email.rpartition("@")[2].lower()
    if audience.settings.refuse_fake_domains and (domain in _FAKE_DOMAINS or "fake" in domain):
        raise problems.fake_address(email)
    if subscriber_hash(email) in audience.forgotten:
        raise problems.forgotten(email)
    _check_throttle(audience, email)
    return email


def _check_limit(audience: Audience) -> None:
    limit = audience.settings.contact_limit
    members = audience.by_contact_id.values()
    if limit and sum(each.status != "archived" for each in members) >= limit:
        raise problems.contact_limit(limit)


def _check_throttle(audience: Audience, email: str) -> None:
    throttled = audience.settings.throttled
    if throttled and email.lower() in {each.lower() for each in throttled}:
        raise problems.throttled(email)


def _check_status(audience: Audience, member: Member, status: str) -> None:
    if status == member.status:
        return
    if status == "subscribed" and member.compliance:
        raise problems.in_compliance_state(member.email_address)
    if status in ("subscribed", "pending"):
        _check_throttle(audience, member.email_address)


def _write_plain(member: Member, body: dict[str, Any]) -> None:
    for key in _PLAIN:
        if body.get(key) is not None:
            setattr(member, key, body[key])
    for key in _TIMES:
        if body.get(key):
            setattr(member, key, from_text(body[key]))
    location = body.get("location") or {}
    member.latitude = location.get("latitude", member.latitude)
    member.longitude = location.get("longitude", member.longitude)


def _permissions(audience: Audience, given: frozenset[str], body: dict[str, Any]) -> frozenset[str]:
    """Return a member's permissions after writing the body; unknown ids are ignored."""
    taken = set(given)
    for each in body.get("marketing_permissions") or []:
        permission = each.get("marketing_permission_id")
        if permission in audience.permissions:
            (taken.add if each.get("enabled") else taken.discard)(permission)
    return frozenset(taken)


def _mail_if_pending(audience: Audience, status: str) -> None:
    if status == "pending":
        audience.confirmation_mails += 1
