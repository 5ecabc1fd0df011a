"""One of many writers of activity, in a process of its own: queues and writes until told to stop."""

import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path

from ml_connector.activity.queue import queue_activity
from ml_connector.activity.writer import write_activity
from tests.integration.company import Company, MockServers
from tests.integration.token_worker import FileVault

# Warm processes: forked from one that has imported everything and holds no connections.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pytest", "tests.integration.activity_worker"])


def write_until(
    stop: Event,
    mock_servers: MockServers,
    database_url: str,
    folder: str,
    settings: dict[str, object],
) -> None:
    """Do what a task of the daily run or of the webhooks does, again and again."""
    company = Company(mock_servers=mock_servers, database_url=database_url, folder=Path(folder))
    company.tokens = FileVault(Path(folder) / "token.json")
    company.settings |= settings
    while not stop.is_set():
        scope = company.scope()
        if queue_activity(scope):
            write_activity(scope, company.quickbooks_client(scope.calls))
        else:
            stop.wait(0.02)
    company.close()
