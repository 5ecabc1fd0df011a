"""The order of a listing's members: the position of each, readable or not."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from ml_connector.model import Member, Unreadable, anonymous, new_from, unreadable_record

START = datetime.min.replace(tzinfo=UTC)
NOWHERE = ("", START)
UNORDERED = "Mailchimp lists it twice with two statuses, and neither is newer"

Listed = Member | Unreadable


def key(member: Listed) -> str:
    """Return what identifies a member in a listing."""
    if isinstance(member, Unreadable):
        return member.record
    return member.contact_id or member.email_address


def changed(member: Listed) -> datetime:
    """Return a member's last change; ``START`` if it has none."""
    time = member.updated if isinstance(member, Unreadable) else member.last_changed
    return time or START


def place(member: Listed) -> tuple[str, datetime]:
    """Return a member's place, with the time: a member that moved to the end may be seen again."""
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


def newest_each(members: Iterable[Listed]) -> list[Listed]:
    """Return one record of each member: the newest, the last of equal age (A55d).

    If two of the same age have two statuses, neither is taken for the truth.
    """
    kept: list[Listed] = []
    places: dict[str, int] = {}
    for member in members:
        address = member.email_address.strip().lower()
        names = [] if anonymous(member) else [each for each in (key(member), address) if each]
        place = next((places[name] for name in names if name in places), len(kept))
        if place == len(kept):
            kept.append(member)
        else:
            kept[place] = _newer(kept[place], member)
        places.update(dict.fromkeys(names, place))
    return kept


def _newer(one: Listed, other: Listed) -> Listed:
    if isinstance(one, Unreadable) != isinstance(other, Unreadable):
        odd, read = (one, other) if isinstance(one, Unreadable) else (other, one)
        return odd if changed(odd) > changed(read) else read
    if changed(one) != changed(other):
        return max(one, other, key=changed)
    if isinstance(one, Unreadable) or isinstance(other, Unreadable):
        return other
    if one.status is other.status:
        return other
    return unreadable_record(
        None,
        UNORDERED,
        id_=other.contact_id,
        updated=other.last_changed,
        email_address=other.email_address,
    )
