"""Learn the audience's groups: the categories that the settings name, and what is in them.

They are read with the merge fields, and stored. Customers are staged by them.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy import Connection

from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.scope import Scope
from ml_connector.settings import Sync
from ml_connector.store import cursors

_CURSOR = "groups"
log = structlog.get_logger(__name__)


def learn_groups(scope: Scope, client: MailchimpClient, *, again: bool) -> None:
    """Read and store the groups, if they were never read for these settings, or ``again``."""
    if not scope.sync.groups:
        return
    with scope.database.begin() as connection:
        known = cursors.get(connection, sync=scope.name, name=_CURSOR)
    if again or known.get("for") != _key(scope.sync):
        store_groups(scope, client)


def store_groups(scope: Scope, client: MailchimpClient) -> list[str]:
    """Read and store the groups of the settings' categories; return categories that are missing."""
    if not scope.sync.groups:
        return []
    ids = {title.strip().casefold(): each for title, each in client.interest_categories().items()}
    found = {title: ids.get(title.strip().casefold()) for title in scope.sync.groups}
    value = {
        "for": _key(scope.sync),
        "categories": {title: client.interests(each) for title, each in found.items() if each},
    }
    with scope.database.begin() as connection:
        if cursors.get(connection, sync=scope.name, name=_CURSOR) != value:
            cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)
            log.info("groups_learned", sync=scope.name, categories=list(value["categories"]))
    return [title for title, each in found.items() if not each]


def groups_by_name(scope: Scope, connection: Connection) -> Mapping[str, Mapping[str, str]]:
    """Return, by category, the ids of its groups by name in lower case, as last learned."""
    return {
        title: {name.strip().casefold(): each for name, each in interests.items()}
        for title, interests in _known(scope, connection).items()
    }


def _known(scope: Scope, connection: Connection) -> Mapping[str, Mapping[str, str]]:
    if not scope.sync.groups:
        return {}
    known: dict[str, Any] = cursors.get(connection, sync=scope.name, name=_CURSOR)
    return dict(known.get("categories", {}))


def group_names(scope: Scope, connection: Connection) -> dict[str, str]:
    """Return the names of the groups by id: ``Customer type: Retail``."""
    return {
        each: f"{title}: {name}"
        for title, interests in _known(scope, connection).items()
        for name, each in interests.items()
    }


def _key(sync: Sync) -> list[str]:
    return [sync.audience_id, *sorted(sync.groups)]
