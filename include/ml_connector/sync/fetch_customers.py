"""Stage QuickBooks customers: a delta or a full load, and detect deletions.

Each page goes straight to the staging table, so memory stays flat whatever the company's size. A
page is valid by itself. Conclusions from the entire list (unlisted customers, the watermark) wait
until the list is known to be complete.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import structlog
from sqlalchemy import Connection

from ml_connector.batching import prefetch, relaxed_gc
from ml_connector.display import counted, grouped
from ml_connector.errors import IncompleteRead
from ml_connector.model import Page
from ml_connector.quickbooks.client import (
    CDC_CAP,
    IDS_PER_QUERY,
    UNKNOWN_TOMBSTONES,
    QuickBooksClient,
)
from ml_connector.quickbooks.copies import Copies
from ml_connector.scope import Scope
from ml_connector.store import cursors, customers, unreadable
from ml_connector.store.customers import Staged
from ml_connector.store.database import analyze, server_time
from ml_connector.sync import preflight, targets
from ml_connector.sync.clocks import note_skew
from ml_connector.sync.custom_fields import CustomFields
from ml_connector.sync.staging import (
    MappedPage,
    fetch_types,
    map_rows,
    renames,
    stage_mapped,
    stage_rows,
)

OVERLAP = timedelta(minutes=10)
"""Each delta rereads this much: update times have 1 s resolution and may become visible late."""

TOMBSTONES_AT_LEAST = timedelta(days=7)
"""Tombstones are read after every non-empty delta, and at least this often. A merge shows as a
change of the surviving customer. Change data capture reaches back only 30 days."""

UNLISTED_AT_A_TIME = 1_000

RETRIED_AT_ONCE = IDS_PER_QUERY
"""Customers that could not be read are read again by every run: this many, in one query."""

OnRead = Callable[[int, int | None], None]
_CURSOR = "customers"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Result of a fetch, in numbers of customers."""

    full: bool
    read: int
    new: int
    changed: int
    gone: int
    unreadable: int = 0


@relaxed_gc()
def fetch_customers(
    scope: Scope,
    client: QuickBooksClient,
    *,
    full_sync: bool = False,
    customer_ids: Sequence[str] = (),
    on_read: OnRead = lambda *_: None,
) -> Fetched:
    """Stage customers from QuickBooks; return counts.

    Runs a full load on the first run and with ``full_sync``. A change of the customer rules or of a
    customer type's name also causes a full load. With ``customer_ids`` it reads only those
    customers. ``on_read`` receives after each page how many customers were read, and of how many.

    Raises ``IncompleteRead`` if a full load is short. Raises ``SettingsError`` if the connection
    now points to another company (A40), or if QuickBooks lacks a custom field that the settings
    name (A52).
    """
    with scope.database.begin() as connection:
        cursors.check_index_key(connection, scope.vault)
    preflight.pin_company(scope, client)
    targets.learn_company(scope, client)
    with scope.database.begin() as connection:
        cursor = cursors.get(connection, sync=scope.name, name=_CURSOR)
    if customer_ids:
        return _counted(scope, _fetch_by_ids(scope, client, customer_ids))
    fetch_types(scope, client)
    with scope.database.begin() as connection:
        stale = cursor.get("mapping") != _mapping(scope, connection)
    fetched = None if full_sync or stale else _changed(scope, client, cursor, on_read)
    return _counted(scope, fetched or _everything(scope, client, cursor, on_read))


def _counted(scope: Scope, fetched: Fetched) -> Fetched:
    with scope.database.begin() as connection:
        counts = unreadable.counts(connection, sync=scope.name)
    of_customers = [each for each in counts if each.system == unreadable.QUICKBOOKS]
    for each in of_customers:
        log.warning("customers_unreadable", sync=scope.name, reason=each.reason, rows=each.records)
    return replace(fetched, unreadable=sum(each.records for each in of_customers))


