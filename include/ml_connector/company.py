"""Which company a sync's staged customers are from.

Every company numbers its customers from 1, so another one's would be merged into people who have
nothing to do with them: an opt-out would travel to a stranger, a contact show somebody else's data.
"""

from ml_connector.errors import SettingsError
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.scope import Scope
from ml_connector.store import cursors, customers

_CURSOR = "company"


def hold_to(scope: Scope, client: QuickBooksClient) -> None:
    """Remember the company that ``client`` speaks to; raise ``SettingsError`` if it is another one.

    Called before anything is read from or written to a sync's company. Where nothing is staged yet
    the sync may be given another company: it starts from nothing then. A store that was filled
    before companies were remembered takes the one it meets first for its own.
    """
    check(scope, client)
    with scope.database.begin() as connection:
        known = cursors.get(connection, sync=scope.name, name=_CURSOR).get("realm")
        if known == client.realm_id:
            return
        if known is not None:
            cursors.put(connection, sync=scope.name, name="customers", value={})
            cursors.put(connection, sync=scope.name, name="customer_types", value={})
        value = {"realm": client.realm_id}
        cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)


def check(scope: Scope, client: QuickBooksClient) -> None:
    """Raise ``SettingsError`` if the staged customers are from another company than ``client``'s."""
    with scope.database.begin() as connection:
        known = cursors.get(connection, sync=scope.name, name=_CURSOR).get("realm")
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
