"""Print the audit trail in the terminal: `ml-connector audit` and `audit show`."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ml_connector.audit import trail
from ml_connector.audit.filter import Filter
from ml_connector.console import words
from ml_connector.console.difference import compare
from ml_connector.errors import SettingsError
from ml_connector.rules.addresses import normalised
from ml_connector.settings import home
from ml_connector.store.database import Database
from ml_connector.vault import vault_from
from ml_connector_airflow.typed import parse_typed_time
from ml_connector_airflow.wiring import database_url

NEWEST = 100
"""Rows of a table if no limit is given; JSON lines are all of them."""

_CIRCUMSTANCES = (
    "at", "sync", "system", "action", "reason", "outcome", "error", "customer_id", "attempts",
    "request_id", "cause", "origin", "dag_id", "run_id", "task_id", "try_number", "actor",
)  # fmt: skip


def wanted(*, email: str, since: str, until: str, **texts: str) -> Filter:
    """Return the filter that a person asked for; raise ``SettingsError`` if it cannot be read."""
    key = None
    if email:
        key = vault_from(os.environ, home()).email_key(normalised(email) or email.lower())
    return Filter(
        email_key=key, since=parse_typed_time(since), until=parse_typed_time(until), **texts
    )


def show_rows(chosen: Filter, *, sync: str, limit: int, as_json: bool) -> None:
    """Print the rows of a filter, oldest first: a table, or one JSON object a line."""
    entries = _entries(chosen, sync=sync, newest=limit or (0 if as_json else NEWEST))
    if as_json:
        for entry in entries:
            print(json.dumps(entry, default=str))  # noqa: T201 -- a command's output
        return
    table = Table(box=None, pad_edge=False)
    for name in ("row", "when", "what", "because", "outcome", "customer", "error"):
        table.add_column(name, overflow="fold", no_wrap=name in ("row", "when"))
    for entry in entries:
        what = words.action(entry["action"])
        cells = (
            str(entry["id"]),
            entry["at"][:19].replace("T", " "),
            f"{what} ({entry['system']})" if entry["system"] else what,
            words.reason(entry["reason"]),
            words.OUTCOME.get(entry["outcome"], entry["outcome"]),
            entry["customer_id"] or "",
            entry["error"] or "",
        )
        table.add_row(*(Text(cell) for cell in cells))
    _console().print(table if table.row_count else "No row matches.")


def show_row(row_id: int) -> None:
    """Print one row: its circumstances, and what differs between before and after."""
    vault = vault_from(os.environ, home())
    with (
        closing(Database(database_url(), connections=2)) as database,
        database.begin() as connection,
    ):
        entry = trail.entry_by_id(connection, vault=vault, entry_id=row_id)
    if entry is None:
        raise SettingsError(f"the audit has no row {row_id}")
    facts = Table(box=None, pad_edge=False, show_header=False)
    for name in _CIRCUMSTANCES:
        if entry[name] not in (None, ""):
            facts.add_row(Text(name), Text(str(entry[name])))
    console = _console()
    console.print(facts)
    fields = compare(entry["before"], entry["after"])
    if not fields:
        return
    states = Table(box=None, pad_edge=False)
    for name in ("", "field", "before", "after"):
        states.add_column(name, overflow="fold")
    marks = {"added": "+", "removed": "-", "changed": "~", "same": ""}
    for one in fields:
        cells = (marks[one.kind], one.name, one.before or "", one.after or "")
        states.add_row(*(Text(cell) for cell in cells))
    console.print()
    console.print(states)


def _entries(chosen: Filter, *, sync: str, newest: int) -> Iterator[dict[str, Any]]:
    vault = vault_from(os.environ, home())
    with closing(Database(database_url(), connections=2)) as database:
        yield from trail.iter_entries(
            database.begin, vault=vault, sync=sync or None, wanted=chosen, newest=newest
        )


def _console() -> Console:
    """Return a console as wide as the terminal, or 200 columns wide in a pipe."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=200)
