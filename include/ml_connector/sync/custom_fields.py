"""Check that QuickBooks has the custom fields that the settings name (A52).

QuickBooks lists no custom fields to a connection like ours: their names come with the customers. So
one customer that carries a field is remembered as its witness. A field that was renamed or deleted
would otherwise look empty everywhere, clear a merge field and archive whom a filter includes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_connector.customer_paths import CUSTOM_FIELDS, field_name
from ml_connector.errors import SettingsError
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.scope import Scope
from ml_connector.store import cursors

_CURSOR = "custom_fields"


class CustomFields:
    """The custom fields of a sync's settings, and which of them QuickBooks has shown."""

    def __init__(self, scope: Scope, client: QuickBooksClient) -> None:
        """Bind a sync. Does nothing if the settings name no custom field."""
        self._scope, self._client = scope, client
        self._missing = {name.casefold(): name for name in reversed(scope.sync.custom_fields)}

    def look(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Remember which fields ``rows`` show, and a customer that shows each."""
        found: dict[str, str] = {}
        for row in rows if self._missing else ():
            for field in row.get(CUSTOM_FIELDS) or ():
                if self._missing.pop(name := field_name(field), None):
                    found[name] = str(row["Id"])
        if found:
            with self._scope.database.begin() as connection:
                known = cursors.get(connection, sync=self._scope.name, name=_CURSOR)
                if known != (now := {**known, **found}):
                    cursors.put(connection, sync=self._scope.name, name=_CURSOR, value=now)

    def check(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Check the fields before ``rows`` are staged, which are some of the customers.

        Fields that these do not show are looked for on their witnesses, then on all customers.
        Raises ``SettingsError`` if a field is nowhere.
        """
        self.look(rows)
        if not rows or not self._missing:
            return
        with self._scope.database.begin() as connection:
            known = cursors.get(connection, sync=self._scope.name, name=_CURSOR)
        witnesses = {known[name] for name in self._missing if name in known}
        if witnesses:
            self.look(self._client.fetch_by_ids(sorted(witnesses)))
        if self._missing:
            self.search()

    def search(self) -> None:
        """Read customers until every field was seen. Raises ``SettingsError`` if one is nowhere."""
        for page in self._client.iter_changed(since=None):
            self.look(page)
            if not self._missing:
                return
        self.demand()

    def demand(self) -> None:
        """Raise ``SettingsError`` if a field was on none of the customers."""
        if self._missing:
            seen = ", ".join(sorted(self._client.custom_fields_seen)) or "none"
            raise SettingsError(
                f"sync {self._scope.name}: no customer in QuickBooks has the custom field"
                f" {', '.join(map(repr, self._missing.values()))}; they have: {seen}. Correct the"
                " name in syncs.yaml, or fill the field on a customer; nothing was planned"
            )
