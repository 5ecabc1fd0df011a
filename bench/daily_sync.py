"""One daily sync in a process of its own: prints its figures as a JSON line.

    python -m bench.daily_sync DATABASE_URL QUICKBOOKS_URL MAILCHIMP_URL RUN_ID [HOURS]

The steps are those of the DAG, in its order, without Airflow around them. HOURS: how long from now
the run believes it is, so that one run is not within the overlap that the next one reads again.
"""

import base64
import json
import logging
import resource
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import requests
import structlog

from ml_connector.mailchimp import protocol
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.model import RunContext
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.tokens import TokenEndpoint, TokenManager, TokenPair
from ml_connector.scope import Scope
from ml_connector.settings import load_sync
from ml_connector.store.database import Database
from ml_connector.store.refresh_lock import refresh_lock
from ml_connector.sync.archive import archive_contacts
from ml_connector.sync.fetch_customers import fetch_customers
from ml_connector.sync.fetch_members import fetch_members
from ml_connector.sync.follow_up import follow_up
from ml_connector.sync.planner import make_plan
from ml_connector.sync.preflight import check_audience
from ml_connector.sync.push import THREADS, push_shard
from ml_connector.sync.report import make_report
from ml_connector.vault import Vault
from ml_connector.wire.retries import Retries
from ml_connector.wire.transport import RequestsTransport

REALM = "9341450000000001"
KEY = base64.b64decode("A" * 43 + "=")
TASKS = 2
"""As many as the slots of Airflow's pool let push at a time, three connections to Mailchimp each."""


class _Tokens:
    """The rotated pair, in a file of the connector's database's life: here, in memory."""

    def __init__(self, refresh_token: str) -> None:
        self._pair = TokenPair(
            access_token="",
            refresh_token=refresh_token,
            expires_at=datetime(2020, 1, 1, tzinfo=UTC),
        )

    def load(self) -> TokenPair:
        return self._pair

    def save(self, token: TokenPair) -> None:
        self._pair = token


@dataclass(frozen=True, slots=True)
class Setting:
    """The command line."""

    database_url: str
    quickbooks_url: str
    mailchimp_url: str
    run_id: str
    hours: str = "0"

    def clock(self) -> datetime:
        """Return the time that the run believes it is."""
        return datetime.now(UTC) + timedelta(hours=int(self.hours))

    def scope(self) -> Scope:
        """Return a scope as a task opens it."""
        return Scope(
            sync=load_sync("main"),
            database=Database(self.database_url),
            vault=Vault(encryption_keys=[KEY], index_key=KEY),
            run=RunContext(dag_id="bench", run_id=self.run_id),
            clock=self.clock,
        )

    def quickbooks(self, scope: Scope) -> QuickBooksClient:
        """Return the company, with a token of its own."""
        web = RequestsTransport(requests.Session(), system="QuickBooks")
        token_url = f"{self.quickbooks_url}/oauth2/v1/tokens/bearer"
        return QuickBooksClient(
            transport=web,
            base_url=self.quickbooks_url,
            realm_id=REALM,
            tokens=TokenManager(
                vault=_Tokens("sandbox-refresh-token"),
                lock=partial(refresh_lock, scope.database, "quickbooks_default"),
                endpoint=TokenEndpoint(web, token_url, "sandbox-client", "sandbox-secret"),
            ),
            pace=lambda: None,
            retries=Retries(),
            calls=scope.calls,
            clock=self.clock,
        )

    def mailchimp(self, scope: Scope) -> MailchimpClient:
        """Return the audience."""
        web = RequestsTransport(requests.Session(), system="Mailchimp", connections=THREADS)
        return MailchimpClient(
            transport=web,
            base_url=f"{self.mailchimp_url}/3.0",
            audience_id=scope.sync.audience_id,
            auth=protocol.auth_headers("sandbox-key-us99"),
            pace=lambda: None,
            retries=Retries(),
            calls=scope.calls,
            pages_at_a_time=THREADS,
        )


def main(setting: Setting) -> None:
    """Run one sync and print what it took."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    scope = setting.scope()
    quickbooks, mailchimp = setting.quickbooks(scope), setting.mailchimp(scope)
    seconds: dict[str, float] = {}
    begun = lap = time.perf_counter()

    def done(step: str) -> None:
        nonlocal lap
        seconds[step] = round(time.perf_counter() - lap, 2)
        lap = time.perf_counter()

    fetch_customers(scope, quickbooks)
    done("fetch")
    fetch_members(scope, mailchimp)
    done("members")
    planned = make_plan(scope)
    if planned.changes:
        check_audience(scope, mailchimp)
    done("plan")
    calls, peaks = Counter(scope.calls), [peak_kib()]
    # Two tasks at a time, as the pool of Airflow lets them.
    with ProcessPoolExecutor(TASKS, mp_context=get_context("fork")) as pool:
        pushed = partial(_push, setting, planned.plan_id)
        for made, peak in pool.map(pushed, planned.shards):
            calls += made
            peaks.append(peak)
    done("push")
    scope.calls.clear()
    archive_contacts(scope, mailchimp, plan_id=planned.plan_id)
    done("archive")
    follow_up(scope, mailchimp, plan_id=planned.plan_id)
    done("link")
    make_report(scope, plan_id=planned.plan_id)
    done("report")
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    figures = {
        "seconds": round(time.perf_counter() - begun, 2),
        "steps": seconds,
        "calls": dict(calls + scope.calls),
        "changes": planned.changes,
        "cpu": round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 2),
        "peak_mb": round(max(*peaks, peak_kib()) / 1024),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def _push(setting: Setting, plan_id: int, shard: int) -> tuple[Counter[str], int]:
    """Push a shard as a task does; return its calls and its peak in KiB."""
    scope = setting.scope()
    try:
        push_shard(scope, setting.mailchimp(scope), plan_id=plan_id, shard=shard)
    finally:
        scope.database.close()
    return scope.calls, peak_kib()


def peak_kib() -> int:
    """Return this process's own peak: what getrusage reports counts the one it was forked from."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = status.read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    main(Setting(*sys.argv[1:]))
