"""The module ``steps`` as 0.1.0's DAG files call it, to drop in 0.3; see the package."""

from collections.abc import Sequence
from typing import Any

from airflow.sdk import get_current_context

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


def fetch_members(sync: str, *, full_sync: bool) -> int:  # noqa: ARG001 -- as it is called
    """Read nothing: the plan reads the members first."""
    return 0


def make_plan(sync: str, *, preview: bool, customer_ids: Sequence[str] = ()) -> list[int]:
    """Call ``tasks.sync.make_plan``, after a full read of members if the run is a full sync."""
    params = get_current_context()["params"]
    return now.make_plan(
        sync,
        {
            "preview": preview,
            "customer_ids": customer_ids,
            "full_sync": params.get("full_sync", False),
        },
    )


def fetch_activity(sync: str, *, preview: bool, full_sync: bool) -> list[dict[str, int]]:
    """Call ``tasks.sync.fetch_activity``."""
    return now.fetch_activity(sync, {"preview": preview, "full_sync": full_sync})
