"""Airflow's side of ml-connector: hooks, wiring and commands. The rules live in ``ml_connector``.

A run in flight may execute the DAG file of the version it started with: Airflow's versioned bundles
do that. So 0.2 still has the module names that 0.1.0's DAG files import.
"""

import importlib
import warnings
from types import ModuleType

from ml_connector import secret_source, settings_source
from ml_connector_airflow import key_places, settings_places

settings_source.FURTHER[:] = [settings_places.variable_source, settings_places.dag_folder_source]
secret_source.FURTHER[:] = [key_places.variable_key]

_FORMER = {
    "alerting": "ml_connector_airflow.tasks.watches",
    "audit_commands": "ml_connector_airflow.tasks.audit",
    "replay_steps": "ml_connector_airflow.tasks.replay",
    "steps": "ml_connector_airflow.former_steps",
    "token_steps": "ml_connector_airflow.tasks.tokens",
    "webhook_steps": "ml_connector_airflow.tasks.webhooks",
}
"""Module names of 0.1.0, to drop in 0.3."""


def __getattr__(name: str) -> ModuleType:
    """Return the module that 0.1.0 called ``name``."""
    if name not in _FORMER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"{__name__}.{name} ends with 0.3: use the DAG files of this version",
        DeprecationWarning,
        stacklevel=2,
    )
    return importlib.import_module(_FORMER[name])
