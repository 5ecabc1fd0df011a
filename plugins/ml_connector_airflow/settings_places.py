"""Sources of the settings that Airflow has: a Variable, and a file in the DAG folder."""

from pathlib import Path

from ml_connector.settings_source import NAME, Source, file_source

VARIABLE = "ml_connector_syncs"


def variable_source() -> Source | None:
    """Return the Variable ``ml_connector_syncs``, YAML or JSON, from any of Airflow's backends."""
    from ml_connector_airflow.token_variable import in_task

    if in_task():
        from airflow.sdk import Variable

        text = Variable.get(VARIABLE, default=None)
    else:
        from airflow.models.variable import Variable as ServerVariable

        text = ServerVariable.get(VARIABLE, default_var=None)
    return Source(f"Variable {VARIABLE}", text=str(text)) if text else None


def dag_folder_source() -> Source | None:
    """Return the file ``syncs.yaml`` of the DAG folder."""
    from ml_connector_airflow.compat import conf

    path = Path(conf.get("core", "dags_folder", fallback="")) / NAME
    return file_source(path) if path.is_file() else None
