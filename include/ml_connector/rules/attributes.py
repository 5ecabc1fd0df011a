"""Derive from a customer's attributes its contact's tags, and whether the settings exclude it.

An attribute is ``customer_type``, ``job``, ``currency``, a path into the QuickBooks customer as in
``fields``, or a custom field. QuickBooks gives a customer's type by id; ``types`` maps ids to names.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ml_connector.customer_paths import custom_field, is_template
from ml_connector.rules.fields import picked, text_of
from ml_connector.rules.languages import language_code
from ml_connector.rules.unfit import Unfit
from ml_connector.settings import CUSTOMER_TYPES, MAX_OF_A_TAG, Sync, Tags

_PATHS = {"job": "Job", "currency": "CurrencyRef.value", "CurrencyRef": "CurrencyRef.value"}


def type_id(raw: Mapping[str, Any]) -> str:
    """Return the id of a customer's type; ``""`` if it has none."""
    return str(picked(raw, "CustomerTypeRef.value") or "")


def tags_of(raw: Mapping[str, Any], tags: Tags, types: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tags of a customer's contact, each once regardless of case."""
    found = [*tags.static]
    for attribute, pattern in tags.derived.items():
        value = _value(raw, attribute, types)
        if value:
            found.append(pattern.replace("{value}", value)[:MAX_OF_A_TAG].strip())
    return _each_once(tuple(found))


@lru_cache(maxsize=1024)  # most customers share their tags with other customers
def _each_once(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple({tag.casefold(): tag for tag in reversed(tags)}.values())[::-1]


def groups_of(
    raw: Mapping[str, Any],
    groups: Mapping[str, str],
    types: Mapping[str, str],
    known: Mapping[str, Mapping[str, str]],
) -> dict[str, str | Unfit]:
    """Return by category the id of the group that a customer belongs to, or why there is none.

    ``known``: the ids of the groups in each category by name in lower case. A customer without a
    value is in none.
    """
    values = {title: _value(raw, source, types) for title, source in groups.items()}
    return {
        title: known.get(title, {}).get(value.casefold())
        or Unfit("Mailchimp has no group of this name in the category")
        for title, value in values.items()
        if value
    }


def language_of(raw: Mapping[str, Any], source: str) -> str | Unfit:
    """Return the language that a source names, as Mailchimp's code; ``""`` for none."""
    value = _value(raw, source, {}) if source else ""
    if not value:
        return ""
    return language_code(value) or Unfit("Mailchimp has no such language")


def left_out(raw: Mapping[str, Any], sync: Sync, types: Mapping[str, str]) -> str | None:
    """Return why the settings exclude a customer; None if they do not."""
    for attribute, names in sync.include.items():
        if _value(raw, attribute, types).casefold() not in _folded(names):
            return _excluded(attribute)
    for attribute, names in sync.exclude.items():
        if _value(raw, attribute, types).casefold() in _folded(names):
            return _excluded(attribute)
    return None


def _excluded(attribute: str) -> str:
    return f"{'custom_field' if custom_field(attribute) else attribute}_excluded"


def _value(raw: Mapping[str, Any], attribute: str, types: Mapping[str, str]) -> str:
    """Return an attribute as text; ``""`` if it is missing, empty or false."""
    if attribute in CUSTOMER_TYPES:
        return types.get(type_id(raw), "")
    path = _PATHS.get(attribute, attribute)
    if not is_template(path):
        value = picked(raw, path)
        if value is None or value is False or isinstance(value, Mapping | list):
            return ""
    return text_of(raw, path, active=bool(raw.get("Active", True)))


def _folded(names: tuple[str, ...]) -> set[str]:
    return {name.strip().casefold() for name in names}
