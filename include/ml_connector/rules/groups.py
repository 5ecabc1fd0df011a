"""Decide which groups a contact joins and leaves, and which language it gets (A48).

A group is an interest of Mailchimp, in a category that the settings name. It is ours if the
connector added it and it was not there before. A person's own choice stays: a group that they chose
is never taken off, and one of ours that they left is not joined again until QuickBooks' value
changes. What a contact was seen to have is stored as keys together with those of its tags.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ml_connector.rules.languages import CODES
from ml_connector.rules.tags import tag_key
from ml_connector.vault import Vault

GROUPS_READ = b"\x01"
LANGUAGE_READ = b"\x02"
"""Among the keys of a contact, these stand for what was read of it. Tags are always read."""


class GroupWork(NamedTuple):
    """The effect of a write on a contact's groups.

    ``interests``: what to send, by interest id. ``ours``: the groups that are ours after it.
    """

    interests: dict[str, bool]
    ours: tuple[str, ...]


def group_work(
    wanted: Collection[str],
    *,
    past: Sequence[str],
    owned: Collection[str],
    seen: Collection[bytes],
    vault: Vault,
) -> GroupWork:
    """Return the group work of a write.

    ``past``: our groups so far. ``owned``: all groups of the categories in the settings. ``seen``:
    the keys of what the contact was last seen to have.
    """
    read = GROUPS_READ in seen
    there = {each for each in {*wanted, *past} if group_key(each, vault) in seen}
    joins = [each for each in wanted if each in owned and each not in past]
    leaves = [each for each in past if each in owned and each not in wanted]
    interests = {each: True for each in joins if each not in there}
    interests |= {each: False for each in leaves if each in there or not read}
    new = [each for each in joins if read and each not in there]
    kept = [each for each in past if each in wanted]
    return GroupWork(interests=interests, ours=(*kept, *new))


def language_to_send(
    wanted: str, *, past: str | None, seen: Collection[bytes], vault: Vault
) -> str:
    """Return the language to send; ``""`` for none.

    ``past``: QuickBooks' value at our last write, None if there was none. A language that a contact
    has from elsewhere stays until QuickBooks' value changes.
    """
    if not wanted or wanted == past:
        return ""
    if past is None and (LANGUAGE_READ not in seen or seen_language(seen, vault)):
        return ""
    return wanted


def seen_language(seen: Collection[bytes], vault: Vault) -> str:
    """Return the language that a contact was seen to have; ``""`` for none that is known."""
    return next((code for code in CODES if language_key(code, vault) in seen), "")


def seen_groups(seen: Collection[bytes], names: Mapping[str, str], vault: Vault) -> list[str]:
    """Return the names of those groups that a contact was seen to be in; ``names`` by id."""
    return [name for each, name in names.items() if group_key(each, vault) in seen]


def seen_after(
    seen: Collection[bytes], interests: Mapping[str, bool], language: str, vault: Vault
) -> frozenset[bytes]:
    """Return the keys of what a contact has after a write."""
    keys = {*seen}
    for each, joined in interests.items():
        (keys.add if joined else keys.discard)(group_key(each, vault))
    if language:
        keys -= {language_key(code, vault) for code in CODES}
        keys.add(language_key(language, vault))
    return frozenset(keys)


def group_key(interest_id: str, vault: Vault) -> bytes:
    """Return the key of a group that a contact is in."""
    return tag_key(f"\0group {interest_id}", vault)


def language_key(code: str, vault: Vault) -> bytes:
    """Return the key of a contact's language."""
    return tag_key(f"\0language {code}", vault)
