"""``ml-connector register-webhooks``: each sync's webhook, with its connection's keys."""

import getpass
from collections.abc import Iterator
from contextlib import closing

from ml_connector.model import RunContext
from ml_connector.settings import Sync, load_sync, load_syncs
from ml_connector.webhooks.endpoint import PREFIX, base_of
from ml_connector_airflow.webhook_registration import webhook_registration
from ml_connector_airflow.wiring import connection_named, mailchimp_client, open_scope


def run_registration(url: str, *, sync_name: str, show: bool, remove: bool) -> Iterator[str]:
    """Do what the options say, and yield what to print.

    Raises ``SettingsError`` for an address that cannot be right.
    """
    syncs = [load_sync(sync_name)] if sync_name else list(load_syncs().values())
    base = "" if show else base_of(url)
    for sync in syncs:
        scope = open_scope(sync.name, run=RunContext(task_id="webhooks", actor=getpass.getuser()))
        with closing(scope.database), scope.outside_runs():
            registration = webhook_registration(scope, mailchimp_client(scope), base=base)
            if show:
                yield from registration.shown()
            else:
                yield f"{sync.name}: {registration.remove() if remove else registration.ensure()}"
    if not show and not remove:
        yield from _for_intuit(base, syncs)


def _for_intuit(base: str, syncs: list[Sync]) -> Iterator[str]:
    yield ""
    yield "In the Intuit developer portal, your app, Webhooks:"
    yield f"  endpoint URL    {base}{PREFIX}/quickbooks"
    yield "  events          entity Customer: Create, Update, Delete, Merge"
    for conn_id in sorted({sync.quickbooks_conn_id for sync in syncs}):
        extra = connection_named(conn_id, "add one of type QuickBooks Online").extra_dejson
        known = "is set already" if extra.get("webhook_verifier_token") else "is not set yet"
        yield (
            f"  verifier token  copy it from that page into the connection {conn_id}, field "
            f"Webhook verifier token (it {known})"
        )
