"""Print the customers of a filter: `ml-connector customers`."""

import getpass
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ml_connector.console import words
from ml_connector.console.customer_rows import SHEET, iter_cells, row_with_phone
from ml_connector.console.exports import note_export
from ml_connector.console.queries.customer_list import (
    CustomerFilter,
    count,
    iter_customers,
    page,
    read_filter,
)
from ml_connector.console.sheet import iter_csv
from ml_connector.display import grouped
from ml_connector.errors import SettingsError
from ml_connector.rules.tags import tag_key
from ml_connector.scope import Scope
from ml_connector_airflow.wiring import open_scope

SOME = 50
"""Customers printed as text; CSV and JSON have all."""


def show_customers(
    sync_name: str, given: Mapping[str, str], *, tag: str, as_json: bool, as_csv: bool
) -> None:
    """Print the customers of a filter: a table, CSV, or one JSON object a line."""
    scope = open_scope(sync_name)
    with closing(scope.database):
        wanted = _filter(scope, given, tag)
        if not (as_json or as_csv):
            _show(scope, wanted)
            return
        _note(scope, wanted)
        found = iter_customers(
            scope.database.begin, sync=scope.name, wanted=wanted, vault=scope.vault
        )
        if as_csv:
            for part in iter_csv(SHEET, iter_cells(found, scope.sync)):
                sys.stdout.buffer.write(part)
            return
        for each in found:
            print(json.dumps(row_with_phone(each, scope.sync)))  # noqa: T201


def _filter(scope: Scope, given: Mapping[str, str], tag: str) -> CustomerFilter:
    key = {"tag": tag_key(tag, scope.vault).hex()} if tag else {}
    wanted, wrong = read_filter({**given, **key}, zone=ZoneInfo(scope.sync.timezone))
    if wrong:
        name, problem = next(iter(wrong.items()))
        raise SettingsError(f"--{name.replace('_', '-')} takes {problem}")
    return wanted


def _note(scope: Scope, wanted: CustomerFilter) -> None:
    with scope.database.begin() as connection:
        note_export(
            connection,
            sync=scope.name,
            customers=count(connection, sync=scope.name, wanted=wanted),
            wanted=wanted.given,
            actor=getpass.getuser(),
            cause="command",
            vault=scope.vault,
        )


def _show(scope: Scope, wanted: CustomerFilter) -> None:
    with scope.database.begin() as connection:
        shown = page(connection, sync=scope.name, wanted=wanted, vault=scope.vault, limit=SOME)
    console = Console(highlight=False)
    if not console.is_terminal:  # wide enough for a pipe not to fold every cell
        console = Console(highlight=False, width=200)
    if not shown.entries:
        console.print("No customer fits.")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("id", "name", "email", "status", "engagement", "reason"):
        table.add_column(name, overflow="fold", no_wrap=name == "id")
    for each in shown.entries:
        cells = (
            each.customer_id,
            each.customer.display_name,
            each.email,
            words.STATUS.get(each.status or "", each.status or ""),
            words.ENGAGEMENT.get(each.engagement or "", each.engagement or ""),
            words.reason(each.reason) if each.reason else words.DECISION["none"],
        )
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    if shown.total > len(shown.entries):
        console.print(f"... {grouped(shown.total - len(shown.entries))} more; --csv lists all.")
