"""Watch what both accounts and the storage allow: webhooks, reads, contacts, free space.

Each fault is one alert: one message when it begins and one when it ends. An account that does not
respond has alerts of its own, so it leaves the alerts here unchanged.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial

import structlog
from airflow.sdk import get_current_context

from ml_connector.alerts import causes, watched
from ml_connector.display import counted, grouped, percent, utc_minute
from ml_connector.errors import ConnectorError
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import RunContext
from ml_connector.scope import Scope
from ml_connector.settings import Sync, home, load_limits, load_syncs, load_webhooks
from ml_connector.store import cursors, pacing
from ml_connector.store.database import Database
from ml_connector.webhooks.registration import CURSOR
from ml_connector.wire.retries import Retries
from ml_connector_airflow.alerts.delivery import end_others, hold_alert
from ml_connector_airflow.hooks.mailchimp import MailchimpHook
from ml_connector_airflow.typed import realm_in
from ml_connector_airflow.webhook_registration import (
    has_manual_secret,
    is_registered,
    webhook_registration,
)
from ml_connector_airflow.wiring import connection_named, open_scope, run_of, values_in

SILENT_FOR = timedelta(days=2)
"""Webhooks are silent if none arrived for this long although there was something to announce."""

MIN_UNANNOUNCED = 2
"""Mailchimp or QuickBooks may not announce a single change."""

READ_SHARES = (70, 90)
"""Percentages of ``quickbooks.monthly_reads`` that raise an alert, each once a month."""

CONTACT_SHARE = DATABASE_SHARE = 90
"""Percentage of the limit from which on the alert holds."""

GB = 10**9

log = structlog.get_logger(__name__)


def watch_accounts(database: Database, *, now: datetime) -> dict[str, int]:
    """Check webhooks, limits and free space; return the number of faults by kind, without zeros."""
    syncs = list(load_syncs().values())
    reads, contacts, gigabytes = load_limits()
    systems = ("mailchimp", "quickbooks")
    known = {
        "webhook_broken": [_broken(sync) for sync in syncs],
        "webhooks_silent": [_silence(sync, system) for sync in syncs for system in systems],
    }
    for kind, expected in known.items():
        end_others(database, kind=kind, known=expected)
    found = {
        "webhooks_broken": sum(watch_webhook(database, sync) for sync in syncs),
        "webhooks_silent": sum(watch_silence(database, sync, now=now) for sync in syncs),
        "monthly_reads": watch_reads(database, syncs, now=now, limit=reads),
        "contact_limit": watch_contacts(database, syncs, limit=contacts),
        "storage_full": watch_storage(database, max_gb=gigabytes),
    }
    return {name: number for name, number in found.items() if number}


def watch_webhook(database: Database, sync: Sync) -> bool:
    """Check a sync's Mailchimp webhook; repair it if ``webhooks.repair`` allows that.

    A sync without one was never registered: polling is enough for it.
    """
    try:
        registered = is_registered(sync, database)
        expected = registered or has_manual_secret(sync)
        fault = _webhook_fault(database, sync, registered=registered) if expected else None
    except ConnectorError as error:
        log.warning("webhook_not_checked", sync=sync.name, reason=type(error).__name__)
        return False
    message = f"{sync.name}: {fault}" if fault else None
    return hold_alert(database, cause=_broken(sync), message=message)


def _broken(sync: Sync) -> str:
    return f"webhook_broken:{sync.name}"


def _webhook_fault(database: Database, sync: Sync, *, registered: bool) -> str | None:
    scope = open_scope(sync.name, run=_running(), database=database)
    with database.begin() as connection:
        base = cursors.get(connection, sync=sync.name, name=CURSOR).get("base", "")
    registration = webhook_registration(scope, _client(sync, scope), base=base)
    with scope.outside_runs():
        if not registered and not registration.has_any():
            return None
        fault = registration.fault()
        if fault is None or not base or not load_webhooks().repair:
            return fault
        try:
            registration.ensure()
        except ConnectorError as error:  # its text may quote the webhook's URL, which is a secret
            return f"{fault}. The repair failed: {type(error).__name__}"
        left = registration.fault()
        if left is None:
            log.warning("webhook_repaired", sync=sync.name, fault=fault)
        return left


def watch_silence(database: Database, sync: Sync, *, now: datetime) -> bool:
    """Check whether runs found changes although no webhook arrived that should announce them."""
    return any([_mailchimp_silent(database, sync, now), _quickbooks_silent(database, sync, now)])


def _mailchimp_silent(database: Database, sync: Sync, now: datetime) -> bool:
    try:
        registered = is_registered(sync, database)
    except ConnectorError:
        return False
    with database.begin() as connection:
        at = cursors.get(connection, sync=sync.name, name=CURSOR).get("at")
    since = max(now - SILENT_FOR, datetime.fromisoformat(at)) if at else now - SILENT_FOR
    return _hold_silence(
        database,
        sync,
        "mailchimp",
        since=since,
        heard=partial(watched.delivered, system="mailchimp", sync=sync.name),
        missed=partial(watched.unannounced_members, sync=sync.name) if registered else None,
        told="no webhook of Mailchimp since {since}, although runs found {missed} opt-outs, bounces"
        " or new addresses",
    )


def _quickbooks_silent(database: Database, sync: Sync, now: datetime) -> bool:
    try:
        extra = connection_named(sync.quickbooks_conn_id, "").extra_dejson
    except ConnectorError:
        return False
    registered = bool(values_in(extra, "webhook_verifier_token"))
    return _hold_silence(
        database,
        sync,
        "quickbooks",
        since=now - SILENT_FOR,
        heard=partial(
            watched.delivered, system="quickbooks", sync=sync.name, realm=realm_in(extra)
        ),
        missed=partial(watched.unannounced_customers, sync=sync.name) if registered else None,
        told="no webhook of QuickBooks since {since}, although runs found {missed} new or changed"
        " customers",
    )


def _hold_silence(
    database: Database,
    sync: Sync,
    system: str,
    *,
    since: datetime,
    heard: Callable[..., bool],
    missed: Callable[..., int] | None,
    told: str,
) -> bool:
    """Hold the alert until a webhook arrives, however old the changes that it missed become.

    ``missed`` None: there is no webhook to expect.
    """
    cause, number = _silence(sync, system), 0
    with database.begin() as connection:
        raised = causes.raised_at(connection, cause=cause)
        if missed and raised and not heard(connection, since=raised):
            return True
        if missed and not heard(connection, since=since):
            number = missed(connection, since=since)
    told = f"{sync.name}: {told.format(since=utc_minute(since), missed=number)}"
    return hold_alert(database, cause=cause, message=told if number >= MIN_UNANNOUNCED else None)


def _silence(sync: Sync, system: str) -> str:
    return f"webhooks_silent:{sync.name}/{system}"


def watch_reads(database: Database, syncs: Iterable[Sync], *, now: datetime, limit: int) -> int:
    """Compare the month's metered reads of each Intuit app with the limit; return faults."""
    apps: dict[str, set[str]] = defaultdict(set)
    known: set[str] = set()
    for conn_id in {sync.quickbooks_conn_id for sync in syncs}:
        try:
            apps[str(connection_named(conn_id, "").login or "")].add(conn_id)
        except ConnectorError:
            known |= {_share_read(conn_id, share) for share in READ_SHARES}
    found = 0
    for conn_ids in apps.values():
        names = ", ".join(sorted(conn_ids))
        with database.begin() as connection:
            reads = pacing.metered_reads(connection, accounts=conn_ids, at=now)
        for share in READ_SHARES:
            over = bool(limit) and reads * 100 >= limit * share
            message = (
                f"{names}: {counted(reads, 'metered read')} of QuickBooks this month, more than"
                f" {percent(share, 100)} of {grouped(limit)}"
            )
            cause = _share_read(min(conn_ids), share)
            known.add(cause)
            found += hold_alert(database, cause=cause, message=message if over else None)
    end_others(database, kind="monthly_reads", known=known)
    return found


