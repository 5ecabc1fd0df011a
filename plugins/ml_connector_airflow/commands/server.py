"""Make this process an Airflow server process, so that connections resolve as they do there."""

import os


def as_server(*, log_level: str = "WARNING", older: bool = False) -> None:
    """Let connections resolve as they do in Airflow itself: environment, backends, database.

    ``older``: migrate a metadata database of an older Airflow too, instead of leaving it alone.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", log_level)
    from ml_connector_airflow.commands.migrate import bring_up_to_date

    bring_up_to_date(older=older)
