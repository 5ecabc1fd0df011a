"""Check Airflow's side of an installation: the pools exist and the DAGs are switched on."""

from collections.abc import Iterable, Sequence

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


class Warned(str):
    """The result of a check that passed and needs attention."""

    __slots__ = ()


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


def switched_on(dag_ids: Sequence[str], *, paused_means: str) -> str:
    """Report whether DAGs are on; a warning names all that are paused, and one command for them.

    A paused DAG is not a failure: an upgrade or the setup may be in progress.
    """
    paused = paused_among(dag_ids)
    if paused is None:
        return Warned("Airflow has not read them yet")
    if not paused:
        return f"{', '.join(dag_ids)}, not paused"
    return Warned(f"paused, {paused_means}: {', '.join(paused)}. Run `{unpause_command(paused)}`")


def paused_among(dag_ids: Sequence[str]) -> list[str] | None:
    """Return which of these DAGs are paused; None if Airflow has read none of them."""
    with create_session() as session:
        known = session.execute(
            select(DagModel.dag_id, DagModel.is_paused).where(DagModel.dag_id.in_(dag_ids))
        ).all()
    paused = {row.dag_id for row in known if row.is_paused}
    return [each for each in dag_ids if each in paused] if known else None


def unpause_command(dag_ids: Sequence[str]) -> str:
    """Return the one command that switches these DAGs on."""
    if len(dag_ids) == 1:
        return f"airflow dags unpause {dag_ids[0]}"
    return f'airflow dags unpause --yes --treat-dag-id-as-regex "^({"|".join(dag_ids)})$"'
