"""Process the webhook inbox: claim due events, dispatch them, settle them.

New events are processed together. An event that failed before is processed alone, so a poison
message fails no other event. If a system or a token is unavailable, its events wait. The wait does
not count as an attempt.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from time import monotonic, sleep

import structlog

from ml_connector.activity import queue, writer
from ml_connector.errors import (
    ConnectorError,
    RetryLater,
    StopRun,
    StorageError,
    values_withheld,
)
from ml_connector.mailchimp.webhooks import SYSTEM as MAILCHIMP
from ml_connector.model import RunContext
from ml_connector.quickbooks.webhooks import SYSTEM as QUICKBOOKS
from ml_connector.scope import OpenSync
from ml_connector.store.activity_queue import Slice
from ml_connector.store.database import Database
from ml_connector.sync import first_run
from ml_connector.vault import Vault
from ml_connector.webhooks import inbox
from ml_connector.webhooks.handlers import Handled, handle_customers, handle_members
from ml_connector.webhooks.inbox import ClaimedEvent

BATCH = 500
LEASE = timedelta(minutes=2)
"""A claimed event returns to the queue after this long. A batch takes less."""

UNAVAILABLE_WAIT = timedelta(seconds=30)
BLOCKED_WAIT = timedelta(minutes=5)
"""Waits of events: ``UNAVAILABLE_WAIT`` for an unavailable system, ``BLOCKED_WAIT`` for a person who must act."""

BURST = 5
"""This many events at once suggest that more are on their way."""

BURST_GAP = 0.5
BURST_TIMEOUT = 6.0
"""Seconds without a new event end a burst (``BURST_GAP``); the longest wait for one (``BURST_TIMEOUT``)."""

Work = Callable[[OpenSync, Sequence[ClaimedEvent]], Handled]
log = structlog.get_logger(__name__)


def process_inbox(
    database: Database,
    targets: Sequence[OpenSync],
    *,
    vault: Vault,
    closed: Mapping[str, StopRun] | None = None,
    gather: bool = False,
) -> dict[str, int]:
    """Process every due event; return the number of events by outcome.

    ``closed``: the error by sync that could not be opened. Events that may belong to one of them
    wait.

    A single event is processed at once. With ``gather``, the worker waits for the rest of a burst.
    Hundreds of events then cost one or two calls instead of one each.

    Raises the first ``StopRun`` after everything else is done. Its events wait.
    """
    worker = _Worker(database, targets, closed or {}, vault)
    while number := worker.next(BATCH, tried=False) or worker.next(1, tried=True):
        if gather and BURST <= number < BATCH:
            _until_quiet(database)
    if worker.stopped is not None:
        raise worker.stopped
    return dict(+worker.counts)  # without the zeros


def postpone_due(database: Database, error: StopRun) -> int:
    """Postpone every due event until a person acts; return the number of events."""
    number = 0
    for tried in (False, True):
        while True:
            with database.begin() as connection:
                events = inbox.claim(connection, limit=BATCH, lease=LEASE, tried=tried)
                inbox.postpone(connection, events, wait=BLOCKED_WAIT, reason=str(error))
            if not events:
                break
            number += len(events)
    return number


def _until_quiet(database: Database) -> None:
    """Wait until no event arrives for ``BURST_GAP`` seconds, at most ``BURST_TIMEOUT`` seconds."""
    until, last = monotonic() + BURST_TIMEOUT, None
    while monotonic() < until:
        with database.begin() as connection:
            newest = inbox.newest(connection)
        if newest == last:
            return
        last = newest
        sleep(BURST_GAP)


class _Worker:
    def __init__(
        self,
        database: Database,
        targets: Sequence[OpenSync],
        closed: Mapping[str, StopRun],
        vault: Vault,
    ) -> None:
        self._database, self._targets, self._closed = database, targets, closed
        self._vault = vault
        self._run = targets[0].scope.run if targets else RunContext()
        self.counts: Counter[str] = Counter()
        self.stopped: StopRun | None = None

    def next(self, limit: int, *, tried: bool) -> int:
        """Claim and process up to ``limit`` events; return the number claimed."""
        with self._database.begin() as connection:
            events = inbox.claim(
                connection,
                limit=limit,
                lease=LEASE,
                tried=tried,
                run=self._run,
                vault=self._vault,
            )
            unknown = [e for e in events if not any(_concerned(o, e) for o in self._targets)]
            orphans = [event for event in unknown if self._why_held(event) is None]
            inbox.quarantine(
                connection, orphans, reason="no_sync", run=self._run, vault=self._vault
            )
        self.counts["quarantined"] += len(orphans)
        for event in unknown:
            if error := self._why_held(event):
                self._postpone([event], wait=BLOCKED_WAIT, error=error)
        for system, work in ((MAILCHIMP, handle_members), (QUICKBOOKS, handle_customers)):
            mine = [e for e in events if e.system == system and e not in unknown]
            for target, done in self._worked_on(mine, work):
                self._show(target, done)
        return len(events)

    def _why_held(self, event: ClaimedEvent) -> StopRun | None:
        """Return why an event of no open sync must wait; None if it belongs to no sync at all.

        A closed sync may belong to any company: its connection holds the realm.
        """
        if event.system == QUICKBOOKS:
            return next(iter(self._closed.values()), None)
        return self._closed.get(event.sync or "")

    def _worked_on(
        self, events: Sequence[ClaimedEvent], work: Work
    ) -> list[tuple[OpenSync, Handled]]:
        """Process one system's events in every sync concerned, and settle them.

        A blocked sync holds up only its own events.
        """
        results: list[tuple[OpenSync, Handled]] = []
        held: set[ClaimedEvent] = set()
        for target in self._targets:
            mine = [event for event in events if _concerned(target, event)]
            fresh = [event for event in mine if event not in held]
            try:
                if mine:
                    with values_withheld():
                        results.append((target, work(target, mine)))
            except StorageError:
                raise
            except (StopRun, RetryLater) as error:
                self._wait(fresh, error)
                held.update(mine)
            except ConnectorError as error:
                self._fail(fresh, str(error))
                held.update(mine)
        # By company: ids are small numbers and repeat in each.
        lost = [
            event
            for event in events
            if event not in held
            and any(event.entity_id in d.missing and _concerned(o, event) for o, d in results)
        ]
        self._fail(lost, "not_found")
        settled = [event for event in events if event not in lost and event not in held]
        with self._database.begin() as connection:
            for sync, these in self._by_sync(settled).items():
                self.counts["done"] += inbox.settle(
                    connection, these, run=self._run, sync=sync, vault=self._vault
                )
        return results

    def _by_sync(self, events: Sequence[ClaimedEvent]) -> dict[str, list[ClaimedEvent]]:
        """Group events by their sync; events that concern several syncs go under an empty name."""
        found: dict[str, list[ClaimedEvent]] = {}
        for event in events:
            syncs = [o.scope.name for o in self._targets if _concerned(o, event)]
            found.setdefault(syncs[0] if len(syncs) == 1 else "", []).append(event)
        return found

    def _show(self, target: OpenSync, done: Handled) -> None:
        """Write member events to the customers. A failed write stays due for the next run."""
        scope, ids = replace(target.scope, origins=done.origins), done.customer_ids
        try:
            due = bool(ids) and first_run.may_write(scope)
            if due and queue.queue_activity(scope, customer_ids=ids):
                part = Slice(ids=ids)
                written = writer.write_activity(scope, target.quickbooks, part=part)
                scope.written["quickbooks"].update(written)
                self.counts["written_back"] += written.get("shown", 0)
        except StorageError:
            raise
        except StopRun as error:
            self.stopped = self.stopped or error
        except RetryLater as error:
            log.warning("write_back_waits", sync=target.scope.name, reason=str(error))

    def _wait(self, events: Sequence[ClaimedEvent], error: StopRun | RetryLater) -> None:
        if isinstance(error, StopRun):
            self.stopped = self.stopped or error
            wait = BLOCKED_WAIT
        else:
            wait = max(UNAVAILABLE_WAIT, timedelta(seconds=error.retry_after or 0))
        self._postpone(events, wait=wait, error=error)

    def _postpone(
        self, events: Sequence[ClaimedEvent], *, wait: timedelta, error: ConnectorError
    ) -> None:
        with self._database.begin() as connection:
            postponed = inbox.postpone(connection, events, wait=wait, reason=str(error))
        self.counts["waiting"] += postponed
        log.warning("webhooks_wait", events=postponed, reason=str(error))

    def _fail(self, events: Sequence[ClaimedEvent], reason: str) -> None:
        with self._database.begin() as connection:
            for sync, these in self._by_sync(events).items():
                self.counts["failed"] += inbox.fail(
                    connection, these, reason=reason, run=self._run, sync=sync, vault=self._vault
                )


def _concerned(target: OpenSync, event: ClaimedEvent) -> bool:
    if event.system == QUICKBOOKS:
        return event.source == target.realm
    return event.sync == target.scope.name