def _share_read(conn_id: str, share: int) -> str:
    return f"monthly_reads:{conn_id} at {share}%"


def watch_contacts(database: Database, syncs: Iterable[Sync], *, limit: int) -> int:
    """Compare the contacts of each Mailchimp account with the plan's limit; return faults.

    Mailchimp counts subscribed, unsubscribed and non-subscribed contacts of all audiences, and
    returns no limit.
    """
    accounts = {sync.mailchimp_conn_id: sync for sync in syncs}
    known = [f"contact_limit:{conn_id}" for conn_id in accounts]
    end_others(database, kind="contact_limit", known=known)
    found = 0
    for conn_id, sync in sorted(accounts.items()):
        cause = f"contact_limit:{conn_id}"
        try:
            number = _contacts(sync, open_scope(sync.name, database=database)) if limit else 0
        except ConnectorError as error:
            log.warning("contacts_not_counted", conn_id=conn_id, reason=type(error).__name__)
            continue
        over = bool(limit) and number * 100 >= limit * CONTACT_SHARE
        some, most = counted(number, "contact"), grouped(limit)
        message = f"{conn_id}: {some} in Mailchimp, the plan includes {most}"
        found += hold_alert(database, cause=cause, message=message if over else None)
    return found


def _contacts(sync: Sync, scope: Scope) -> int:
    client = _client(sync, scope)
    with scope.outside_runs():
        audiences = client.audiences()
        others = sum(client.non_subscribed(str(each["id"])) for each in audiences)
    listed: int = sum(
        stats.get(name, 0)
        for stats in (each.get("stats") or {} for each in audiences)
        for name in ("member_count", "unsubscribe_count")
        if isinstance(stats.get(name, 0), int)
    )
    return listed + others


def watch_storage(database: Database, *, max_gb: int) -> int:
    """Check the disk of the state folder, and the database's size against its limit."""
    disk, message = shutil.disk_usage(home()) if home().exists() else None, None
    if disk is not None and disk.free < min(disk.total * 0.05, 2 * GB):
        message = f"the disk of the state folder has {disk.free / GB:.1f} GB left"
    found = hold_alert(database, cause="storage_full:disk", message=message)
    with database.begin() as connection:
        size = watched.database_bytes(connection)
    over = bool(max_gb) and size * 100 >= max_gb * GB * DATABASE_SHARE
    message = f"the connector's database has {size / GB:.1f} GB of {max_gb} GB"
    return found + hold_alert(
        database, cause="storage_full:database", message=message if over else None
    )


def _client(sync: Sync, scope: Scope) -> MailchimpClient:
    """Return a client with few retries: the next watch tries again."""
    hook = MailchimpHook(sync.mailchimp_conn_id)
    retries = Retries(tries=2, total_wait=10)
    return hook.get_client(sync.audience_id, retries=retries, calls=scope.calls)


def _running() -> RunContext:
    try:
        return run_of(dict(get_current_context()))
    except RuntimeError:  # not in a task
        return RunContext(task_id="watch")
