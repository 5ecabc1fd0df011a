"""Former name of ``mounts.console``, to drop in 0.3: an API server still running 0.1.0 imports it."""

import warnings

from ml_connector_airflow.mounts.console import mounted

__all__ = ["mounted"]

warnings.warn(f"{__name__} ends with 0.3: restart the API server", DeprecationWarning, stacklevel=2)
