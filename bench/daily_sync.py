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
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import requests
import structlog

from ml_connector.archive import archive_contacts
from ml_connector.audience import check_audience
from ml_connector.fetch import fetch_customers
from ml_connector.mailchimp import protocol
from ml_connector.mailchimp.client import MailchimpClient
from ml_connector.members import fetch_members
from ml_connector.model import RunContext
from ml_connector.planning import make_plan
from ml_connector.push import push_shard
from ml_connector.quickbooks.client import QuickBooksClient
from ml_connector.quickbooks.tokens import TokenEndpoint, TokenManager, TokenPair
from ml_connector.report import make_report
from ml_connector.retries import Retries
from ml_connector.scope import Scope
from ml_connector.settings import load_sync
from ml_connector.store.database import Database
from ml_connector.store.refresh_lock import refresh_lock
from ml_connector.transport import RequestsTransport
from ml_connector.vault import Vault

REALM = "9341450000000001"
KEY = base64.b64decode("A" * 43 + "=")
THREADS = 8
"""What two push tasks of four threads make together."""


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


def main(
    database_url: str, quickbooks_url: str, mailchimp_url: str, run_id: str, hours: str = "0"
) -> None:
    """Run one sync and print what it took."""

    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(hours=int(hours))

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    scope = Scope(
        sync=load_sync("main"),
        database=Database(database_url, connections=THREADS + 2),
        vault=Vault(encryption_keys=[KEY], index_key=KEY),
        run=RunContext(dag_id="bench", run_id=run_id),
        clock=clock,
    )
    web = RequestsTransport(requests.Session(), system="QuickBooks")
    quickbooks = QuickBooksClient(
        transport=web,
        base_url=quickbooks_url,
        realm_id=REALM,
        tokens=TokenManager(
            vault=_Tokens("sandbox-refresh-token"),
            lock=partial(refresh_lock, scope.database, "quickbooks_default"),
            endpoint=TokenEndpoint(
                web, f"{quickbooks_url}/oauth2/v1/tokens/bearer", "sandbox-client", "sandbox-secret"
            ),
        ),
        pace=lambda: None,
        retries=Retries(),
        calls=scope.calls,
        clock=clock,
    )
    mailchimp = MailchimpClient(
        transport=RequestsTransport(requests.Session(), system="Mailchimp", connections=THREADS),
        base_url=f"{mailchimp_url}/3.0",
        audience_id=scope.sync.audience_id,
        auth=protocol.auth_headers("sandbox-key-us99"),
        pace=lambda: None,
        retries=Retries(),
        calls=scope.calls,
    )
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
        check_audience(scope.sync, mailchimp)
    done("plan")
    for shard in planned.shards:
        push_shard(scope, mailchimp, plan_id=planned.plan_id, shard=shard, threads=THREADS)
    done("push")
    archive_contacts(scope, mailchimp, plan_id=planned.plan_id)
    make_report(scope, plan_id=planned.plan_id)
    done("archive")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "seconds": round(time.perf_counter() - begun, 2),
        "steps": seconds,
        "calls": dict(scope.calls),
        "changes": planned.changes,
        "cpu": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(_peak_kib(usage.ru_maxrss) / 1024),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def _peak_kib(reported: int) -> int:
    """Return this program's own peak: what getrusage reports counts that of the forking one too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return reported
    lines = status.read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
