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
    "quickbooks_conn_id": (
        "the connection with the company's keys; the token Variable is "
        "`quickbooks_token__<conn_id>`"
    ),
    "mailchimp_conn_id": "the connection with the account's key",
    "quickbooks_pool": (
        "Airflow pool whose slots bound the tasks that talk to QuickBooks; see [pools](#pools)"
    ),
    "mailchimp_pool": "the same for Mailchimp",
    "audience_id": (
        "the audience that is written. With another id nothing is done to the former "
        "audience; the new one is read and planned as a first load. `not-chosen`: the sync "
        "waits until you choose one, as `ml-connector init` does"
    ),
    "schedule": (
        "cron expression of five fields. A run covers the time between two schedule times and "
        "starts at its end"
    ),
    "timezone": "a name like `Europe/Berlin`; the schedule is in it",
    "new_contact_status": (
        "the sandbox's audience alone goes without. `subscribed`: may be mailed at once, "
        "which needs every customer's agreement. `pending`: Mailchimp asks the person to "
        "confirm. `transactional`: no campaigns, only order mail"
    ),
    "first_run": (
        "`ask`: nothing is written until you approve the first plan, whatever its size. The "
        "same holds for the first plan under another audience, company or "
        "`new_contact_status`, with new `marketing_permissions`, after `create: never` ends, "
        "and after 60 days without a run. Until then webhooks are read and stored, and "
        "nothing is written to either side. `write`: asks for no approval"
    ),
    "default_country": (
        "the country of an address that names none, as two capitals by ISO 3166-1: `DE`; "
        "without it, the country of the company"
    ),
    "fields": (
        "merge field to attribute path or [template](#templates), or to a ranked list of "
        "them; see below"
    ),
    "tags.static": "every contact of ours carries them. `tags: [A, B]` is short for this",
    "tags.from": "attribute to tag; see [tags](#tags)",
    "groups": "category of groups to attribute; see [groups and language](#groups-and-language)",
    "language": "the attribute that names the contact's language, as a rule `Locale`",
    "marketing_permissions": (
        "permission to legal basis; see [marketing permissions](#marketing-permissions)"
    ),
    "on_member_edit": (
        "what happens to a field that a member or a marketer changed in Mailchimp: `keep`, "
        "`restore` or `suggest`; see [edits in Mailchimp](#edits-in-mailchimp)"
    ),
    "adopt": (
        "what happens to the fields of members who were in the audience before. `fill_empty`: "
        "empty ones are filled, the filled ones stay. `overwrite`: all are written. `skip`: none "
        "is written"
    ),
    "include": (
        "only customers whose `customer_type`, `currency` or custom field is among the names "
        "are contacts; see [customers to leave out](#customers-to-leave-out)"
    ),
    "exclude": (
        "customers whose `customer_type`, `currency` or custom field is among the names are "
        "no contacts"
    ),
    "create": (
        "`never`: no contact is created; a customer who is not in the audience is skipped as "
        "`creation_off`. Members who are there are updated, and a contact that we archived is "
        "restored. A customer whose address changes keeps the former contact until the new "
        "address is in the audience"
    ),
    "include_jobs": (
        "`false`: sub-customers and jobs are skipped as `job_excluded`. Projects are skipped always"
    ),
    "on_inactive": (
        "for the contact of a customer made inactive, if no active customer shares it. "
        "`archive`: archived, and restored when the customer is active again. `keep`: left "
        "unchanged. `tag`: gets `inactive_tag`, which is taken off when the customer is active "
        "again"
    ),
    "inactive_tag": "the tag for `on_inactive: tag`",
    "activity.write_to": (
        "where members' activity is shown on the customer: `notes`, `attachment`, `both` or "
        "`none`; see [activity](activity.md)"
    ),
    "activity.show": (
        "`news`: a customer is written once something happened. `always`: every customer in "
        "the audience shows its status from the first run on"
    ),
    "activity.values": (
        "`false`: where a member changed a field, the customer shows its name alone, without "
        "old and new value"
    ),
    "activity.batch_size": "customers a batch, up to 30",
    "guard.max_archives": (
        "a run that would archive more contacts than this, and more than the share below, "
        "[waits for a person](../how-to/approve.md)"
    ),
    "guard.max_archive_share": (
        "the share of the audience, 0 to 1; the larger of both limits counts"
    ),
    "guard.max_updates": "a run that would change more existing contacts than this also waits",
}
"""What each setting of a sync does, in Markdown: for editors and for docs/reference/configuration.md."""

_WHOLE = {
    "tags": "Tags of every contact, or {static: [...], from: {attribute: tag}}.",
    "activity": "Where the customer shows what members do.",
    "guard": "Limits above which a run waits for a person's approval.",
}
_SEE = re.compile(r"[;,]? see (\[[^\]]+\]\([^)]+\)|below)")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")

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
    places = {**sync["properties"]}
    for group in _WHOLE:
        inner = definitions[group.capitalize()]["properties"]
        places |= {f"{group}.{key}": place for key, place in inner.items()}
    for name, words in (*_WHOLE.items(), *DESCRIPTIONS.items()):
        places[name]["description"] = _LINK.sub(r"\1", _SEE.sub("", words))
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
    """Put the attributes into the schema, so that an editor offers no other values."""
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
