"""Map QuickBooks rows to the staging table by the sync's settings.

A row names its customer type by id. The run reads the names once, and only if the settings need
them. Between runs the last names read apply.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection

from ml_connector.errors import SettingsError
from ml_connector.model import Customer, Page, Unreadable
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.protocol import updated
from ml_connector.rules.attributes import groups_of, language_of, left_out, tags_of, type_id
from ml_connector.rules.fields import NONE, customer_from
from ml_connector.rules.texts import as_text
from ml_connector.scope import Scope
from ml_connector.store import cursors, customers, unreadable
from ml_connector.store.customers import EncryptedCustomer, Staged
from ml_connector.sync import targets

_CURSOR = "customer_types"


class MappedPage(NamedTuple):
    """Customers ready for staging, and those that cannot be read."""

    customers: list[EncryptedCustomer]
    unreadable: Sequence[Unreadable]


def stage_rows(
    scope: Scope, connection: Connection, rows: Page[dict[str, Any]], *, seen_in: int = 0
) -> Staged:
    """Stage QuickBooks rows; ``seen_in`` as in ``customers.stage``."""
    return stage_mapped(scope, connection, map_rows(scope, connection, rows), seen_in=seen_in)


def stage_written(
    scope: Scope,
    connection: Connection,
    rows: Page[dict[str, Any]],
    copies: Mapping[str, Customer],
) -> Staged:
    """Stage customers from the response to a write of their Notes.

    ``copies``: by id, the staged copies whose SyncToken the write passed. The response of a batch
    has no custom fields. If the settings name some, only what the write changed is taken from it:
    mapped again, the customer's fields would look emptied (A52).
    """
    if not scope.sync.custom_fields:
        return stage_rows(scope, connection, rows)
    written = (
        msgspec.structs.replace(
            copies[row["Id"]],
            sync_token=row["SyncToken"],
            last_updated=updated(row),
            notes=as_text(row.get("Notes")),
        )
        for row in rows
        if row["Id"] in copies
    )
    mapped = customers.encrypted(written, sync=scope.name, vault=scope.vault)
    return stage_mapped(scope, connection, MappedPage(mapped, rows.unreadable))


def stage_mapped(
    scope: Scope,
    connection: Connection,
    page: MappedPage,
    *,
    seen_in: int = 0,
    unknown: bool = False,
) -> Staged:
    """Stage a mapped page, and note what of it cannot be read: that stays staged as it was (A55)."""
    staged = customers.stage(
        connection,
        page.customers,
        sync=scope.name,
        vault=scope.vault,
        seen_in=seen_in,
        unknown=unknown,
    )
    sync, system = scope.name, unreadable.QUICKBOOKS
    well = [each.customer.id for each in page.customers]
    unreadable.clear_unreadable(connection, sync=sync, system=system, records=well)
    unreadable.note_unreadable(
        connection, sync=sync, system=system, records=page.unreadable, seen_in=seen_in
    )
    return staged


def map_rows(scope: Scope, connection: Connection, rows: Page[dict[str, Any]]) -> MappedPage:
    """Return QuickBooks rows mapped and encrypted for staging.

    A type without a known name counts as no type. Its id is stored, so that learning its name later
    counts as a rename.
    """
    sync, page = scope.sync, rows.rows
    target = targets.target(scope, connection)
    types = {}
    if sync.needs_customer_types:
        types = _stored_types(scope, connection)
        nameless = {type_id(row) for row in page} - {"", *types}
        if nameless:
            _store_types(scope, connection, types | dict.fromkeys(nameless, ""))
    mapped = customers.encrypted(
        (
            customer_from(
                row,
                sync.fields,
                target=target,
                tags=tags_of(row, sync.tags, types),
                left_out=left_out(row, sync, types),
                groups=groups_of(row, sync.groups, types, target.groups) if sync.groups else NONE,
                language=language_of(row, sync.language),
            )
            for row in page
        ),
        sync=scope.name,
        vault=scope.vault,
    )
    return MappedPage(mapped, rows.unreadable)


def fetch_types(
    scope: Scope, client: QuickBooksClient, rows: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """Read the names of customer types if the settings need them.

    With ``rows``, reads them only if a row has an unknown type.

    Raises ``SettingsError`` if the settings name a type that QuickBooks does not have. Applied
    literally, such a rule could archive every contact.
    """
    if not scope.sync.needs_customer_types:
        return
    with scope.database.begin() as connection:
        past = _stored_types(scope, connection)
    if rows is not None and {type_id(row) for row in rows} <= {"", *past}:
        return
    found = client.customer_types()
    _check(scope, found)
    renamed = any(found.get(each, name) != name for each, name in past.items())
    with scope.database.begin() as connection:
        # An unlisted type is out of use, but its customers keep it.
        _store_types(scope, connection, past | found, renamed=renamed)


def renames(scope: Scope, connection: Connection) -> int:
    """Return how often a name that customers were staged by has changed."""
    return int(cursors.get(connection, sync=scope.name, name=_CURSOR).get("renames", 0))


def _check(scope: Scope, found: Mapping[str, str]) -> None:
    names = {name.casefold() for name in found.values()}
    for key, rules in (("include", scope.sync.include), ("exclude", scope.sync.exclude)):
        for name in rules.get("customer_type", ()):
            if name.strip().casefold() not in names:
                raise SettingsError(
                    f"{key}.customer_type of sync {scope.name}: QuickBooks has no customer type "
                    f"{name!r}; it has: {', '.join(sorted(found.values())) or 'none'}"
                )


def _stored_types(scope: Scope, connection: Connection) -> dict[str, str]:
    return dict(cursors.get(connection, sync=scope.name, name=_CURSOR).get("names", {}))


def _store_types(
    scope: Scope, connection: Connection, names: Mapping[str, str], *, renamed: bool = False
) -> None:
    value = {"names": dict(names), "renames": renames(scope, connection) + renamed}
    cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)
