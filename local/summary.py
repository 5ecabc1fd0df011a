"""What a run did, read from the connector's tables: the facts, then the page that shows them."""

import importlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from local.secrets import ADMIN
from local.settings import Settings

SCHEMA = "ml_connector"


SYSTEMS = {"quickbooks": "QuickBooks", "mailchimp": "Mailchimp"}
# How the clients name the calls that read (``calls`` of both clients); all other calls write.
READS = {
    *("query", "cdc", "companyinfo"),
    *(
        "account",
        "audiences",
        "audience",
        "merge_fields",
        "groups",
        "members",
        "get",
        "abuse_reports",
    ),
    *("tag_search", "campaigns", "email_activity", "webhooks"),
}


@dataclass(frozen=True)
class Facts:
    """What the tables say.

    Attributes:
        changes: Rows of kind, reason, state and how many.
        customers: Rows of decision, reason and how many.
        decisions: Customer id to its decision and the reason, or the owner's id if linked.
        calls: System to call to how often, since the run began.
    """

    changes: list[tuple[str, str, str, int]]
    customers: list[tuple[str, str, int]]
    decisions: dict[str, tuple[str, str]]
    calls: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def unfinished(self) -> int:
        """Return changes that were decided and not written."""
        return sum(count for _, _, state, count in self.changes if state != "applied")


def read(url: str, *, sync: str, since: datetime) -> Facts:
    """Read what was decided for a sync since a moment."""
    with psycopg.connect(url) as connection:
        changes = connection.execute(
            _query(
                "SELECT c.kind, c.reason, c.state, sum(c.changes)::int FROM {schema}.change_counts c "
                "JOIN {schema}.plans p ON p.id = c.plan_id "
                "WHERE c.sync = %s AND p.created_at >= %s AND c.state <> 'superseded' "
                "GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2"
            ),
            (sync, since),
        ).fetchall()
        decisions = connection.execute(
            _query(
                "SELECT customer_id, coalesce(decision, ''), coalesce(linked_to, reason, '') "
                "FROM {schema}.customers WHERE sync = %s"
            ),
            (sync,),
        ).fetchall()
        customers = connection.execute(
            _query(
                "SELECT coalesce(decision, 'undecided'), "
                "CASE WHEN decision = 'linked' THEN '' ELSE coalesce(reason, '') END, count(*) "
                "FROM {schema}.customers WHERE sync = %s GROUP BY 1, 2 ORDER BY 1, 2"
            ),
            (sync,),
        ).fetchall()
    return Facts(
        changes=[(str(k), str(r), str(s), int(n)) for k, r, s, n in changes],
        customers=[(str(d), str(r), int(n)) for d, r, n in customers],
        decisions={str(who): (str(what), str(why)) for who, what, why in decisions},
    )


@dataclass(frozen=True)
class HeldPlan:
    """A plan that was not written: its id, why it waits, and what it would do in sentences.

    ``why`` is empty for a rehearsal, which needs no approval.
    """

    id: int
    why: str
    sentences: list[str]


def held_plan(
    url: str, *, sync: str, since: datetime, variables: Mapping[str, str]
) -> HeldPlan | None:
    """Return the newest plan since a moment, if it was held and not approved.

    Its sentences hold samples of personal data, for the terminal. ``variables``: those of the run,
    with its keys and its settings file.
    """
    with psycopg.connect(url) as connection:
        row = connection.execute(
            _query(
                "SELECT id, kind, state, counts ->> 'why' FROM {schema}.plans "
                "WHERE sync = %s AND created_at >= %s AND kind IN ('sync', 'preview') "
                "ORDER BY id DESC LIMIT 1"
            ),
            (sync, since),
        ).fetchone()
    if row is None:
        return None
    plan_id, kind, state, why = row
    if kind != "preview" and (state not in ("waiting", "rejected") or not why):
        return None
    told = _report(url, sync=sync, plan_id=int(plan_id), variables=variables)
    return HeldPlan(int(plan_id), str(why or ""), told)


def _report(url: str, *, sync: str, plan_id: int, variables: Mapping[str, str]) -> list[str]:
    parts: dict[str, Any] = {
        name: importlib.import_module(f"ml_connector.{name}")
        for name in ("scope", "settings", "store.database", "sync.rehearsal", "vault")
    }
    home = Path(variables["ML_CONNECTOR_HOME"])
    with closing(parts["store.database"].Database(url)) as database:
        scope = parts["scope"].Scope(
            sync=parts["settings"].load_sync(sync, Path(variables["ML_CONNECTOR_SYNCS"])),
            database=database,
            vault=parts["vault"].vault_from(variables, home),
            read_only=True,
        )
        told: list[str] = parts["sync.rehearsal"].report_of(scope, plan_id=plan_id)
    return told


