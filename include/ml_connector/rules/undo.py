"""Decide what an undo of a run writes to a contact, and whether the contact is as the run left it.

The rows are those of the run's audit about one contact. The state before the first one comes back.
Consent never rises: a status is written only to restore, at most the one the contact had (E3).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ml_connector.mailchimp.protocol import TAGS_SHOWN
from ml_connector.model import CONSENT_RANK, Kind, Member, Status

CHANGED, GONE, ERASED = "changed_since", "not_in_audience", "erased"
NOT_OBSERVED, CONSENT, NOTHING = "not_observed", "consent_would_rise", "nothing_to_undo"
ALREADY, OPTED_OUT = "undone_already", "opted_out_elsewhere"
_OUT = (Status.ABSENT, Status.FORGOTTEN, Status.MOVED, "")

Fields = Mapping[str, Any]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """An audit row about a contact. ``before`` and ``after`` are as ``sync.outcomes`` made them.

    ``tells_met``: whether a creation that met a member says so. Rows of 0.1.0 do not always.
    """

    id: int
    action: str
    reason: str
    customer_id: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    tells_met: bool = True


class Undoing(msgspec.Struct, frozen=True, kw_only=True):
    """What takes a contact back.

    ``status``: what a restore gives back at most. ``fields``: merge fields to write. ``kept``:
    further ones the contact showed before. ``cleared``: fields that the run had emptied. ``tags``:
    ours as seen before, None if they were never read. ``add`` and ``drop``: tags to add and to
    remove. ``told``: QuickBooks' values of fields that get a person's value back. ``adopted``: the
    member was not ours before the run. ``had_groups`` and ``left_groups``: ids of the settings'
    groups before and after the run.
    """

    kind: Kind
    email: str
    customer_id: str | None
    status: Status | None
    fields: dict[str, Any]
    kept: dict[str, Any]
    cleared: frozenset[str]
    tags: tuple[str, ...] | None
    add: tuple[str, ...]
    drop: tuple[str, ...]
    told: dict[str, Any]
    adopted: bool
    left_status: str
    had_status: str
    left_fields: dict[str, Any]
    left_tags: frozenset[str]
    had_groups: frozenset[str] = frozenset()
    left_groups: frozenset[str] = frozenset()
    had_language: str = ""
    left_language: str = ""

    @property
    def interests(self) -> dict[str, bool]:
        """Return the groups to join and to leave, by id."""
        joined, left = self.had_groups - self.left_groups, self.left_groups - self.had_groups
        return dict.fromkeys(sorted(joined), True) | dict.fromkeys(sorted(left), False)

    @property
    def language(self) -> str:
        """Return the language to write; ``""`` for none. Where there was none, none is written."""
        return self.had_language if self.had_language != self.left_language else ""


def undoing_of(
    rows: Sequence[Written], *, groups: Mapping[str, str] | None = None, language: bool = False
) -> Undoing | str:
    """Return what undoes ``rows``, oldest first; or the reason why nothing can.

    ``groups``: ids of the settings' groups by name. ``language``: whether the settings map it.
    """
    first, last = rows[0], rows[-1]
    if any(row.after is None or not row.after.get("email") for row in rows):
        return ERASED
    before, after = first.before or {}, last.after or {}
    had, left = str(before.get("status") or ""), str(after.get("status") or "")
    was_in, is_in = had not in (*_OUT, Status.ARCHIVED), left != Status.ARCHIVED
    if not was_in and not is_in:
        return NOTHING
    sent = _sent(rows)
    kind = Kind.UPDATE if was_in and is_in else Kind.ARCHIVE if is_in else Kind.RESTORE
    observed = before.get("merge_fields")
    if (kind is not Kind.ARCHIVE and sent and observed is None) or _met(first):
        return NOT_OBSERVED
    observed = _filled(observed or {})
    written = kind is not Kind.ARCHIVE
    fields = {
        tag: observed.get(tag, "")
        for tag, value in sent.items()
        if written and not same(value, observed.get(tag))
    }
    tags = [] if had in _OUT else before.get("tags")
    mine = [tag for row in rows for tag in (row.after or {}).get("tags", ())]
    left_tags = next(
        (row.after["tags"] for row in reversed(rows) if row.after and "tags" in row.after), tags
    )
    add, drop = _tag_work(tags, left_tags or (), mine)
    had_groups, left_groups = _turned(rows, "groups") if written and groups else ((), ())
    had_language, left_language = _turned(rows, "language") if written and language else ("", "")
    ids = groups or {}
    undoing = Undoing(
        kind=kind,
        email=str(after["email"]),
        customer_id=last.customer_id,
        status=Status(had) if kind is Kind.RESTORE else None,
        fields=fields,
        kept={tag: value for tag, value in observed.items() if tag not in fields},
        cleared=frozenset(tag for tag, value in sent.items() if not value),
        tags=None if tags is None else tuple(tags),
        add=add,
        drop=drop,
        told=_told(rows, fields),
        adopted=first.reason == "adopted",
        left_status=left,
        had_status=had,
        left_fields={**observed, **sent},
        left_tags=_folded(left_tags or ()),
        had_groups=frozenset(ids[name] for name in had_groups if name in ids),
        left_groups=frozenset(ids[name] for name in left_groups if name in ids),
        had_language=had_language,
        left_language=left_language,
    )
    if kind is Kind.UPDATE and not (fields or add or drop or undoing.interests or undoing.language):
        lowered = _rank(left) < _rank(had)
        return CONSENT if lowered else NOTHING
    return undoing


def still(undoing: Undoing, member: Member, *, archived_by_us: bool) -> bool:
    """Return whether a member is as the run left it, or as it was before, part by part.

    A call of an interrupted undo may have taken back some of it.
    """
    status = member.status
    if status is Status.ARCHIVED and not archived_by_us:
        return False
    allowed = {undoing.left_status}
    if undoing.kind is Kind.UPDATE:
        allowed.add(undoing.had_status)
    elif undoing.kind is Kind.ARCHIVE:
        allowed.add(Status.ARCHIVED)
    elif status is undoing.status:
        allowed.add(status)
    if status not in allowed:
        return False
    past = {**undoing.kept, **undoing.fields}
    for tag, value in undoing.left_fields.items():
        shown = member.merge_fields.get(tag)
        if not same(shown, value) and not (
            undoing.kind is not Kind.ARCHIVE and same(shown, past.get(tag))
        ):
            return False
    # Each of these tags and groups is either as it was left, or as it was before; one in both has
    # to be there.
    if undoing.tags is not None and len(member.tags) < TAGS_SHOWN:
        shown_tags, had = _folded(member.tags), _folded(undoing.tags)
        if not (undoing.left_tags & had) <= shown_tags:
            return False
    return _groups_and_language_still(undoing, member)


def _groups_and_language_still(undoing: Undoing, member: Member) -> bool:
    languages = {undoing.left_language, undoing.had_language}
    groups = undoing.left_groups & undoing.had_groups
    return (member.interests is None or groups <= frozenset(member.interests)) and (
        member.language is None or languages == {""} or member.language in languages
    )


def is_back(undoing: Undoing, member: Member) -> bool:
    """Return whether a member already is as it was before the run."""
    if undoing.kind is Kind.ARCHIVE:
        return member.status is Status.ARCHIVED
    if undoing.kind is Kind.RESTORE and member.status is Status.ARCHIVED:
        return False
    shown = _folded(member.tags)
    groups = frozenset(member.interests or ())
    return (
        all(same(member.merge_fields.get(tag), value) for tag, value in undoing.fields.items())
        and _folded(undoing.add) <= shown
        and not _folded(undoing.drop) & shown
        and all((group in groups) is on for group, on in undoing.interests.items())
        and undoing.language in ("", member.language)
    )


def restored_status(undoing: Undoing, previous: str | None) -> Status:
    """Return the status of a restore: what the contact had, or less if less is known since.

    ``previous`` is ``archived`` of a contact that is restored already: that lowers nothing.
    """
    had = undoing.status or Status.UNSUBSCRIBED
    told = previous in set(Status) and previous != Status.ARCHIVED
    known = Status(str(previous)) if told else had
    return min(had, known, key=lambda status: CONSENT_RANK[status])


def same(shown: Any, value: Any) -> bool:
    """Return whether two values of a merge field are one: no value is as good as an empty one."""
    if isinstance(shown, Mapping) or isinstance(value, Mapping):
        one, other = _parts(shown), _parts(value)
        if "country" not in one or "country" not in other:  # Mailchimp adds one
            one.pop("country", None)
            other.pop("country", None)
        return one == other
    return _text(shown) == _text(value)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _parts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {"": _text(value)} if value else {}
    return {part: str(text) for part, text in value.items() if text}


def _met(first: Written) -> bool:
    """Return whether a creation met a member who was there before us, or may have."""
    calls = (first.after or {}).get("further_calls", ())
    known = any(call.get("did") == "refused_as_known" for call in calls)
    seen = first.before is not None and first.before.get("status") not in _OUT
    return first.action == Kind.CREATE and (known or seen or not first.tells_met)


def _sent(rows: Sequence[Written]) -> dict[str, Any]:
    """Return what the merge fields that a run wrote show afterwards."""
    sent: dict[str, Any] = {}
    for row in rows:
        after = row.after or {}
        sent |= dict(after.get("merge_fields", {})) | dict(after.get("shown", {}))
    return sent


def _told(rows: Sequence[Written], fields: Fields) -> dict[str, Any]:
    """Return what a run wrote over values that people had typed (A44)."""
    told: dict[str, Any] = {}
    for row in rows:
        after = row.after or {}
        sent = after.get("merge_fields", {})
        told |= {tag: sent[tag] for tag in after.get("replaced", {}) if tag in sent}
    return {tag: value for tag, value in told.items() if tag in fields}


def _turned(rows: Sequence[Written], part: str) -> tuple[Any, Any]:
    """Return what a part of a contact was before and after a run; twice the same if unread."""
    had = (rows[0].before or {}).get(part)
    after = [row.after[part] for row in rows if row.after and part in row.after]
    left = after[-1] if after else had
    return ("", "") if had is None or left is None else (had, left)


def _filled(fields: Fields) -> dict[str, Any]:
    return {tag: value for tag, value in fields.items() if value not in ("", None)}


def _tag_work(
    tags: Sequence[str] | None, left: Sequence[str], mine: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if tags is None:
        return (), ()
    had, has = _folded(tags), _folded(left)
    drop = {tag.casefold(): tag for tag in (*mine, *left) if tag.casefold() not in had}
    return tuple(tag for tag in tags if tag.casefold() not in has), tuple(drop.values())


def _folded(tags: Sequence[str]) -> frozenset[str]:
    return frozenset(tag.casefold() for tag in tags)


def _rank(status: str) -> int:
    return CONSENT_RANK[Status(status)] if status in set(Status) else 0
