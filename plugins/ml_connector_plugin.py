"""Load the plugin from Airflow's plugin folder, unless the installed package brings it itself.

Airflow reports a plugin that is registered twice.
"""

from importlib.metadata import PackageNotFoundError, distribution


def _is_installed() -> bool:
    try:
        found = distribution("ml-connector").entry_points
    except PackageNotFoundError:
        return False
    return any(point.group == "airflow.plugins" for point in found)


if not _is_installed():
    from ml_connector_airflow.plugin import MlConnectorPlugin  # noqa: F401 -- Airflow finds it here
