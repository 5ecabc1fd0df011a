"""Check Airflow's side of an installation: the pools exist and the service DAGs are not paused."""

from collections.abc import Iterable

from airflow.configuration import conf
from airflow.models.dag import DagModel
from airflow.models.pool import Pool
from airflow.utils.session import create_session
from sqlalchemy import select

from ml_connector.errors import SettingsError
from ml_connector.settings import Sync

POOLS = {
    "mailchimp_api": (2, "Tasks that talk to Mailchimp at the same time"),
    "quickbooks_api": (2, "Tasks that talk to QuickBooks at the same time"),
    "webhooks": (1, "Tasks that process webhooks at the same time"),
}
"""Slots and description of the pools that DAGs use in addition to the syncs' own pools."""
OWN_POOL = (2, "Tasks of some syncs that talk to one system at the same time")
"""The same for a pool that a sync names, as docs/reference/configuration.md advises."""
SERVICES = ("process_webhooks", "refresh_quickbooks_tokens", "verify_audit")
"""The DAGs that serve every sync. Airflow pauses a DAG that it has not seen before."""


def fernet_key() -> str:
    """Report that Airflow encrypts connections and Variables.

    Raises ``SettingsError`` with the command that makes a key if it stores them in clear.
    """
    if not (conf.get("core", "fernet_key", fallback="") or "").strip():
        raise SettingsError(
            "Airflow has none, so keys and tokens are stored in clear. Set AIRFLOW__CORE__FERNET_KEY"
            " for every Airflow process to the output of `openssl rand -base64 32 | tr '+/' '-_'`,"
            " then save the connections again and run `ml-connector connect quickbooks` and"
            " `ml-connector connect mailchimp`"
        )
    return "connections and tokens are encrypted"


def pools(syncs: Iterable[Sync], *, fix: bool = False) -> str:
    """List the pools that the DAGs use; with ``fix`` missing ones are made.

    Raises ``SettingsError`` if any is missing.
    """
    own = {pool for sync in syncs for pool in (sync.quickbooks_pool, sync.mailchimp_pool)}
    needed = sorted({*POOLS, *own})
    there = {str(pool.pool) for pool in Pool.get_pools()}
    missing = [name for name in needed if name not in there]
    if missing and not fix:
        raise SettingsError(
            f"missing: {', '.join(missing)}; a task whose pool is missing is never scheduled "
            "(`ml-connector check --fix` makes them)"
        )
    for name in missing:
        slots, description = POOLS.get(name, OWN_POOL)
        Pool.create_or_update_pool(name, slots, description, include_deferred=False)
    return f"{', '.join(needed)} are there" + (f", added {', '.join(missing)}" if missing else "")


def paused_services() -> str:
    """Report which of the DAGs that serve every sync are paused.

    A paused DAG is not a failure: an upgrade or the setup may be in progress.
    """
    with create_session() as session:
        known = session.execute(
            select(DagModel.dag_id, DagModel.is_paused).where(DagModel.dag_id.in_(SERVICES))
        ).all()
    if not known:
        return "Airflow has not read them yet"
    if paused := sorted(row.dag_id for row in known if row.is_paused):
        return (
            f"paused, so they do nothing: {', '.join(paused)} (`airflow dags unpause {paused[0]}`)"
        )
    return f"{', '.join(sorted(row.dag_id for row in known))} are not paused"
