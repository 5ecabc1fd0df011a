"""Is the audience ready for what the settings want to write there (A27)?"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from ml_connector.errors import AudienceNotReady
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import MergeField
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.store import cursors

LATELY = timedelta(hours=1)
_CURSOR = "audience_ready"
_ADDRESSES = ("BillAddr", "ShipAddr")


def check_audience(sync: Sync, client: MailchimpClient) -> None:
    """Raise ``AudienceNotReady`` naming every merge field that is missing or does not fit."""
    problems = [problem for _, problem in iter_problems(sync, client.merge_fields())]
    if problems:
        raise AudienceNotReady(
            f"audience {sync.audience_id} is not ready, nothing was written: "
            + "; ".join(problems)
            + ". `ml-connector check --fix` adds what is missing"
        )


def check_lately(scope: Scope, client: MailchimpClient) -> None:
    """As ``check_audience``, unless it was found ready for the same settings within the hour."""
    now = scope.clock()
    rules = {"audience": scope.sync.audience_id, "fields": sorted(scope.sync.fields)}
    with scope.database.begin() as connection:
        last = cursors.get(connection, sync=scope.name, name=_CURSOR)
    if last.get("rules") == rules and now - datetime.fromisoformat(last["at"]) < LATELY:
        return
    check_audience(scope.sync, client)
    with scope.database.begin() as connection:
        value = {"rules": rules, "at": now.isoformat()}
        cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)


def iter_problems(sync: Sync, fields: list[MergeField]) -> Iterator[tuple[str, str]]:
    """Yield (merge field, what is wrong and how to mend it)."""
    existing = {field.tag: field for field in fields}
    for tag, paths in sync.fields.items():
        field = existing.get(tag)
        if field is None:
            yield tag, f"merge field {tag} is missing"
        elif any(path in _ADDRESSES for path in paths) != (field.type == "address"):
            wanted = "an address" if field.type != "address" else "no address"
            yield (
                tag,
                (
                    f"merge field {tag} is of type {field.type}, but {', '.join(paths)} gives {wanted}; "
                    "map it to another merge field in syncs.yaml"
                ),
            )
    for field in fields:
        if field.required and field.tag not in sync.fields:
            yield (
                field.tag,
                (
                    f"merge field {field.tag} is required but not mapped; map it in syncs.yaml or "
                    "make it optional in Mailchimp"
                ),
            )


def missing_fields(sync: Sync, fields: list[MergeField]) -> list[tuple[str, str]]:
    """Return (merge field, type) for mapped merge fields that the audience lacks."""
    existing = {field.tag for field in fields}
    return [
        (tag, "address" if any(path in _ADDRESSES for path in paths) else "text")
        for tag, paths in sync.fields.items()
        if tag not in existing
    ]
