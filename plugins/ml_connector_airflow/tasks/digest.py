"""Send the weekly digest to the recipients of alerts, each once a week.

A recipient that does not take it gets it with a later watch. A task that is killed between sending
and recording sends it twice.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Connection

from ml_connector.alerts.digest import Digest, monday_of, sync_digest
from ml_connector.console.queries import customer_list
from ml_connector.settings import Sync, home, load_alerts, load_syncs
from ml_connector.store import cursors
from ml_connector.store.database import Database
from ml_connector.vault import Vault, vault_from
from ml_connector_airflow.wiring import airflow_base_url

CONSOLE = "/ml-connector/console"
_CURSOR = "digest/"

log = structlog.get_logger(__name__)


def send_digest(database: Database, *, now: datetime) -> int:
    """Send last week's digest to those who have not got it yet; return how many took it."""
    settings, syncs = load_alerts(), load_syncs()
    if settings.digest == "none" or not settings.recipients:
        return 0
    monday = monday_of(now, ZoneInfo(next(iter(syncs.values())).timezone))
    with database.begin() as connection:
        due = [
            recipient
            for recipient in settings.recipients
            if cursors.get(connection, sync="", name=_CURSOR + recipient.name).get("week")
            != monday.isoformat()
        ]
    if not due:
        return 0
    from ml_connector_airflow.alerts import notifiers  # three providers: loaded only to deliver

    base = airflow_base_url()
    vault = vault_from(os.environ, home()) if settings.digest_names else None
    with database.begin() as connection:
        found = [
            sync_digest(
                connection,
                sync,
                monday=monday,
                listed=_ConsoleList(connection, sync, vault),
                vault=vault,
                link=f"{base}{CONSOLE}/{sync.name}" if base else "",
            )
            for sync in syncs.values()
        ]
    digest, taken = Digest(monday=monday, syncs=found), 0
    for recipient in due:
        try:
            notifiers.send_digest_to(digest, recipient)
        except notifiers.NOT_SENT as error:  # its text may contain the webhook's URL, a secret
            reason = type(error).__name__
            log.warning("digest_not_sent", recipient=recipient.name, reason=reason)
            continue
        with database.begin() as connection:
            value = {"week": monday.isoformat()}
            cursors.put(connection, sync="", name=_CURSOR + recipient.name, value=value)
        taken += 1
    return taken


class _ConsoleList:
    """The console's list of a sync: a figure is the number that its link shows."""

    def __init__(self, connection: Connection, sync: Sync, vault: Vault | None) -> None:
        self._connection, self._sync, self._vault = connection, sync, vault

    def count(self, wanted: Mapping[str, str]) -> int:
        return customer_list.count(
            self._connection, sync=self._sync.name, wanted=self._filter(wanted)
        )

    def names(self, wanted: Mapping[str, str], *, limit: int) -> list[str]:
        if self._vault is None:
            return []
        found = customer_list.customers_after(
            self._connection,
            sync=self._sync.name,
            wanted=self._filter(wanted),
            vault=self._vault,
            after="",
            limit=limit,
        )
        return [each.customer.display_name for each in found]

    def _filter(self, wanted: Mapping[str, str]) -> customer_list.CustomerFilter:
        zone = ZoneInfo(self._sync.timezone)
        return customer_list.CustomerFilter(given=wanted, zone=zone)
