"""Watch for what cannot report itself: silent syncs, dead-lettered events, undelivered alerts.

``account_watches`` has the watches of accounts and storage.
"""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import structlog

from ml_connector.alerts import causes
from ml_connector.display import counted, utc_minute
from ml_connector.errors import SettingsError, values_withheld
from ml_connector.settings import load_alerts, load_sync, load_syncs
from ml_connector.store.database import Database
from ml_connector_airflow.alerts.delivery import deliver_alerts, end_alert, end_others, raise_alert
from ml_connector_airflow.tasks.account_watches import watch_accounts
from ml_connector_airflow.tasks.digest import send_digest
from ml_connector_airflow.waiting import why_waiting
from ml_connector_airflow.wiring import database_url

log = structlog.get_logger(__name__)


@values_withheld()
def watch() -> dict[str, int]:
    """Check syncs, webhooks, accounts and storage, send what is due to send; return counts.

    Runs in the token DAG, since a stopped DAG cannot report itself.
    """
    with closing(Database(database_url(), connections=3)) as database:
        silent = watch_syncs(database, now=datetime.now(UTC))
        dead = watch_dead_letters(database)
        faults = watch_accounts(database, now=datetime.now(UTC))
        deliver_alerts(database)
        digests = send_digest(database, now=datetime.now(UTC))
    counts = {"silent_syncs": silent, "dead_letters": dead, **faults}
    counts |= {"digests": digests} if digests else {}
    log.info("watched", **counts)
    return counts


def watch_syncs(database: Database, *, now: datetime) -> int:
    """Raise an alert for each sync without a success for ``no_success_for_hours``.

    Returns the number of these syncs.
    """
    hours = load_alerts().no_success_for_hours
    with database.begin() as connection:
        last = causes.last_successes(connection, syncs=list(load_syncs()))
    end_others(database, kind="no_success", known=[f"no_success:{sync}" for sync in last])
    silent = 0
    for sync, at in sorted(last.items()):
        cause = f"no_success:{sync}"
        late = bool(hours) and now - at > timedelta(hours=hours)
        if late and not _waits(database, sync):
            silent += 1
            message = f"{sync}: no successful run since {utc_minute(at)}"
            raise_alert(database, cause=cause, message=message)
        else:
            end_alert(database, cause=cause)
    return silent


def _waits(database: Database, sync: str) -> bool:
    """Return whether a sync that never ran waits for its accounts: that is no silence."""
    try:
        return bool(why_waiting(load_sync(sync), database))
    except SettingsError:
        return False


def watch_dead_letters(database: Database) -> int:
    """Raise an alert while there are dead-lettered webhook events; return their number."""
    with database.begin() as connection:
        dead = causes.dead_letters(connection)
    if dead:
        events = counted(dead, "webhook event was", "webhook events were")
        message = f"{events} dead-lettered after five tries"
        raise_alert(database, cause="dead_letters:inbox", message=message)
    else:
        end_alert(database, cause="dead_letters:inbox")
    return dead
