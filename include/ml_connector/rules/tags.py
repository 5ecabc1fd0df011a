"""Decide which tags a contact gets, which it loses, and which are ours to remove later.

A tag is ours if the connector set it and it was not there before. A tag that a marketer set first
stays the marketer's, even if the connector wants it too. Mailchimp ignores case in tags.
"""

from dataclasses import dataclass
from functools import lru_cache

from ml_connector.mailchimp.protocol import TAGS_SHOWN
from ml_connector.vault import Vault

_MORE = b""
"""Among the tags seen on a member, this stands for the tags that the listing omits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagWork:
    """The effect of a write on a contact's tags.

    ``wanted``: all tags it should have. ``missing``: wanted tags that it lacks, as far as known.
    ``drop``: tags to remove. ``ours`` and ``seen`` hold after the write. ``seen`` is None until the
    tags were read once.
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
    """Return the tag work of a write; cached, since most contacts of an audience are alike.

    ``past``: our tags so far. ``seen``: keys of the tags last seen on the member. It is empty if
    there was no member, None if the tags were never read.
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


@lru_cache(maxsize=1024)
def shown_tag_keys(tags: tuple[str, ...], vault: Vault) -> tuple[bytes, ...]:
    """Return the keys of a member's tags as listed, with a mark if the listing may omit some."""
    more = {_MORE} if len(tags) >= TAGS_SHOWN else set()
    return tuple(sorted({tag_key(tag, vault) for tag in tags} | more))


@lru_cache(maxsize=1024)
def tag_key(tag: str, vault: Vault) -> bytes:
    """Return a tag's keyed hash (8 bytes). The name is not stored, as it may identify a person."""
    return vault.fields_hash(tag.strip().casefold())[:8]
