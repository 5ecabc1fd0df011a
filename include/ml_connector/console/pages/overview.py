"""Overview page: the sync's health, its counts, its activity, and what needs attention."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row
from starlette.responses import Response

from ml_connector.console import words
from ml_connector.console.access import Right
from ml_connector.console.accounts import refused_accounts, system_of
from ml_connector.console.heartbeat import heartbeat
from ml_connector.console.outside import TokenExpiry
from ml_connector.console.pages.runs import run_card
from ml_connector.console.queries import customer_list
from ml_connector.console.queries import inbox as inbox_queries
from ml_connector.console.queries import overview as overview_queries
from ml_connector.console.queries import plans as plan_queries
from ml_connector.console.visit import PageRequest
from ml_connector.display import counted, pattern_time
from ml_connector.errors import ConnectorError
from ml_connector.quickbooks.webhooks import SYSTEM as QUICKBOOKS
from ml_connector.store import observations
from ml_connector.store.pacing import UNMETERED
from ml_connector.sync import names

DAYS = 14
"""Days in the chart of changes."""
HOURS = 48
"""Hours in the chart of member events."""
SOON = timedelta(days=14)
"""A token that ends within this time is reported."""
SKIPPED_SHOWN = 50
"""Records that cannot be read are listed up to this many, newest first."""
_DAY = "d MMM"
OVERDUE = timedelta(minutes=10)
"""A webhook event that waits longer than this is reported."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that needs attention. ``to``: the console's page about it, named ``leads_to``."""

    what: str
    why: str
    to: str = ""
    since: Any = None
    tone: str = "bad"
    leads_to: str = ""


def overview(visit: PageRequest) -> Response:
    """Show the overview."""
    sync = visit.sync
    ends = _token_ends(visit)
    events = visit.events(Right.READ)
    with visit.services.database.begin() as connection:
        plans = plan_queries.page(connection, sync=sync.name, kinds=("sync", "preview"), limit=8)
        refused = refused_accounts(visit, connection)
        runs = [plan for plan in plans if plan.kind == "sync"]
        asking = plan_queries.waiting_plans(connection, sync=sync.name)
        beat = heartbeat(
            sync,
            now=visit.now,
            paused=visit.services.outside.paused(sync),
            last_finished=overview_queries.last_finished(connection, sync=sync.name),
            last_state=runs[0].state if runs else None,
            last_error=_last_error(runs[0].error, refused) if runs else None,
            refused=refused,
            asking=next((plan for plan in asking if runs and plan.id == runs[0].id), None),
        )
        inbox = inbox_queries.counts(connection, events)
        waiting = inbox_queries.waiting_events(connection, events, now=visit.now)
        unfinished = overview_queries.count_unfinished(connection, sync=sync.name)
        alerts = overview_queries.open_alerts(connection)
        values: dict[str, Any] = {
            "names": names.names_of(sync, connection),
            "differing": observations.count_differing(connection, sync=sync.name),
            "charts": _charts(visit, connection),
            "census": customer_list.take_census(connection, sync=sync.name),
            "usage": _usage(visit, connection),
            "skipped": overview_queries.unreadable_records(
                connection, sync=sync.name, limit=SKIPPED_SHOWN
            ),
        }
    concerns = [
        *_asking(plan for plan in asking if plan.id != beat.plan),
        *(
            Concern(alert.message, "", since=alert.raised_at)
            for alert in alerts
            if not _told_already(visit, alert.cause, refused)
        ),
        *_concerns(visit, inbox, waiting, unfinished, ends if QUICKBOOKS not in refused else None),
        *_skipped(values["skipped"]),
    ]
    return visit.page(
        "overview.html",
        beat=beat,
        plans=plans,
        inbox=inbox,
        waiting=waiting,
        unfinished=unfinished,
        ends=TokenExpiry(problem=refused[QUICKBOOKS]) if QUICKBOOKS in refused else ends,
        concerns=concerns,
        **run_card(visit),
        **values,
    )


def _last_error(error: str | None, refused: Mapping[str, str]) -> str | None:
    """Return a run's error. A missing account may have been connected since."""
    system = words.fault(error).connect
    if system and system not in refused:
        return f"{words.SYSTEM[system]} was connected again since. The next run goes on."
    return error


def _told_already(visit: PageRequest, cause: str, refused: Mapping[str, str]) -> bool:
    """Return whether the headline shows an alert: an account that has to be connected."""
    ending = f"refresh_token_ending:{visit.sync.quickbooks_conn_id}"
    return system_of(visit, cause) in refused or (cause == ending and QUICKBOOKS in refused)


def _token_ends(visit: PageRequest) -> TokenExpiry:
    try:
        return visit.services.outside.token_ends(visit.sync.quickbooks_conn_id)
    except ConnectorError as error:
        return TokenExpiry(problem=str(error))