def show_held(
    console: Console, settings: Settings, plan: HeldPlan, *, password: str, staying: bool
) -> None:
    """Print what a plan would do, where to look at it and how to approve it.

    With ``staying`` Airflow stays up and the plan waits. Otherwise a later run makes a new one.
    """
    page = f"{settings.ui}/ml-connector/console/{settings.sync}/plans/{plan.id}"
    lines = [
        "",
        f"Nothing was written: {plan.why or 'this was a rehearsal, which can only read'}.",
        "A run would do this:",
        *(f"  {sentence}" for sentence in plan.sentences),
    ]
    login = f"(user {ADMIN}, password {password})"
    if staying:
        lines.append(f"The plan waits for you. Approve or reject it: {page} {login}")
    else:
        lines.append(f"Contact by contact: {page} while `make run` is up {login}")
        approve = " APPROVE=1" if plan.why or not settings.sandbox else ""
        lines.append(f"To write it: make run ONCE=1{approve}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def api_usage(url: str) -> dict[str, int]:
    """Return the connector's own count of calls by name, since real systems keep no journal."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            _query("SELECT call, sum(calls) FROM {schema}.api_usage GROUP BY 1")
        ).fetchall()
    return {str(name): int(count) for name, count in rows}


def at_rest(url: str, *, since: datetime) -> bool:
    """Return whether every webhook is settled, and so is every change and call that followed from one.

    Args:
        url: The connector's database.
        since: Plans before this moment do not count: a killed run may have left one open.
    """
    with psycopg.connect(url) as connection:
        row = connection.execute(
            _query(
                "SELECT EXISTS (SELECT FROM {schema}.webhook_inbox"
                "               WHERE state IN ('pending', 'leased'))"
                "    OR EXISTS (SELECT FROM {schema}.plans"
                "               WHERE created_at >= %(since)s AND state = 'open')"
                "    OR EXISTS (SELECT FROM {schema}.change_counts c JOIN {schema}.plans p"
                "               ON p.id = c.plan_id"
                "               WHERE p.created_at >= %(since)s AND c.state = 'pending')"
            ),
            {"since": since},
        ).fetchone()
    return row == (False,)


def by_system(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return what was called between two counts, in the columns of the summary."""
    counts: dict[str, dict[str, int]] = {}
    for name, count in after.items():
        if made := count - before.get(name, 0):
            system, _, call = name.partition(".")
            kind = "reads" if call in READS else "writes"
            kinds = counts.setdefault(SYSTEMS.get(system, system), {})
            kinds[kind] = kinds.get(kind, 0) + made
    return counts


def show(
    console: Console,
    settings: Settings,
    facts: Facts,
    *,
    calls: Mapping[str, Mapping[str, int]],
    seconds: float,
    total: float,
    password: str,
) -> None:
    """Print the summary."""
    console.print()
    console.print(_table("Changes", ("kind", "reason", "state", "count"), facts.changes))
    console.print(_table("Customers", ("decision", "reason", "count"), facts.customers))
    rows = [(system, *_counts(counts)) for system, counts in calls.items()]
    console.print(_table("Calls", ("system", "reads", "writes", "tokens"), rows))
    lines = {
        "Time": f"{seconds:.1f} s for the sync, {total:.1f} s since the start",
        "Airflow": f"{settings.ui}  (user {ADMIN}, password {password})",
        "Logs": f"{settings.logs}",
        "Shell": f"set -a; . {settings.home / 'env'}; set +a",
    }
    for name, text in lines.items():
        # No markup, no wrapping: paths and addresses are to be copied.
        console.print(f"{name:<8} {text}", markup=False, highlight=False, soft_wrap=True)


def _counts(counts: Mapping[str, int]) -> tuple[int, int, int]:
    return counts.get("reads", 0), counts.get("writes", 0), counts.get("tokens", 0)


def _table(title: str, columns: tuple[str, ...], rows: list[Any]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        number = column in {"count", "reads", "writes", "tokens"}
        table.add_column(column, justify="right" if number else "left")
    for row in rows or [("none", *[""] * (len(columns) - 1))]:
        table.add_row(*(str(cell) for cell in row))
    return table


def _query(text: str) -> sql.Composed:
    # Only the schema's own name is put in; every value is a parameter.
    return sql.SQL(text).format(schema=sql.Identifier(SCHEMA))
