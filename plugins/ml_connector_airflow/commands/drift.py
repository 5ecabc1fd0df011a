"""Print what differs between QuickBooks and Mailchimp: `ml-connector drift`."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

from rich.console import Console
from rich.text import Text

from ml_connector.console import words
from ml_connector.console.sheet import iter_csv
from ml_connector.display import grouped
from ml_connector.sync.drift import HEADER, Drift, iter_drift
from ml_connector_airflow.wiring import mailchimp_client, open_scope

SOME = 50
"""Differences printed as text; CSV and JSON have all."""


def show_drift(sync_name: str, *, as_json: bool, as_csv: bool) -> None:
    """Read the audience and print every difference: text, CSV, or one JSON object a line."""
    scope = open_scope(sync_name)
    with closing(scope.database), scope.outside_runs():
        found = iter_drift(scope, mailchimp_client(scope))
        if as_csv:
            for part in iter_csv(HEADER, (each.cells for each in found)):
                sys.stdout.buffer.write(part)
        elif as_json:
            for each in found:
                print(json.dumps(dict(zip(HEADER, each.cells, strict=True))))  # noqa: T201
        else:
            _show(found)


def _show(found: Iterator[Drift]) -> None:
    console, counts = Console(highlight=False, soft_wrap=True), Counter[str]()
    for each in found:
        counts[each.what] += 1
        if counts.total() <= SOME:
            console.print(Text(_line(each)))
    if not counts:
        console.print("Nothing differs.")
        return
    if counts.total() > SOME:
        console.print(f"... {grouped(counts.total() - SOME)} more; --csv lists all.")
    console.print(", ".join(f"{words.DRIFT[what]}: {grouped(n)}" for what, n in counts.items()))


def _line(each: Drift) -> str:
    who = f"customer {each.customer_id}, {each.email}" if each.customer_id else each.email
    if not each.field:
        return f"{who}: {words.DRIFT[each.what].lower()}, {words.drift_rule(each.rule)}"
    since = f" since {each.since:%Y-%m-%d}" if each.since else ""
    ours, theirs = each.quickbooks or "empty", each.mailchimp or "empty"
    return (
        f"{who}: {each.field} is {ours} in QuickBooks, {theirs} in Mailchimp"
        f" (changed {each.changed}{since}; {words.drift_rule(each.rule)})"
    )
