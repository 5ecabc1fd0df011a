"""Accounts that need their Connect button: one sentence each, the same on every page."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from ml_connector.console import words
from ml_connector.console.queries import overview as overview_queries
from ml_connector.console.visit import PageRequest
from ml_connector.errors import ConnectorError
from ml_connector.mailchimp.webhooks import SYSTEM as MAILCHIMP
from ml_connector.quickbooks.webhooks import SYSTEM as QUICKBOOKS


def refused_accounts(visit: PageRequest, connection: Connection) -> dict[str, str]:
    """Return why an account of the sync has to be connected, by system; connected ones are absent.

    A system that took our access away did so in a task, which raised an alert.
    """
    found = {
        system: problem
        for system, problem in _unconnected(visit).items()
        if problem and words.fault(problem).connect
    }
    causes = _causes(visit)
    alerts = overview_queries.open_alerts_of(connection, causes=list(causes))
    found |= {causes[cause]: message.partition(": ")[2] for cause, message in alerts.items()}
    return {system: words.fault(problem).said for system, problem in found.items()}


def system_of(visit: PageRequest, cause: str) -> str:
    """Return the system whose account an alert is about; empty if it is about something else."""
    return _causes(visit).get(cause, "")


def _causes(visit: PageRequest) -> dict[str, str]:
    return {
        f"needs_reauth:{visit.sync.mailchimp_conn_id}": MAILCHIMP,
        f"needs_reauth:{visit.sync.quickbooks_conn_id}": QUICKBOOKS,
    }


def _unconnected(visit: PageRequest) -> Mapping[str, Any]:
    outside, sync = visit.services.outside, visit.sync
    try:
        return {
            QUICKBOOKS: outside.token_ends(sync.quickbooks_conn_id).problem,
            MAILCHIMP: outside.key_problem(sync.mailchimp_conn_id),
        }
    except ConnectorError:  # a connection is missing altogether; Setup names it
        return {}
