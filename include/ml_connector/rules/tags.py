"""Which tags a contact gets, which are taken off it, and which are ours to take off one day.

Ours is a tag that we set and that was not there before. One that a marketer had set already stays
theirs, whatever we want. Mailchimp tells no letters' case apart in tags.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ml_connector.mailchimp.protocol import TAGS_SHOWN
from ml_connector.vault import Vault

_MORE = b""
"""Stands among the tags seen on a member for those that the listing does not show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagWork:
    """What a write does to a contact's tags.

    ``wanted``: all that it is to carry; ``missing``: those of them that it does not have as far as
    we know; ``drop``: to take off. ``ours`` and ``seen`` are what holds afterwards; ``seen`` is
    None as long as it is not known.
    """

    wanted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    seen: frozenset[bytes] | None = None


@lru_cache(maxsize=1024)
def tag_work(
    wanted: tuple[str, ...],
    *,
    past: tuple[str, ...],
    seen: tuple[bytes, ...] | None,
    vault: Vault,
) -> TagWork:
    """Return what is to be done; remembered, since most contacts of an audience are alike.

    ``past``: the tags that are ours so far. ``seen``: keys of the tags last seen on the member,
    empty if there was no member, None if they were never looked at.
    """
    held = {tag.casefold() for tag in past}
    kept = {tag.casefold() for tag in wanted}
    drop = tuple(tag for tag in past if tag.casefold() not in kept)
    keys = {tag: tag_key(tag, vault) for tag in (*wanted, *drop)}
    new = [tag for tag in wanted if tag.casefold() not in held]
    foreign = {tag for tag in new if seen is None or _MORE in seen or keys[tag] in seen}
    after = None
    if seen is not None:
        after = frozenset({*seen, *(keys[tag] for tag in wanted)} - {keys[tag] for tag in drop})
    return TagWork(
        wanted=tuple(wanted),
        missing=tuple(tag for tag in new if keys[tag] not in (seen or ())),
        drop=drop,
        ours=tuple(tag for tag in wanted if tag not in foreign),
        seen=after,
    )


def shown_tag_keys(tags: Sequence[str], vault: Vault) -> list[bytes]:
    """Return the keys of the tags that a listing shows of a member."""
    more = [_MORE] if len(tags) >= TAGS_SHOWN else []
    return sorted({tag_key(tag, vault) for tag in tags}) + more


@lru_cache(maxsize=1024)
def tag_key(tag: str, vault: Vault) -> bytes:
    """Return the keyed hash (8 bytes) by which a tag is known: its name may tell of a person."""
    return vault.fields_hash(tag.strip().casefold())[:8]
