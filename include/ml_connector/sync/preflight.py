"""Preflight checks: the right company (A40) and a suitable audience (A27).

They run before the first read or write. Every company numbers its customers from 1, so another
company's customers would merge with strangers of the same ids. An opt-out would move to another
person, and a contact would show a stranger's data.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from ml_connector.errors import AudienceNotReady, SettingsError
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import MergeField
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.store import cursors, customers
from ml_connector.sync import groups, permissions, targets

CHECK_TTL = timedelta(hours=1)
_CURSOR = "audience_ready"


def check_audience(scope: Scope, client: MailchimpClient) -> None:
    """Check the audience's merge fields and groups, and store what values must fit.

    Raises ``AudienceNotReady``, which names each merge field or category that is missing or does not
    fit.
    """
    sync, found = scope.sync, client.merge_fields()
    targets.store_fields(scope, found)
    problems = [problem for _, problem in iter_problems(sync, found)]
    problems += [missing_category(title) for title in groups.store_groups(scope, client)]
    problems += permissions.check_permissions(scope, client, again=False)
    if problems:
        raise AudienceNotReady(
            f"audience {sync.audience_id} is not ready, nothing was written: "
            + "; ".join(problems)
            + ". `ml-connector check --fix` adds what is missing"
        )


def check_audience_cached(scope: Scope, client: MailchimpClient) -> None:
    """Run ``check_audience`` unless the same settings passed it within the hour."""
    now = scope.clock()
    rules = {"audience": scope.sync.audience_id, "fields": sorted(scope.sync.fields)}
    if sync_permissions := scope.sync.marketing_permissions:
        rules |= {"permissions": sorted(sync_permissions)}
    rules |= {"groups": sorted(scope.sync.groups)} if scope.sync.groups else {}
    with scope.database.begin() as connection:
        last = cursors.get(connection, sync=scope.name, name=_CURSOR)
    if last.get("rules") == rules and now - datetime.fromisoformat(last["at"]) < CHECK_TTL:
        return
    check_audience(scope, client)
    with scope.database.begin() as connection:
        value = {"rules": rules, "at": now.isoformat()}
        cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)


def iter_problems(sync: Sync, fields: list[MergeField]) -> Iterator[tuple[str, str]]:
    """Yield (merge field, problem with its fix)."""
    existing = {field.tag: field for field in fields}
    for tag, paths in sync.fields.items():
        field = existing.get(tag)
        if field is None:
            yield tag, f"merge field {tag} is missing"
        elif any(path in targets.ADDRESSES for path in paths) != (field.type == "address"):
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


def missing_category(title: str) -> str:
    """Return the problem of a category of groups that the audience lacks."""
    return f"group category {title!r} is missing"


def missing_fields(sync: Sync, fields: list[MergeField]) -> list[tuple[str, str]]:
    """Return (merge field, type) for each mapped merge field that the audience lacks."""
    existing = {field.tag for field in fields}
    return [
        (tag, "address" if any(path in targets.ADDRESSES for path in paths) else "text")
        for tag, paths in sync.fields.items()
        if tag not in existing
    ]


_COMPANY_CURSOR = "company"


def pin_company(scope: Scope, client: QuickBooksClient) -> None:
    """Store which company the sync reads.

    Runs before the first read from or write to a sync's company. A sync with no staged customers
    may switch companies: it then starts empty. A store filled before companies were pinned adopts
    the first company it meets.

    Raises ``SettingsError`` if the staged customers belong to another company.
    """
    check_company(scope, client)
    with scope.database.begin() as connection:
        known = cursors.get(connection, sync=scope.name, name=_COMPANY_CURSOR).get("realm")
        if known == client.realm_id:
            return
        if known is not None:
            cursors.put(connection, sync=scope.name, name="customers", value={})
            cursors.put(connection, sync=scope.name, name="customer_types", value={})
        value = {"realm": client.realm_id}
        cursors.put(connection, sync=scope.name, name=_COMPANY_CURSOR, value=value)


def check_company(scope: Scope, client: QuickBooksClient) -> None:
    """Check that the staged customers belong to ``client``'s company.

    Raises ``SettingsError`` if they belong to another one.
    """
    with scope.database.begin() as connection:
        known = cursors.get(connection, sync=scope.name, name=_COMPANY_CURSOR).get("realm")
        if known in (None, client.realm_id) or not customers.any_staged(
            connection, sync=scope.name
        ):
            return
    raise SettingsError(
        f"the customers of sync {scope.name} are from the company {known}, but connection"
        f" {scope.sync.quickbooks_conn_id} is of the company {client.realm_id} now; nothing was read"
        f" from it or written to it. Connect the company {known} again, or give the sync another"
        " name in syncs.yaml: under a new name it starts from nothing"
    )
