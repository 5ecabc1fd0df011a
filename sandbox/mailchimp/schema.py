"""The part of the published contract that the service enforces before it looks at any member.

A violation refuses the whole request: `400 Invalid Resource` with one entry in `errors` per field.
"""

from collections.abc import Callable
from typing import Any

from sandbox.mailchimp import problems
from sandbox.mailchimp.members import STATUSES
from sandbox.mailchimp.timestamps import from_text

Error = dict[str, str]
BATCH_SIZE = 500

_JSON_NAMES = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "NULL",
}

_MERGE_VALUES = frozenset({dict, str, int, float})


def _wrong(expected: str, value: Any) -> str:
    return f"Schema describes {expected}, {_JSON_NAMES[type(value)]} found instead"


def _of(kind: type, name: str) -> Callable[[Any], str]:
    return lambda value: "" if type(value) is kind else _wrong(name, value)


def _status(value: Any) -> str:
    if not isinstance(value, str):
        return _wrong("string", value)
    return "" if value in STATUSES else "Value found was not in the enumerated list"


def _tags(value: Any) -> str:
    if not isinstance(value, list):
        return _wrong("array", value)
    return next((_wrong("string", each) for each in value if not isinstance(each, str)), "")


def _merge_fields(value: Any) -> str:
    if not isinstance(value, dict):
        return _wrong("object", value)
    for each in value.values():
        if type(each) not in _MERGE_VALUES:
            return _wrong("object, string or number", each)
    return ""


def _timestamp(value: Any) -> str:
    if not isinstance(value, str):
        return _wrong("string", value)
    try:
        if value:
            from_text(value)
    except ValueError:
        return "Data did not match any of the schemas described in anyOf"
    return ""


_MEMBER: dict[str, Callable[[Any], str]] = {
    "email_address": _of(str, "string"),
    "status": _status,
    "status_if_new": _status,
    "email_type": _of(str, "string"),
    "merge_fields": _merge_fields,
    "interests": _of(dict, "object"),
    "marketing_permissions": _of(list, "array"),
    "language": _of(str, "string"),
    "vip": _of(bool, "boolean"),
    "location": _of(dict, "object"),
    "ip_signup": _of(str, "string"),
    "ip_opt": _of(str, "string"),
    "timestamp_signup": _timestamp,
    "timestamp_opt": _timestamp,
    "tags": _tags,
}


def _member_errors(body: Any, prefix: str = "", *, nullable: bool = False) -> list[Error]:
    if not isinstance(body, dict):
        return [{"field": prefix.rstrip("."), "message": _wrong("object", body)}]
    messages = {}
    for key, value in body.items():
        check = _MEMBER.get(key)
        if check is not None and not (nullable and value is None):
            message = check(value)
            if message:
                messages[key] = message
    return (
        [{"field": prefix + key, "message": messages[key]} for key in _MEMBER if key in messages]
        if messages
        else []
    )


def _missing(body: Any, required: tuple[str, ...], prefix: str = "") -> list[Error]:
    absent = [key for key in required if not isinstance(body, dict) or key not in body]
    if not absent:
        return []
    message = f"Required fields were not provided: {', '.join(absent)}"
    return [{"field": prefix.rstrip("."), "message": message}]


def check_member(body: Any, *, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Check the body of a single write.

    Raises:
        ProblemError: 400, as the module says.
    """
    errors = _member_errors(body) or _missing(body, required)
    if errors:
        raise problems.schema(errors)
    checked: dict[str, Any] = body
    return checked


def check_batch(body: Any, *, status_required: bool) -> list[dict[str, Any]]:
    """Check the members of a batch subscribe; one bad member refuses the whole chunk.

    `status_required` is the older contract; the current one is content with `status_if_new`.

    Raises:
        ProblemError: 400, as the module says.
    """
    members = body.get("members") if isinstance(body, dict) else None
    if not isinstance(members, list):
        raise problems.schema([{"field": "members", "message": _wrong("array", members)}])
    if len(members) > BATCH_SIZE:
        message = f"Array contains more items than the maximum of {BATCH_SIZE}"
        raise problems.schema([{"field": "members", "message": message}])
    errors: list[Error] = []
    for number, member in enumerate(members):
        prefix = f"members.item:{number}."
        errors += _member_errors(member, prefix, nullable=True)
        errors += _missing(member, ("email_address",), prefix)
        if isinstance(member, dict) and "status" not in member:
            if status_required:
                errors += _missing(member, ("status",), prefix)
            elif "status_if_new" not in member:
                message = "Data did not match any of the schemas described in anyOf"
                errors.append({"field": prefix.rstrip("."), "message": message})
    if errors:
        raise problems.schema(errors)
    return members


def check_tags(body: Any) -> list[tuple[str, bool]]:
    """Read the tags of `POST .../tags` as (name, active).

    Raises:
        ProblemError: 400, as the module says.
    """
    tags = body.get("tags") if isinstance(body, dict) else None
    if not isinstance(tags, list):
        raise problems.schema([{"field": "tags", "message": _wrong("array", tags)}])
    found = []
    for number, tag in enumerate(tags):
        if (
            not isinstance(tag, dict)
            or not isinstance(tag.get("name"), str)
            or tag.get("status") not in ("active", "inactive")
        ):
            message = "Required fields were not provided: name, status"
            raise problems.schema([{"field": f"tags.item:{number}", "message": message}])
        found.append((tag["name"], tag["status"] == "active"))
    return found


def check_segment(body: Any) -> tuple[list[str], list[str]]:
    """Read the addresses to add to a static segment and those to remove, up to 500 each.

    Raises:
        ProblemError: 400, as the module says.
    """
    given = body if isinstance(body, dict) else {}
    lists = [given.get(name, []) for name in ("members_to_add", "members_to_remove")]
    for name, emails in zip(("members_to_add", "members_to_remove"), lists, strict=True):
        if not isinstance(emails, list) or not all(isinstance(each, str) for each in emails):
            raise problems.schema([{"field": name, "message": _wrong("array", emails)}])
        if len(emails) > BATCH_SIZE:
            message = f"Array contains more items than the maximum of {BATCH_SIZE}"
            raise problems.schema([{"field": name, "message": message}])
    return lists[0], lists[1]
