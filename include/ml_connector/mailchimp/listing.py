"""The order of a listing's members: where each stands, whether it can be read or not."""

from collections.abc import Mapping
from datetime import UTC, datetime

from ml_connector.model import Member, Unreadable

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


def was_there(member: Listed, delivered: Mapping[str, datetime], reached: datetime) -> bool:
    """Return whether all rows before an unchanged member were read up to ``reached``."""
    time = changed(member)
    return time < reached or delivered.get(key(member)) == time
