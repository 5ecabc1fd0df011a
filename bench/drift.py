"""``ml-connector drift`` by size: the audience compared with the customers as last read.

1,000 contacts show another last name than QuickBooks has.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import requests

from bench import processor
from bench.daily import GOAL, nothing_loaded, sync_once
from bench.table import Row, calls_by_system
from local.postgres import EmbeddedPostgres, temporary
from local.settings import SANDBOX_AUDIENCE
from ml_connector.mailchimp.protocol import MAX_COUNT, MAX_ROWS
from sandbox.running import RunningSandbox

SECONDS, MB = 20, 200
"""To reach with ``GOAL`` customers."""
KEY = ("key", "sandbox-key-us99")


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Compare at each size."""
    with temporary() as postgres:
        for customers in options.customers:
            figures = measure(postgres, customers)
            goal = customers == GOAL
            calls = calls_by_system(figures["calls"])
            reached = figures["seconds"] <= SECONDS and figures["peak_mb"] <= MB
            yield Row(
                work=f"drift, {customers:,} customers: {figures['found'].get('differs', 0):,} differ",
                measured=f"{figures['seconds']} s",
                to_reach=f"{SECONDS} s, no call to QuickBooks, {MB} MB" if goal else "",
                reached=reached and not calls["quickbooks"] if goal else None,
                **calls,
                cpu=figures["cpu"],
                postgres_cpu=figures["postgres_cpu"],
                peak_mb=figures["peak_mb"],
            )


def measure(postgres: EmbeddedPostgres, customers: int) -> dict[str, Any]:
    """Return what a comparison took, in a process of its own, after a first load."""
    with nothing_loaded(postgres, customers, 0) as (url, sandbox):
        sync_once(url, sandbox, "first", hours=0)
        sync_once(url, sandbox, "second", hours=6)
        _edit_some(sandbox)
        before = processor.seconds_of(postgres.pid)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "bench.drift_once"),
                *(url, sandbox.quickbooks_url, sandbox.mailchimp_url, "drift", "12"),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures | {"postgres_cpu": processor.seconds_of(postgres.pid) - before}


def _edit_some(sandbox: RunningSandbox) -> None:
    """Change the last name of a page of members, as an import does."""
    audience = f"{sandbox.mailchimp_url}/3.0/lists/{SANDBOX_AUDIENCE}"
    asked = {"count": str(MAX_COUNT), "fields": "members.email_address"}
    listed = requests.get(f"{audience}/members", params=asked, auth=KEY, timeout=60)
    listed.raise_for_status()
    members = [
        {**member, "status_if_new": "unsubscribed", "merge_fields": {"LNAME": "Edited"}}
        for member in listed.json()["members"]
    ]
    for first in range(0, len(members), MAX_ROWS):
        body = {"members": members[first : first + MAX_ROWS], "update_existing": True}
        requests.post(audience, json=body, auth=KEY, timeout=60).raise_for_status()
