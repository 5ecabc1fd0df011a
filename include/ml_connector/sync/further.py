"""What some syncs write beyond merge fields and tags: groups and language.

A sync whose settings name neither has no ``Further``, and its customers need no work here.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from msgspec import structs
from sqlalchemy import Connection

from ml_connector.model import Customer, Member, Status
from ml_connector.rules.groups import (
    GROUPS_READ,
    LANGUAGE_READ,
    group_key,
    group_work,
    language_key,
    language_to_send,
    seen_after,
    seen_groups,
    seen_language,
)
from ml_connector.rules.undo import Undoing
from ml_connector.scope import Scope
from ml_connector.store.claims import ClaimedChange
from ml_connector.sync.groups import group_names
from ml_connector.sync.outcomes import Row


class Further:
    """Adds groups and language to rows, and shows them in the audit."""

    def __init__(self, scope: Scope, names: Mapping[str, str]) -> None:
        """Bind a sync; ``names``: the groups of its categories by id."""
        self._scope, self._names = scope, names

    @classmethod
    def of(cls, scope: Scope, connection: Connection) -> Self | None:
        """Return what a sync writes; None if its settings name neither groups nor language."""
        return cls(scope, group_names(scope, connection)) if scope.sync.member_fields else None

    def added(self, row: Row, customer: Customer, shown: Mapping[str, Any]) -> Row:
        """Return ``row`` with the groups and language to write; ``shown``: our last write."""
        vault, change = self._scope.vault, row.change
        new = change.known_status in (None, Status.ABSENT)
        seen = self._all_read if new else frozenset(map(bytes, change.seen_tags or ()))
        work = group_work(
            list(customer.groups.values()),
            past=shown.get("groups", ()),
            owned=self._names,
            seen=seen,
            vault=vault,
        )
        past = shown.get("language")
        language = language_to_send(customer.language, past=past, seen=seen, vault=vault)
        after = seen_after(seen, work.interests, language, vault)
        further: dict[str, Any] = {"groups": list(work.ours)}
        if customer.language or past:
            further["language"] = customer.language or past
        tags = row.tags
        if tags.seen is not None:
            marks = {key for key in after if key not in seen} | (seen & self._all_read)
            gone = seen - after
            tags = replace(tags, seen=(tags.seen | marks) - gone)
        return structs.replace(
            row,
            write=structs.replace(row.write, interests=work.interests, language=language),
            tags=tags,
            further=further,
            after={name: now for name, now in self._shown(after).items() if now is not None},
        )

    def taken_back(
        self, row: Row, undoing: Undoing, shown: Mapping[str, Any], *, given_up: bool
    ) -> Row:
        """Return the ``row`` of an undo with the groups and language to write back.

        What the connector joined again is ours. ``given_up``: the contact is no longer ours.
        """
        vault = self._scope.vault
        interests, language = undoing.interests, undoing.language
        seen = frozenset(map(bytes, row.change.seen_tags or ()))
        after = seen_after(seen, interests, language, vault)
        tags = row.tags
        if tags.seen is not None:
            tags = replace(tags, seen=(tags.seen | (after - seen)) - (seen - after))
        past = [each for each in shown.get("groups", ()) if each not in interests]
        rejoined = (
            each
            for each, joined in interests.items()
            if joined and group_key(each, vault) not in seen
        )
        ours = [*past, *rejoined]
        further: dict[str, Any] = {"groups": [] if given_up else ours}
        if "language" in shown and not given_up:
            further["language"] = shown["language"]  # QuickBooks' value, taken into account
        return structs.replace(
            row,
            write=structs.replace(row.write, interests=interests, language=language),
            tags=tags,
            further=further,
            after={name: now for name, now in self._shown(after).items() if now is not None},
        )

    def seen(self, change: ClaimedChange) -> dict[str, Any]:
        """Return the audit's groups and language of a contact as last read; None for unread."""
        return self._shown(frozenset(map(bytes, change.seen_tags or ())))

    def of_member(self, member: Member) -> dict[str, Any]:
        """Return the audit's groups and language of a member as just read."""
        return self._shown(frozenset(member_keys(self._scope, member)))

    @property
    def _all_read(self) -> frozenset[bytes]:
        sync = self._scope.sync
        used = {GROUPS_READ: sync.groups, LANGUAGE_READ: sync.language}
        return frozenset(mark for mark, setting in used.items() if setting)

    def _shown(self, seen: frozenset[bytes]) -> dict[str, Any]:
        sync, vault = self._scope.sync, self._scope.vault
        shown: dict[str, Any] = {}
        if sync.groups:
            read = GROUPS_READ in seen
            shown["groups"] = seen_groups(seen, self._names, vault) if read else None
        if sync.language:
            shown["language"] = seen_language(seen, vault) if LANGUAGE_READ in seen else None
        return shown


def member_keys(scope: Scope, member: Member) -> list[bytes]:
    """Return the keys of a member's groups and language, as far as the settings use them."""
    sync, vault = scope.sync, scope.vault
    keys: list[bytes] = []
    if sync.groups and member.interests is not None:
        keys += [GROUPS_READ, *(group_key(each, vault) for each in member.interests)]
    if sync.language and member.language is not None:
        keys += [LANGUAGE_READ]
        keys += [language_key(member.language, vault)] if member.language else []
    return keys
