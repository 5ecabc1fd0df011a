"""Names of the DAGs that serve every sync. Light: ``make run`` reads it before Airflow is configured."""

SERVICES = (
    "process_webhooks",
    "refresh_quickbooks_tokens",
    "replay_audit",
    "undo_run",
    "verify_audit",
)
"""Airflow pauses a DAG that it has not seen before."""
