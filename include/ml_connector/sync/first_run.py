"""First run of a sync: ask a person before anything is written to their accounts (A46).

A sync is known once a plan of it was approved or written: with its audience, its company and what
it sends new contacts as. A plan under anything else waits, whatever its size, and so does one after
months of silence. A plan for single customers makes no sync known. Until then webhooks and replays are read and staged, and nothing is written.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from ml_connector.display import counted
from ml_connector.errors import SettingsError
from ml_connector.scope import Scope
from ml_connector.store import contacts, cursors
from ml_connector.store.database import server_time

SILENCE = timedelta(days=60)
"""A sync that last ended so long ago is asked about again: both sides have moved on."""

_CURSOR = "approved"
_NAMES = {
    "audience": "the audience is another one than before",
    "company": "the QuickBooks company is another one than before",
    "new_contact_status": "new contacts would get another status than before",
}


def why_ask(scope: Scope, connection: Connection) -> str | None:
    """Return why the sync's next plan waits for approval, in words; None if it need not."""
    if scope.sync.first_run == "write":
        return None
    known = cursors.get(connection, sync=scope.name, name=_CURSOR)
    if not known:
        # A store that was filled before first runs were asked about has nothing to be asked.
        written = contacts.any_written(connection, sync=scope.name)
        return None if written else "this is the first run of the sync"
    if known.get("part"):
        return "so far only plans for single customers were approved"
    if said := _differs(known, _setup(scope, connection)):
        return said
    since = server_time(connection) - datetime.fromisoformat(known["at"])
    return f"the sync was silent for {counted(since.days, 'day')}" if since > SILENCE else None


def _differs(known: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return what is set up otherwise than when it was approved, in words."""
    for name, said in _NAMES.items():
        if known.get(name) not in (None, now[name]):
            return said
    if known.get("creates") is False and now["creates"]:
        return "contacts would be created, which `create: never` excluded so far"
    if set(now["permissions"]) - set(known.get("permissions", now["permissions"])):
        return "new contacts would get marketing permissions that they did not get before"
    return None


def may_write(scope: Scope) -> bool:
    """Return whether the sync may write without being asked about first."""
    with scope.database.begin() as connection:
        return why_ask(scope, connection) is None


def check_known(scope: Scope) -> None:
    """Raise ``SettingsError`` if a person has yet to approve the sync's first plan."""
    with scope.database.begin() as connection:
        why = why_ask(scope, connection)
    if why is not None:
        raise SettingsError(
            f"nothing is written for sync {scope.name} yet: {why}, and its plan was not approved. "
            "Run the sync and approve its plan first"
        )


def remember(scope: Scope, connection: Connection, *, part: bool = False) -> None:
    """Store that the sync writes with a person's approval, as it is set up now.

    ``part``: what was approved is about single customers. The plan for all of them still waits.
    """
    if part and why_ask(scope, connection) is not None:
        if not cursors.get(connection, sync=scope.name, name=_CURSOR):
            cursors.put(connection, sync=scope.name, name=_CURSOR, value={"part": True})
        return
    value = {**_setup(scope, connection), "at": server_time(connection).isoformat()}
    cursors.put(connection, sync=scope.name, name=_CURSOR, value=value)


def ask_again(scope: Scope, connection: Connection) -> None:
    """Let the next plan wait: what was known of the approved audience is dropped.

    It waits for the former audience too, if the settings name that one again.
    """
    known = cursors.get(connection, sync=scope.name, name=_CURSOR)
    if known:
        cursors.put(connection, sync=scope.name, name=_CURSOR, value={**known, "audience": ""})


def _setup(scope: Scope, connection: Connection) -> dict[str, Any]:
    company = cursors.get(connection, sync=scope.name, name="company").get("realm")
    return {
        "audience": scope.sync.audience_id,
        "company": company,
        "new_contact_status": scope.sync.new_contact_status,
        "creates": scope.sync.create == "all",
        "permissions": sorted(scope.sync.marketing_permissions),
    }