def _mapping(scope: Scope, connection: Connection) -> str:
    """Return a hash of the rules that customers are staged by. A new hash makes all rows stale."""
    sync = scope.sync
    rules: list[Any] = [
        {tag: list(paths) for tag, paths in sync.fields.items()},
        list(sync.tags.static),
    ]
    further: list[Any] = [sync.tags.derived, sync.include, sync.exclude]
    further += [sync.groups, sync.language] if sync.groups or sync.language else []
    if any(further):  # if empty, left out: rows staged before these rules existed stay valid
        rules += [*further, renames(scope, connection)]
    rules += targets.staged_by(scope, connection)
    return scope.vault.fields_hash(rules).hex()


def _stage(scope: Scope, rows: Page[dict[str, Any]], *, seen_in: int = 0) -> Staged:
    with scope.database.begin() as connection:
        return stage_rows(scope, connection, rows, seen_in=seen_in)


def _fetch_by_ids(
    scope: Scope, client: QuickBooksClient, ids: Sequence[str], *, seen_in: int = 0
) -> Fetched:
    """Stage the given customers; mark those as gone that QuickBooks does not return."""
    rows = client.fetch_by_ids(list(ids))
    fetch_types(scope, client, rows)
    CustomFields(scope, client).check(rows)
    staged = _stage(scope, rows, seen_in=seen_in)
    absent = set(ids) - ids_of(rows)
    with scope.database.begin() as connection:
        gone = customers.mark_gone(connection, sync=scope.name, ids=absent)
    return Fetched(full=False, read=staged.read, new=staged.new, changed=staged.changed, gone=gone)


def ids_of(page: Page[dict[str, Any]]) -> set[str]:
    """Return the customers that a response shows, whether they can be read or not."""
    return {str(row["Id"]) for row in page} | {each.record for each in page.unreadable}