def _concerns(
    visit: PageRequest,
    inbox: Mapping[str, int],
    waiting: inbox_queries.Waiting,
    unfinished: Mapping[str, int],
    ends: TokenExpiry | None,
) -> Iterable[Concern]:
    if ends and ends.problem:
        yield Concern("QuickBooks is not connected", ends.problem, "/setup")
    lasts = (("connection", ends.for_good), ("refresh token", ends.refresh)) if ends else ()
    for name, end in lasts:
        if end is not None and end - visit.now < SOON:
            yield Concern(
                f"QuickBooks' {name} ends soon",
                "connect it again",
                "/setup",
                tone="warn",
                leads_to="Setup",
            )
    if inbox.get("dead"):
        yield Concern(
            f"{counted(inbox['dead'], 'webhook was', 'webhooks were')} dead-lettered",
            "look at the reason, then retry",
            "/webhooks?state=dead",
            leads_to="Review",
        )
    if inbox.get("quarantined"):
        yield Concern(
            f"{counted(inbox['quarantined'], 'webhook was', 'webhooks were')} quarantined",
            "valid signature, but unusable",
            "/webhooks?state=quarantined",
            leads_to="Review",
        )
    if waiting.since is not None and visit.now - waiting.since > OVERDUE:
        yield Concern(
            "Webhook events have been waiting for long",
            "see in Airflow whether the DAG process_webhooks is running",
            "/webhooks?state=pending",
            waiting.since,
        )
    if unfinished["not_shown"]:
        yield Concern(
            f"{counted(unfinished['not_shown'], 'customer')} could not be written in QuickBooks",
            "each customer's page has the reason",
            "/customers?waiting=refused",
        )


def _asking(plans: Iterable[Row[Any]]) -> Iterable[Concern]:
    for plan in plans:
        yield Concern(
            f"Waiting for your approval of {counted(plan.changes, 'change')}",
            plan.counts.get("why", ""),
            f"/plans/{plan.id}",
            plan.created_at,
            tone="warn",
            leads_to="Review",
        )


def _skipped(records: Sequence[Any]) -> Iterable[Concern]:
    if records:
        what = f"{counted(records[0].every, 'record was', 'records were')} skipped"
        yield Concern(what, "what QuickBooks or Mailchimp sent cannot be read; see the list below")


def _usage(visit: PageRequest, connection: Connection) -> dict[str, Any]:
    """Return the month's API calls and metered reads (QuickBooks meters only reads)."""
    accounts = [visit.sync.quickbooks_conn_id, visit.sync.mailchimp_conn_id]
    month = f"{visit.now:%Y-%m}"
    rows = overview_queries.usage(connection, accounts=accounts, month=month)
    calls = {row.call: int(row.calls) for row in rows}
    reads = sum(
        n for call, n in calls.items() if call.startswith("quickbooks.") and call not in UNMETERED
    )
    return {"month": pattern_time(visit.now, "MMMM"), "reads": reads, "calls": calls}


def _charts(visit: PageRequest, connection: Connection) -> dict[str, Any]:
    sync, zone = visit.sync.name, visit.sync.timezone
    history = overview_queries.contacts_over_time(connection, sync=sync, since=visit.days_ago(90))
    statuses = [name for name in words.STATUS if any(name in counted for _, counted in history)]
    changes = overview_queries.changes_by_day(
        connection, sync=sync, since=visit.days_ago(DAYS), zone=zone
    )
    events = overview_queries.events_by_hour(
        connection, sync=sync, since=visit.now - timedelta(hours=HOURS), zone=zone
    )
    by_kind: dict[str, dict[Any, int]] = defaultdict(dict)
    for row in changes:
        by_kind[row.kind][row.day] = row.changes
    today = visit.now.astimezone(visit.zone)
    days = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    top = today.replace(minute=0, second=0, microsecond=0, tzinfo=None)
    hours = [top - timedelta(hours=back) for back in range(HOURS - 1, -1, -1)]
    seen = {row.hour: row.events for row in events}
    return {
        "contacts": {
            "type": "line",
            "labels": [pattern_time(at.astimezone(visit.zone), _DAY) for at, _ in history],
            "sets": [
                {
                    "label": words.STATUS[name],
                    "tone": name,
                    "data": [counted.get(name, 0) for _, counted in history],
                }
                for name in statuses
            ],
        },
        "changes": {
            "type": "bar",
            "labels": [pattern_time(day, _DAY) for day in days],
            "sets": [
                {
                    "label": words.KIND.get(kind, kind),
                    "tone": kind,
                    "data": [by_kind[kind].get(day.date(), 0) for day in days],
                }
                for kind in words.ordered(by_kind, words.KIND)
            ],
        },
        "events": {
            "type": "bar",
            "labels": [pattern_time(hour, f"{_DAY} HH:mm") for hour in hours],
            "sets": [
                {
                    "label": "events",
                    "tone": "events",
                    "data": [seen.get(hour, 0) for hour in hours],
                }
            ]
            if seen
            else [],
        },
    }
