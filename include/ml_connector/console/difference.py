"""Compare two states of a record, field by field and line by line, for display. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any

from ml_connector.console import words
from ml_connector.display import utc_minute

MAX_LINES = 400
"""A long text shows at most this many lines of its difference."""
_LABELS = {
    "email": "Email Address",
    "email_address": "Email Address",
    "status": "Status",
    "status_if_new": "Status if new",
    "merge_fields": "Merge fields",
    "tags": "Tags",
    "interests": "Groups",
    "language": "Language",
    "shown": "As Mailchimp shows it",
    "left_out": "Not sent",
    "kept": "Not overwritten",
    "replaced": "Replaced value",
    "attachment": "Attached note",
    "observed_at": "Read from Mailchimp",
    "not_observed": "Never read",
    "linked_to": "Shown as customer",
    "further_calls": "Further call",
}
_BY_MERGE_FIELD = ("merge_fields", "shown", "left_out", "kept", "replaced")
"""Parts of a state that hold merge fields by their tag."""
_MEANINGS: Mapping[str, Callable[[str], str]] = {
    "status": lambda value: words.STATUS.get(value, value),
    "decision": lambda value: words.DECISION.get(value, value),
    "reason": words.reason,
    "kept": words.reason,
    "observed_at": lambda value: utc_minute(datetime.fromisoformat(value)),
    "not_observed": lambda value: ", ".join(_label(each) for each in value.split(", ")),
}
"""How a value that is a name of ours is shown, by the part it is in."""
_PARTS = {
    "addr1": "Street Address",
    "addr2": "Address Line 2",
    "city": "City",
    "state": "State/Prov/Region",
    "zip": "Postal/Zip",
    "country": "Country",
}
"""Parts of an address as Mailchimp's forms label them."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``lines``: (mark, text) of a long text, mark one of ``+``, ``-`` and space."""

    name: str
    before: str | None
    after: str | None
    lines: tuple[tuple[str, str], ...] = ()

    @property
    def changed(self) -> bool:
        """Return whether the two states differ in this field."""
        return self.before != self.after

    @property
    def kind(self) -> str:
        """Return ``added``, ``removed``, ``changed`` or ``same``."""
        if not self.changed:
            return "same"
        if not self.before:
            return "added"
        return "changed" if self.after else "removed"


def compare(before: Any, after: Any, names: Mapping[str, str] | None = None) -> list[Field]:
    """Return every field of two JSON values, changed fields first.

    ``names``: merge fields as Mailchimp shows them, by tag. A field that ``after`` does not name counts as unchanged: a write names only what it writes.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        after = {**{key: value for key, value in before.items() if key not in after}, **after}
    old, new = (
        {path: _meaning(path, value) for path, value in _flat(each)} for each in (before, after)
    )
    fields = [
        _field(field_label(path, names or {}), old.get(path), new.get(path))
        for path in dict.fromkeys([*new, *old])
    ]
    return sorted(fields, key=lambda field: not field.changed)


def field_label(path: str, names: Mapping[str, str]) -> str:
    """Return the label of a field by its path in a record: ``First Name``, ``Address, City``."""
    first, *rest = path.split(".")
    if first not in _BY_MERGE_FIELD or not rest:
        return ".".join([names.get(first) or _label(first), *rest])
    tag, *parts = rest
    label = ", ".join([names.get(tag, tag), *(_PARTS.get(part, part) for part in parts)])
    return label if first == "merge_fields" else f"{label}: {words.clause(_label(first))}"


def _label(name: str) -> str:
    """Return the label of a part of a state. QuickBooks' attributes are their own labels."""
    return _LABELS.get(name) or words.sentence(words.label(name))


def _meaning(path: str, value: str) -> str:
    meaning = _MEANINGS.get(path.partition(".")[0])
    return meaning(value) if meaning else value


def _field(name: str, before: str | None, after: str | None) -> Field:
    if "\n" in (before or "") or "\n" in (after or ""):
        return Field(name, before, after, tuple(_lines(before or "", after or ""))[:MAX_LINES])
    return Field(name, before, after)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        if any(isinstance(inner, dict | list) for inner in value):
            for place, inner in enumerate(value, start=1):
                yield from _flat(inner, f"{name} {place}")
        elif value:
            yield name, ", ".join(map(_text, value))
    elif value is not None and value != "":
        yield name or "value", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _lines(before: str, after: str) -> Iterator[tuple[str, str]]:
    old, new = before.splitlines(), after.splitlines()
    for tag, a, b, c, d in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from ((" ", line) for line in old[a:b])
            continue
        yield from (("-", line) for line in old[a:b])
        yield from (("+", line) for line in new[c:d])
