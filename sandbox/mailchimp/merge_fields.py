"""An audience's merge fields: their definitions, and which values each type takes."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sandbox.mailchimp import problems
from sandbox.memory import Remembered

TYPES = frozenset(
    {
        "text",
        "number",
        "address",
        "phone",
        "date",
        "url",
        "imageurl",
        "radio",
        "dropdown",
        "birthday",
        "zip",
    }
)
TAG_LENGTH = 10
TEXT_BYTES = 255
ADDRESS_PARTS = ("addr1", "addr2", "city", "state", "zip")  # all needed but addr2
UNITED_STATES = 164

DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "text": {"size": 25},
    "address": {"default_country": UNITED_STATES},
    "phone": {"phone_format": "none"},
    "date": {"date_format": "MM/DD/YYYY"},
    "birthday": {"date_format": "MM/DD"},
    "radio": {"choices": []},
    "dropdown": {"choices": []},
}


@dataclass
class MergeField(Remembered):
    """One definition; `merge_id` counts from 1 within the audience."""

    merge_id: int
    tag: str
    name: str
    type: str
    required: bool = False
    default_value: str = ""
    public: bool = False
    display_order: int = 0
    help_text: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def render(self, list_id: str) -> dict[str, Any]:
        """Render the field as the API does."""
        return {
            "merge_id": self.merge_id,
            "tag": self.tag,
            "name": self.name,
            "type": self.type,
            "required": self.required,
            "default_value": self.default_value,
            "public": self.public,
            "display_order": self.display_order,
            "options": self.options,
            "help_text": self.help_text,
            "list_id": list_id,
            "_links": [],
        }


class MergeFields(Remembered):
    """The definitions of one audience, by tag."""

    def __init__(self) -> None:
        self.by_tag: dict[str, MergeField] = {}
        self._next_id = 1

    def replace(self, bodies: list[dict[str, Any]]) -> None:
        """Replace all fields; name and type default to the tag and `text`."""
        self.by_tag = {}
        for body in bodies:
            self.add({"name": body.get("tag"), "type": "text"} | body)

    def find(self, merge_id: str) -> MergeField:
        """Find the definition with this number; 404 if there is none."""
        for each in self.by_tag.values():
            if str(each.merge_id) == merge_id:
                return each
        raise problems.not_found()

    def add(self, body: dict[str, Any]) -> MergeField:
        """Define a field; without a tag it gets one from its name, at most ten characters."""
        errors = [
            {"field": key, "message": "This value should not be blank."}
            for key in ("name", "type")
            if not body.get(key)
        ]
        if body.get("type") and body["type"] not in TYPES:
            errors.append({"field": "type", "message": "Value is not in the enumerated list"})
        if errors:
            raise problems.schema(errors)
        tag = self._usable_tag(str(body.get("tag") or self._tag_from(str(body["name"]))))
        added = MergeField(
            merge_id=self._next_id,
            tag=tag,
            name=str(body["name"]),
            type=str(body["type"]),
            display_order=self._next_id + 1,
            options=dict(DEFAULT_OPTIONS.get(str(body["type"]), {})),
        )
        self._next_id += 1
        self._apply(added, body)
        self.by_tag[tag] = added
        return added

    def change(self, existing: MergeField, body: dict[str, Any]) -> str:
        """Change a definition and return the tag it had; its type stays what it is."""
        old = existing.tag
        new = str(body.get("tag") or old).upper()
        if new != old:
            existing.tag = self._usable_tag(new)
            self.by_tag = {each.tag: each for each in self.by_tag.values()}
        if body.get("name"):
            existing.name = str(body["name"])
        self._apply(existing, body)
        return old

    def remove(self, existing: MergeField) -> None:
        """Drop the definition."""
        del self.by_tag[existing.tag]

    def _usable_tag(self, tag: str) -> str:
        tag = tag.upper()
        if len(tag) > TAG_LENGTH:
            raise problems.schema(
                [{"field": "tag", "message": f"Tags may have at most {TAG_LENGTH} characters"}]
            )
        if tag in self.by_tag:
            raise problems.invalid(
                f'A Merge Field with the tag "{tag}" already exists for this list.'
            )
        return tag

    def _tag_from(self, name: str) -> str:
        tag = re.sub(r"[^A-Z0-9]", "", name.upper())[:TAG_LENGTH]
        return tag if tag and tag not in self.by_tag else f"MMERGE{self._next_id}"

    @staticmethod
    def _apply(target: MergeField, body: dict[str, Any]) -> None:
        for key in ("required", "default_value", "public", "display_order", "help_text"):
            if body.get(key) is not None:
                setattr(target, key, body[key])
        target.options |= body.get("options") or {}

    def take(
        self, stored: dict[str, Any], sent: dict[str, Any], *, validate: bool
    ) -> dict[str, Any]:
        """Return the member's values after writing `sent` over `stored`.

        Unknown tags are dropped and `""` clears. The whole record is checked, not only what was
        sent: an incomplete ADDRESS stored long ago makes every later write fail
        (formie#2387, MailChimp.Net#631). `validate=False` is `skip_merge_validation`, which also
        lets wrong values in (mc4wp#808).

        Raises:
            ProblemError: 400, with one entry in `errors` per field that was refused.
        """
        merged = dict(stored)
        errors: list[dict[str, str]] = []
        for tag, value in sent.items():
            definition = self.by_tag.get(tag) or self.by_tag.get(tag.upper())
            if definition is not None:
                merged[definition.tag] = value
        for tag, definition in self.by_tag.items():
            value = merged.get(tag, "")
            if value in ("", {}):
                merged.pop(tag, None)
                if definition.required and validate:
                    errors.append({"field": tag, "message": "Please enter a value"})
                continue
            try:
                merged[tag] = _READERS[definition.type](value, definition)
            except _RefusedError as refusal:
                if validate:
                    errors.append({"field": tag, "message": str(refusal)})
        if errors:
            raise problems.merge_fields_invalid(errors)
        return merged

    def render(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return all fields of the audience; a value that is not set is `""`, never null."""
        return {tag: values.get(tag, "") for tag in self.by_tag}


class _RefusedError(Exception):
    pass


def _text(value: Any, _: MergeField) -> str:
    text = str(value)
    if len(text.encode()) > TEXT_BYTES:
        raise _RefusedError(f"Please enter at most {TEXT_BYTES} characters")
    return text


def _number(value: Any, _: MergeField) -> int | float:
    if isinstance(value, int | float):
        return value
    try:
        number = float(str(value))
    except ValueError:
        raise _RefusedError("Please enter a number") from None
    return int(number) if number.is_integer() else number


def _address(value: Any, _: MergeField) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _RefusedError("Please enter a complete address")
    address = {part: str(value.get(part) or "") for part in ADDRESS_PARTS}
    if not (address["addr1"] and address["city"] and address["state"] and address["zip"]):
        raise _RefusedError("Please enter a complete address")
    address["country"] = str(value.get("country") or "US")
    return address


def _phone(value: Any, definition: MergeField) -> str:
    text = _text(value, definition)
    us_only = definition.options.get("phone_format") == "US"
    if us_only and not re.fullmatch(r"\(?\d{3}\)?[-. ]?\d{3}[-. ]?\d{4}", text):
        raise _RefusedError("Phone number must be in the format NNN-NNN-NNNN")
    return text


def _date(value: Any, _: MergeField) -> str:
    for pattern in ("%Y-%m-%d", "%m/%d/%Y"):
        try:
            return datetime.strptime(str(value), pattern).date().isoformat()  # noqa: DTZ007 - a day
        except ValueError:
            continue
    try:
        return date.fromisoformat(str(value)[:10]).isoformat()
    except ValueError:
        raise _RefusedError("Please enter a valid date") from None


def _pattern(pattern: str, message: str) -> Callable[[Any, MergeField], str]:
    def read(value: Any, definition: MergeField) -> str:
        text = _text(value, definition)
        if not re.fullmatch(pattern, text):
            raise _RefusedError(message)
        return text

    return read


def _choice(value: Any, definition: MergeField) -> str:
    if value not in definition.options.get("choices", []):
        raise _RefusedError("Please choose one of the options")
    return str(value)


_READERS: dict[str, Callable[[Any, MergeField], Any]] = {
    "text": _text,
    "number": _number,
    "address": _address,
    "phone": _phone,
    "date": _date,
    "url": _pattern(r"https?://\S+", "Please enter a valid URL"),
    "imageurl": _pattern(r"https?://\S+", "Please enter a valid URL"),
    "radio": _choice,
    "dropdown": _choice,
    "birthday": _pattern(r"\d{1,2}/\d{1,2}", "Please enter a valid birthday"),
    "zip": _pattern(r"\d{5}(-\d{4})?", "Please enter a valid zip code"),
}
