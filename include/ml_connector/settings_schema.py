"""JSON schema of ``syncs.yaml``, made from the settings' models, so that editors complete it.

``python -m ml_connector.settings_schema`` prints it. The shipped file names it in its first line.
"""

import json
import re
from typing import Any

from ml_connector.customer_paths import ADDRESSES, PATHS, REFERENCES
from ml_connector.settings import (
    NAMED_ATTRIBUTES,
    SANDBOX_AUDIENCE,
    SYNC_NAME,
    TAG_NAME,
    File,
    Sync,
)

DESCRIPTIONS = {
    "quickbooks_conn_id": "Airflow connection of the company.",
    "mailchimp_conn_id": "Airflow connection of the account.",
    "quickbooks_pool": "Airflow pool that bounds the tasks that talk to QuickBooks.",
    "mailchimp_pool": "Airflow pool that bounds the tasks that talk to Mailchimp.",
    "audience_id": "The audience to fill.",
    "schedule": "When the sync runs: a cron expression of five fields.",
    "timezone": "Time zone of the schedule, like Europe/Berlin.",
    "new_contact_status": "Status of contacts that we create. It states the legal basis for mailing.",
    "first_run": "Whether the first plan waits for approval, whatever its size.",
    "fields": "Merge field to QuickBooks attribute, custom field or template, or a ranked list.",
    "tags": "Tags of every contact, or {static: [...], from: {attribute: tag}}.",
    "include": "Only customers of these types, currencies or custom field values become contacts.",
    "exclude": "Customers of these types, currencies or custom field values become no contacts.",
    "default_country": "Country of an address that names none: two capitals by ISO 3166-1.",
    "create": "never: create no contacts, update only members who are in the audience.",
    "include_jobs": "Whether sub-customers and jobs become contacts.",
    "on_inactive": "What happens to the contact of a customer made inactive.",
    "inactive_tag": "The tag for on_inactive: tag.",
    "on_member_edit": "What happens to a field that people edited in Mailchimp, or a rule by field.",
    "adopt": "What happens to the fields of a member who was in the audience before us.",
    "groups": "Category of groups to the attribute that names the group.",
    "language": "The attribute that names the contact's language, as a rule Locale.",
    "marketing_permissions": "GDPR permission that new contacts get, to its legal basis in words.",
    "activity": "Where the customer shows what members do.",
    "guard": "Limits above which a run waits for a person's approval.",
}
"""What an editor shows about each setting of a sync."""

_TEXT = {"type": "string"}


def schema() -> dict[str, Any]:
    """Return the schema of the settings file. What it accepts, loading may still refuse."""
    file = File.model_json_schema(by_alias=True)
    sync = Sync.model_json_schema(by_alias=True)
    definitions = {**file.pop("$defs", {}), **sync.pop("$defs", {})}
    for derived in ("name", "beside"):
        sync["properties"].pop(derived)
    sync["required"].remove("name")
    sync["required"].remove("new_contact_status")
    sync["anyOf"] = [
        {"required": ["new_contact_status"]},
        {"properties": {"audience_id": {"const": SANDBOX_AUDIENCE}}},
    ]
    for name, text in DESCRIPTIONS.items():
        sync["properties"][name]["description"] = text
    _name_sources(sync["properties"], definitions)
    definitions["Sync"] = sync
    file["properties"]["syncs"] |= {
        "additionalProperties": {"$ref": "#/$defs/Sync"},
        "propertyNames": {"pattern": SYNC_NAME.pattern},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **file,
        "title": "ml-connector: syncs.yaml",
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """Return the schema as the shipped file has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _name_sources(properties: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Put the attributes into the schema, so that an editor offers them and refuses others."""
    paths = sorted(path for name in PATHS for path in _paths(name))
    custom = {"pattern": r"^CustomField\[.+\]$"}
    whole = "|".join(re.escape(path) for path in paths)
    place = rf"\{{({whole}|CustomField\[[^{{}}]+\])\}}"
    template = {"pattern": rf"^[^{{}}]*({place}[^{{}}]*)+$"}
    fills = sorted([*paths, *ADDRESSES])
    names = [*NAMED_ATTRIBUTES, *sorted([*paths, *REFERENCES])]
    definitions["Source"] = _TEXT | {"anyOf": [{"enum": fills}, custom, template]}
    definitions["Attribute"] = _TEXT | {"anyOf": [{"enum": names}, custom, template]}
    source, attribute = {"$ref": "#/$defs/Source"}, {"$ref": "#/$defs/Attribute"}
    properties["fields"] |= {
        "propertyNames": {"pattern": TAG_NAME.pattern},
        "additionalProperties": {
            "anyOf": [source, {"type": "array", "items": source, "minItems": 1}]
        },
    }
    properties["groups"]["additionalProperties"] = attribute
    properties["language"] = {
        **properties["language"],
        "anyOf": [{"enum": ["", *paths]}, custom, template],
    }
    named = {"anyOf": [{"enum": ["customer_type", "currency"]}, custom]}
    for name in ("include", "exclude"):
        properties[name]["propertyNames"] = named
    definitions["Tags"]["properties"]["from"]["propertyNames"] = {
        "anyOf": [{"enum": names}, custom]
    }


def _paths(name: str) -> list[str]:
    return [f"{name}.{part}" for part in PATHS[name]] or [name]


if __name__ == "__main__":
    print(text(), end="")  # noqa: T201 -- the output of this command
