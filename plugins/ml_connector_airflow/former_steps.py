"""The module ``steps`` as 0.1.0's DAG files call it, to drop in 0.3; see the package."""

from collections.abc import Sequence
from typing import Any

from ml_connector_airflow.tasks import sync as now
from ml_connector_airflow.tasks.sync import (
    archive_contacts,
    make_report,
    push_shard,
    write_activity,
)

__all__ = [
    "archive_contacts",
    "fetch_activity",
    "fetch_customers",
    "fetch_members",
    "make_plan",
    "make_report",
    "push_shard",
    "write_activity",
]


def fetch_customers(
    sync: str, *, full_sync: bool, customer_ids: Sequence[str] = ()
) -> dict[str, Any]:
    """Call ``tasks.sync.fetch_customers``."""
    return now.fetch_customers(sync, {"full_sync": full_sync, "customer_ids": customer_ids})


def fetch_members(sync: str, *, full_sync: bool) -> int:
    """Call ``tasks.sync.fetch_members``."""
    return now.fetch_members(sync, {"full_sync": full_sync})


def make_plan(sync: str, *, preview: bool, customer_ids: Sequence[str] = ()) -> list[int]:
    """Call ``tasks.sync.make_plan``."""
    return now.make_plan(sync, {"preview": preview, "customer_ids": customer_ids})


def fetch_activity(sync: str, *, preview: bool, full_sync: bool) -> list[dict[str, int]]:
    """Call ``tasks.sync.fetch_activity``."""
    return now.fetch_activity(sync, {"preview": preview, "full_sync": full_sync})
