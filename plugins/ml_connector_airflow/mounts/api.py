"""The JSON interface with Airflow's users and roles."""

from ml_connector.console.api.app import build_api
from ml_connector_airflow.mounts.console import MountedConsole

mounted = MountedConsole(build_api)
