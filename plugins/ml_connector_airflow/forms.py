"""Trigger forms: the parameters of each DAG, as Airflow shows them."""

from typing import Any

from airflow.sdk import Param

from ml_connector.settings import load_syncs

FILTERS = "Filters for failed rows"

WITHOUT_ASKING = "Without asking"

SYNC_CUSTOMERS = {
    "customer_ids": Param(
        [],
        type="array",
        items={"type": "string"},
        title="Customer ids",
        description="Limit the run to these QuickBooks ids, one a line. Empty: all customers.",
    ),
    "full_sync": Param(
        False,
        type="boolean",
        title="Full sync",
        description="Read all customers and members, not only changes.",
    ),
    "approved": Param(
        False,
        type="boolean",
        title="Approve a large plan",
        description="Write the plan without asking, even a first one or one above the limits.",
        section=WITHOUT_ASKING,
    ),
}
"""A preview has no field, which could be forgotten: it is a button of the console and a command.

They set ``preview`` in the run's configuration. So may other programs.
"""


def replay_audit() -> dict[str, Param]:
    """Return the form of ``replay_audit``; it offers the configured syncs."""
    moment: dict[str, Any] = {"type": ["null", "string"], "format": "date-time", "section": FILTERS}
    return {
        "ids": Param(
            [],
            type="array",
            items={"type": "integer"},
            title="Audit row ids",
            description="Replay these rows, one id a line.",
        ),
        "failed": Param(
            False,
            type="boolean",
            title="All failed rows",
            description="Replay all failed rows that match the filters.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Log the number of rows and stop.",
        ),
        "since": Param(None, title="Since", description="Written at or after this time.", **moment),
        "until": Param(None, title="Until", description="Written before this time.", **moment),
        "sync": Param(
            None,
            type=["null", "string"],
            enum=[None, *load_syncs()],
            title="Sync",
            description="Only rows of this sync. Empty: all syncs.",
            section=FILTERS,
        ),
        "reason": Param(
            None,
            type=["null", "string"],
            title="Reason",
            description="Only rows with this reason, as the audit shows it.",
            section=FILTERS,
        ),
    }


def undo_run() -> dict[str, Param]:
    """Return the form of ``undo_run``; it offers the configured syncs."""
    return {
        "run": Param(
            None,
            type=["null", "string"],
            title="Run",
            description="The number of the run's plan, as the console shows it, or the run's id.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Store the plan and write nothing. The console shows it.",
        ),
        "sync": Param(
            None,
            type=["null", "string"],
            enum=[None, *load_syncs()],
            title="Sync",
            description="Only if runs of several syncs have the same id.",
        ),
        "approved": Param(
            False,
            type="boolean",
            title="Approve a large undo",
            description="Write the plan without asking, even one above the limits.",
            section=WITHOUT_ASKING,
        ),
    }
