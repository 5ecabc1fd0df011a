"""Undo a run in a test, step by step as the DAG does."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from ml_connector.sync import guard
from ml_connector.sync.undo import find_run, plan_undo, report
from ml_connector.sync.undo_push import write_undo
from tests.integration.company import Company, MockServers

WRONG = {"FNAME": "FamilyName", "LNAME": "GivenName"}


def undo(
    company: Company,
    run: str,
    *,
    preview: bool = False,
    before_write: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Undo a run; return the contacts by what became of them."""
    scope = company.scope()
    client = company.mailchimp_client(scope.calls)
    with company.database.begin() as connection:
        undone = find_run(connection, run)
    plan_id = plan_undo(scope, client, undone=undone, preview=preview)
    if not preview:
        held = guard.hold_plan(scope, plan_id=plan_id)
        if held is not None:
            guard.approve(scope, plan_id=plan_id, person="Ann")
        before_write()
        write_undo(scope, client, plan_id=plan_id, threads=company.threads)
    told = report(scope, plan_id=plan_id)
    counted: Any = told["changes"]
    return {f"{kind} {reason} {state}": number for kind, reason, state, number in counted}


def last_run(company: Company) -> str:
    return f"run-{company.runs}"


def wrong_run(company: Company) -> str:
    """Sync once with first and last name swapped; return the run."""
    company.settings["fields"] = WRONG
    company.sync()
    return last_run(company)


def audience(company: Company) -> dict[str, tuple[str, dict[str, Any], set[str]]]:
    """What Mailchimp shows of each member, but for timestamps."""
    return {
        email: (
            member["status"],
            {tag: value for tag, value in member["merge_fields"].items() if value},
            {tag["name"] for tag in member["tags"]},
        )
        for email, member in company.members().items()
    }


def work(
    mock_servers: MockServers,
    database_url: str,
    folder: str,
    settings: dict[str, Any],
    ahead: timedelta,
    run: str,
) -> None:
    """Undo a run in a process of its own, to be killed."""
    company = Company(mock_servers=mock_servers, database_url=database_url, folder=Path(folder))
    company.settings, company.ahead = settings, ahead
    company.runs = 100
    undo(company, run)