def fetch_named(
    scope: Scope,
    client: QuickBooksClient,
    ids: Collection[str],
    *,
    merged: Mapping[str, str],
    since: datetime | None,
) -> set[str]:
    """Stage the customers named by webhooks; return the ids unknown to QuickBooks and the store.

    ``merged`` maps each merged id to the id of the surviving customer. For many ids, one page of
    the changes around ``since`` replaces a query per hundred ids. Ids in neither are queried one by
    one.
    """
    preflight.pin_company(scope, client)
    with scope.database.begin() as connection:
        # The next daily run reads tombstones: it may see nothing new of a merge staged here (A21).
        cursor = cursors.get(connection, sync=scope.name, name=_CURSOR)
        if cursor and not cursor.get("told"):
            told = {**cursor, "told": True}
            cursors.put(connection, sync=scope.name, name=_CURSOR, value=told)
    wanted, custom_fields = set(ids) - set(merged), CustomFields(scope, client)
    if since is not None and len(wanted) > IDS_PER_QUERY:
        pages = client.iter_changed(since=since - OVERLAP)
        for page in islice(pages, len(wanted) // IDS_PER_QUERY):
            fetch_types(scope, client, page)
            custom_fields.check(page)
            _stage(scope, page)
            wanted -= ids_of(page)
            if not wanted:
                break
    rows = client.fetch_by_ids(sorted(wanted))
    fetch_types(scope, client, rows)
    custom_fields.check(rows)
    _stage(scope, rows)
    absent = wanted - ids_of(rows)
    with scope.database.begin() as connection:
        known = customers.known(connection, sync=scope.name, ids=absent)
        customers.mark_gone(connection, sync=scope.name, ids=known | set(merged))
        customers.mark_merged(connection, sync=scope.name, merged=merged)
    return absent - known


class _Reader:
    """Page reader that tracks the watermark: the latest update time among query rows."""

    def __init__(
        self,
        scope: Scope,
        client: QuickBooksClient,
        on_read: OnRead,
        *,
        seen_in: int = 0,
        unknown: bool = False,
        total: int | None = None,
    ) -> None:
        self._scope, self._client, self._seen_in = scope, client, seen_in
        self._on_read, self._total = on_read, total
        self.custom_fields = CustomFields(scope, client)
        self.unknown = unknown  # no customer is staged yet
        self.staged = Staged()
        self.watermark: datetime | None = None

    def read(self, since: datetime | None) -> None:
        """Stage the customers that were updated from ``since`` on, whatever the clocks say."""
        # Three stages overlap: one page is on the wire, one is mapped and encrypted, one is merged
        # by Postgres.
        pages = self._client.iter_changed(since=since)
        self.stage(prefetch(pages, threads=self._scope.threads))

    def stage(self, pages: Iterable[Page[dict[str, Any]]]) -> None:
        """Stage ``pages`` and advance the watermark."""
        scope = self._scope
        for page in prefetch(map(self._mapped, pages), threads=scope.threads):
            with scope.database.begin() as connection:
                self.staged += stage_mapped(
                    scope, connection, page, seen_in=self._seen_in, unknown=self.unknown
                )
            times = [each.customer.last_updated for each in page.customers]
            self.watermark = max(filter(None, [self.watermark, *times]), default=None)
            log.info("customers_read", sync=scope.name, rows=self.staged.read)
            read = self.staged.read  # customers that change during the load are read again
            self._on_read(read, self._total and max(read, self._total))

    def _mapped(self, rows: Page[dict[str, Any]]) -> MappedPage:
        if self._seen_in:  # a full load is judged at its end
            self.custom_fields.look(rows)
        else:
            self.custom_fields.check(rows)
        with self._scope.database.begin() as connection:
            return map_rows(self._scope, connection, rows)


def _everything(
    scope: Scope, client: QuickBooksClient, cursor: dict[str, Any], on_read: OnRead
) -> Fetched:
    """Stage every customer. A customer neither listed nor found by id is gone."""
    load = int(cursor.get("load", 0)) + 1
    with scope.database.begin() as connection:
        # Stored before use: rows listed by an interrupted load must not count for the next one.
        cursors.put(connection, sync=scope.name, name=_CURSOR, value={**cursor, "load": load})
        first = not customers.any_staged(connection, sync=scope.name)
    client.copies = Copies()
    expected = client.count()
    started = _now(scope, client)
    reader = _Reader(scope, client, on_read, seen_in=load, unknown=first, total=expected)
    reader.stage(client.iter_listed(until=started, total=expected))
    # Customers updated during the load moved past its cutoff, where customers with a future time
    # are too. Read those first, then every page.
    reader.unknown = False
    for since in (started - OVERLAP, None):
        if _accounted(scope, client, load, expected) >= expected:
            break
        reader.read(since)
        expected = client.count()
    listed = _accounted(scope, client, load, expected)
    with scope.database.begin() as connection:
        known = customers.count_known(connection, sync=scope.name)
    if listed < expected:
        raise IncompleteRead(
            f"QuickBooks counts {counted(expected, 'customer')} but listed {grouped(listed)}; nothing was planned. "
            "Run the sync again; if it stays so, ask Intuit with the time of this run"
        )
    if known and not listed:
        raise IncompleteRead(
            f"QuickBooks reports no customers, but {known} are known; nothing was "
            "planned. Check that the connection still names the right company"
        )
    if listed:
        reader.custom_fields.demand()
    with scope.database.begin() as connection:
        analyze(connection, "customers")
    gone = _ask_for_unlisted(scope, client, load)
    with scope.database.begin() as connection:
        unreadable.clear_unlisted(
            connection, sync=scope.name, system=unreadable.QUICKBOOKS, seen_in=load
        )
        # Not beyond what was read, whatever time a customer has (A55e).
        latest = min(filter(None, [reader.watermark, started]))
        _advance(scope, cursor, latest, started, load=load, connection=connection)
    staged = reader.staged
    return Fetched(full=True, read=staged.read, new=staged.new, changed=staged.changed, gone=gone)


def _ask_for_unlisted(scope: Scope, client: QuickBooksClient, load: int) -> int:
    """Query each customer that the list did not show; return the number that are gone.

    Some of them were created after the list began, and a webhook staged them.
    """
    gone = 0
    while True:
        with scope.database.begin() as connection:
            ids = customers.missing_from_load(
                connection, sync=scope.name, seen_in=load, most=UNLISTED_AT_A_TIME
            )
        if not ids:
            return gone
        gone += _fetch_by_ids(scope, client, ids, seen_in=load).gone


def _accounted(scope: Scope, client: QuickBooksClient, load: int, expected: int) -> int:
    """Return how many records the load listed. Those with the Id of another count, if need be."""
    listed = _listed(scope, load)
    return listed if listed >= expected else listed + client.copied()


def _listed(scope: Scope, load: int) -> int:
    with scope.database.begin() as connection:
        listed = customers.count_known(connection, sync=scope.name, seen_in=load)
        return listed + unreadable.count_unstaged(connection, sync=scope.name, seen_in=load)


def _read_again(scope: Scope, client: QuickBooksClient, *, before: datetime) -> Fetched:
    """Read customers again that could not be read before: not every repair is a change."""
    with scope.database.begin() as connection:
        ids = unreadable.ids(
            connection,
            sync=scope.name,
            system=unreadable.QUICKBOOKS,
            most=RETRIED_AT_ONCE,
            before=before,
        )
    if not ids:
        return Fetched(full=False, read=0, new=0, changed=0, gone=0)
    return _fetch_by_ids(scope, client, ids)


def _changed(
    scope: Scope, client: QuickBooksClient, cursor: dict[str, Any], on_read: OnRead
) -> Fetched | None:
    """Stage changes since the watermark; return None if only a full load can detect deletions."""
    started = scope.clock()
    watermark = _time(cursor.get("watermark"))
    tombstones_at = _time(cursor.get("tombstones_at"))
    if watermark is None or tombstones_at is None:
        return None
    with scope.database.begin() as connection:
        asked = server_time(connection)
    reader = _Reader(scope, client, on_read)
    reader.read(watermark - OVERLAP)
    read_at = _now(scope, client)
    if watermark > read_at + OVERLAP:
        return None  # from a release that took over a time to come: what it skipped is unknown
    again = _read_again(scope, client, before=asked)
    staged = reader.staged + Staged(read=again.read, new=again.new, changed=again.changed)
    gone = 0
    delta = staged.new + staged.changed + staged.touched
    if delta or cursor.get("told") or started - tombstones_at > TOMBSTONES_AT_LEAST:
        tombstones = (
            UNKNOWN_TOMBSTONES  # a delta of this size leaves no room for tombstones in the response
        )
        if staged.read < CDC_CAP:
            tombstones = client.fetch_tombstones(since=tombstones_at - OVERLAP)
        if tombstones.truncated:
            with scope.database.begin() as connection:
                known = customers.count_known(connection, sync=scope.name)
                known += unreadable.count_unstaged(connection, sync=scope.name)
            if client.count() < known:
                return None
        tombstones_at = tombstones.server_time or _now(scope, client)
        with scope.database.begin() as connection:
            gone = customers.mark_gone(connection, sync=scope.name, ids=tombstones.ids)
    gone += again.gone
    with scope.database.begin() as connection:
        latest = min(read_at, max(filter(None, [watermark, reader.watermark])))
        _advance(scope, cursor, latest, tombstones_at, load=None, connection=connection)
    return Fetched(full=False, read=staged.read, new=staged.new, changed=staged.changed, gone=gone)


def _advance(
    scope: Scope,
    cursor: dict[str, Any],
    watermark: datetime | None,
    tombstones_at: datetime,
    *,
    load: int | None,
    connection: Connection,
) -> None:
    cursors.put(
        connection,
        sync=scope.name,
        name=_CURSOR,
        value={
            "watermark": (watermark or tombstones_at).isoformat(),
            "tombstones_at": tombstones_at.isoformat(),
            "load": load if load is not None else cursor.get("load", 0),
            "mapping": _mapping(scope, connection),
        },
    )


def _now(scope: Scope, client: QuickBooksClient) -> datetime:
    """Return QuickBooks' time: its clock at the last response, or ours if it had none."""
    if client.server_time is None:
        return scope.clock()
    skew = client.server_time - scope.clock()
    note_skew(scope, "quickbooks", skew, overlap=OVERLAP)
    return client.server_time


def _time(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
