"""One daily sync in a process of its own, to be killed: what a task's worker is to Airflow."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.integration.firm import Firm, Stand


def work(
    stand: Stand, database_url: str, folder: str, settings: dict[str, Any], ahead: timedelta
) -> None:
    """Sync once; the exit code tells whether it came to its end."""
    firm = Firm(stand=stand, database_url=database_url, folder=Path(folder))
    firm.settings, firm.ahead = settings, ahead
    firm.runs = 100  # its run ids are its own, as a later run's are
    firm.sync()
