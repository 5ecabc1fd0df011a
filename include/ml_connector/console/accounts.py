"""Accounts that need their Connect button: one sentence each, the same on every page."""

from collections.abc import Callable

from sqlalchemy import Connection

from ml_connector.console import words
from ml_connector.console.queries import overview as overview_queries
from ml_connector.console.visit import PageRequest
from ml_connector.errors import ConnectorError
from ml_connector.mailchimp.webhooks import SYSTEM as MAILCHIMP
from ml_connector.quickbooks.webhooks import SYSTEM as QUICKBOOKS


def refused_accounts(visit: PageRequest, connection: Connection) -> dict[str, str]:
    """Return why an account of the sync has to be connected, by system; connected ones are absent."""
    unconnected = {
        system: words.fault(problem).said
        for system, problem in account_problems(visit).items()
        if words.fault(problem).connect
    }
    return unconnected | lost_accounts(visit, connection)


def lost_accounts(visit: PageRequest, connection: Connection) -> dict[str, str]:
    """Return why an account has to be connected again, by system.

    The system took our access away in a task, which raised an alert.
    """
    causes = _causes(visit)
    alerts = overview_queries.open_alerts_of(connection, causes=list(causes))
    found = {causes[cause]: message.partition(": ")[2] for cause, message in alerts.items()}
    return {system: words.fault(problem).said for system, problem in found.items()}


def account_problems(visit: PageRequest) -> dict[str, str]:
    """Return why an account's token, key or connection is missing, by system."""
    outside, sync = visit.services.outside, visit.sync
    read: dict[str, Callable[[], str]] = {
        QUICKBOOKS: lambda: outside.token_ends(sync.quickbooks_conn_id).problem,
        MAILCHIMP: lambda: outside.key_problem(sync.mailchimp_conn_id),
    }
    found = {}
    for system, problem_of in read.items():
        try:
            problem = problem_of()
        except ConnectorError as error:  # the connection itself is missing
            problem = str(error)
        if problem:
            found[system] = problem
    return found


def system_of(visit: PageRequest, cause: str) -> str:
    """Return the system whose account an alert is about; empty if it is about something else."""
    return _causes(visit).get(cause, "")


def _causes(visit: PageRequest) -> dict[str, str]:
    return {
        f"needs_reauth:{visit.sync.mailchimp_conn_id}": MAILCHIMP,
        f"needs_reauth:{visit.sync.quickbooks_conn_id}": QUICKBOOKS,
    }
