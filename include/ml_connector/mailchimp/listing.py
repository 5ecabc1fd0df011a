"""The order of a listing's members: where each stands, whether it can be read or not."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ml_connector.model import Member, Unreadable, anonymous, new_from

START = datetime.min.replace(tzinfo=UTC)
NOWHERE = ("", START)

Listed = Member | Unreadable


def key(member: Listed) -> str:
    """Return what tells a member from others in a listing."""
    if isinstance(member, Unreadable):
        return member.record
    return member.contact_id or member.email_address


def changed(member: Listed) -> datetime:
    """Return a member's last change; ``START`` if it tells none."""
    time = member.updated if isinstance(member, Unreadable) else member.last_changed
    return time or START


def place(member: Listed) -> tuple[str, datetime]:
    """Return a member's place. With the time: one that moved to the end may be seen again there."""
    return key(member), changed(member)


def fresh(
    page: Sequence[Listed], former: Sequence[Listed], delivered: Mapping[str, datetime]
) -> list[Listed]:
    """Return the members of a page that were not ``delivered`` as they are now."""
    new = new_from(page, former, key)
    return [
        member
        for place, member in enumerate(page)
        if delivered.get(key(member)) != changed(member) or (anonymous(member) and place >= new)
    ]


def was_there(member: Listed, delivered: Mapping[str, datetime], reached: datetime) -> bool:
    """Return whether all rows before an unchanged member were read up to ``reached``."""
    time = changed(member)
    return time < reached or delivered.get(key(member)) == time
