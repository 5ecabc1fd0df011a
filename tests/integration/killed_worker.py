"""One daily sync in a process of its own, to be killed: what a task's worker is to Airflow."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.integration.company import Company, MockServers


def work(
    mock_servers: MockServers,
    database_url: str,
    folder: str,
    settings: dict[str, Any],
    ahead: timedelta,
) -> None:
    """Sync once; the exit code tells whether it came to its end."""
    company = Company(mock_servers=mock_servers, database_url=database_url, folder=Path(folder))
    company.settings, company.ahead = settings, ahead
    company.runs = 100  # its run ids are its own, as a later run's are
    company.sync()
