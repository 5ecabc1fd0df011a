"""Task callbacks: raise an alert after a task's final failure, end it when the DAG succeeds."""

from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any

import structlog

from ml_connector.display import counted
from ml_connector.errors import (
    ConnectorError,
    ConsentRaised,
    NeedsReauth,
    RunIncomplete,
    Tampered,
)
from ml_connector.scope import Scope
from ml_connector.store.database import Database
from ml_connector_airflow.alerts.delivery import end_alert, raise_alert
from ml_connector_airflow.compat import failed_by
from ml_connector_airflow.wiring import database_url

log = structlog.get_logger(__name__)


def task_failed(context: Mapping[str, Any]) -> None:
    """Raise an alert for a failed task. Airflow calls this only after the last retry."""
    instance, error = context["ti"], failed_by(context.get("exception"))
    if isinstance(error, NeedsReauth | Tampered | RunIncomplete):  # alerts of their own causes
        return
    kind = "consent_raised" if isinstance(error, ConsentRaised) else "task_failed"
    # Other libraries' errors may contain addresses or secrets.
    why = str(error) if isinstance(error, ConnectorError) else type(error).__name__
    link = str(getattr(instance, "log_url", "") or "")
    try:
        with closing(Database(database_url(), connections=2)) as database:
            raise_alert(
                database,
                cause=f"{kind}:{instance.dag_id}",
                message=f"{instance.dag_id}: task {instance.task_id} failed: {why}",
                link=link,
            )
    except ConnectorError as unreachable:
        log.warning("alert_not_recorded", cause=kind, reason=str(unreachable))


def run_succeeded(database: Database, dag_id: str) -> None:
    """End the alerts of a DAG's failures: its last step succeeded."""
    for kind in ("task_failed", "consent_raised"):
        end_alert(database, cause=f"{kind}:{dag_id}")


def report_skew(scope: Scope, system: str) -> None:
    """Raise an alert while our clock and a system's differ by more than a read overlaps (D10)."""
    cause = f"clock_skew:{system}"
    skew = scope.skews.get(system)
    if skew is None:
        end_alert(scope.database, cause=cause)
        return
    minutes = round(abs(skew.total_seconds()) / 60)
    way = "behind" if skew > timedelta() else "ahead of"
    message = f"this machine's clock is {counted(minutes, 'minute')} {way} {system}'s"
    raise_alert(scope.database, cause=cause, message=message)
