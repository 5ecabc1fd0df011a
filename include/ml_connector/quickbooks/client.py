"""Client of QuickBooks Online: read, count, look up and write customers.

QuickBooks meters reads and not writes (https://developer.intuit.com/app/developer/qbo/docs/learn/
limits-and-throttles). Pages therefore have the maximum size, and no row is read twice on purpose.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple, Protocol

import msgspec

from ml_connector.errors import (
    ConnectorError,
    CredentialsError,
    IncompleteRead,
    QueryRefused,
    QuotaExhausted,
    RecordRefused,
    TokenExpired,
)
from ml_connector.model import Page, Unreadable, anonymous, new_from, numbered, page_of
from ml_connector.quickbooks import protocol, statements
from ml_connector.quickbooks.copies import Copies, counted_twice, id_of, newest_only, updated_at
from ml_connector.quickbooks.order import WrongTimes, demand_order, in_order
from ml_connector.quickbooks.protocol import BatchItem
from ml_connector.wire.formats import plain_text, response_time
from ml_connector.wire.retries import Retries
from ml_connector.wire.transport import Request, Transport

IDS_PER_QUERY = 100
CDC_LOOK_BACK = timedelta(days=30)
CDC_MARGIN = timedelta(hours=1)
CDC_CAP = 1000
CLOCKS_DIFFER = timedelta(days=1)
"""An update that lies further in the future was not made then."""

PAGES_AT_A_TIME = 3
"""Of the ten calls that a realm may have in flight. More pages than the reader can process would
only wait: https://developer.intuit.com/app/developer/qbo/docs/learn/limits-and-throttles"""

MAX_NAMES = 100
"""Names of custom fields that a client remembers. QuickBooks has 12 a company at most."""

TICK = timedelta(seconds=1)
"""QuickBooks shows update times to the second, whatever it stores internally."""

Row = dict[str, Any]
_Mark = tuple[str, str, datetime | None]


class AccessTokens(Protocol):
    """Source of access tokens."""

    def current(self) -> str:
        """Return a token that QuickBooks should accept."""
        ...

    def renewed(self, rejected: str) -> str:
        """Return another token than ``rejected``, which QuickBooks refused."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstones:
    """Ids of customers deleted or merged since a given time.

    ``truncated``: the list may be incomplete, so a full comparison is due. ``server_time`` is
    QuickBooks' clock; None if QuickBooks was not asked.
    """

    ids: tuple[str, ...]
    server_time: datetime | None
    truncated: bool


UNKNOWN_TOMBSTONES = Tombstones(ids=(), server_time=None, truncated=True)
"""The result if the response is certain to be incomplete."""


class BatchResponse(NamedTuple):
    """Results of a batch by bId: the object as written or its error.

    An item without a response is absent.
    """

    results: dict[str, Row | ConnectorError]
    request_id: str | None


class QuickBooksClient:
    """Client for one company's customers.

    ``base_url`` has no path. ``pace`` is called before every call and may wait. ``pace_batch`` is
    called before a batch, which has a rate limit of its own. ``calls`` counts every call sent, by
    kind: ``quickbooks.query``, ``.cdc``, ``.companyinfo``, ``.batch``. ``custom_fields``: the names
    of those that customers are read with.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        base_url: str,
        realm_id: str,
        tokens: AccessTokens,
        pace: Callable[[], None],
        retries: Retries,
        calls: Counter[str],
        page_size: int = statements.MAX_RESULTS,
        pace_batch: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        custom_fields: Collection[str] = (),
    ) -> None:
        self._transport = transport
        self._base_url = base_url
        self._realm = realm_id
        self._tokens = tokens
        self._pace = pace
        self._retries = retries
        self._calls = calls
        self._page_size = page_size
        self._pace_batch = pace_batch
        self._clock = clock
        self._custom_fields = frozenset(name.casefold() for name in custom_fields)
        self.custom_fields_seen: set[str] = set()
        """Names of all custom fields that customers were read with, if any were asked for."""
        self.server_time: datetime | None = None
        """QuickBooks' clock at the last response; None if no response had it."""
        self.copies = Copies()
        """Ids that a response named more than once."""

    @property
    def realm_id(self) -> str:
        """The company's realm id."""
        return self._realm

    def iter_changed(
        self, *, since: datetime | None, until: datetime | None = None
    ) -> Iterator[Page[Row]]:
        """Yield pages of the customers last updated from ``since`` to ``until``, both included.

        None means without a bound. A customer that is updated during the read leaves the window, or
        comes again at its end. No other row is skipped, and none comes twice with the same update
        time.

        Offsets skip rows when an earlier row leaves the set. The next page therefore starts at the
        last time seen, and rows already delivered are dropped. A page within a single second cannot
        advance this way: see ``_iter_second``.

        A page that shows no row of the former one proves that the last time seen was wrong, or that
        its rows were updated meanwhile. The read then goes one second of that page back (A55e).

        Raises ``IncompleteRead`` if QuickBooks does not keep the requested order.
        """
        return self._iter_on(since, until, [], [], Counter())

    def _iter_on(
        self,
        floor: datetime | None,
        until: datetime | None,
        page: list[Row | Unreadable],
        times: Sequence[datetime],
        equal: Counter[str],
    ) -> Iterator[Page[Row]]:
        """Yield the pages after ``page``, whose ``times`` are in order; from ``floor`` on if empty."""
        wrong = WrongTimes()
        delivered = {_mark(row) for row in page}
        if page:
            floor = wrong.trusted(map(_second, times))[-1]
        while until is None or floor is None or floor <= until:
            former, (page, times) = page, self._page(floor, until, 1)
            if delivered and delivered.isdisjoint(map(_mark, page)):
                earlier = wrong.step_back(floor)
                if earlier is not None:
                    floor, page = earlier, former
                    continue
            new = new_from(page, former, id_of)
            rows = (
                row
                for place, row in enumerate(page)
                if _mark(row) not in delivered or (anonymous(row) and place >= new)
            )
            fresh = _page_of(numbered(rows, equal))
            if fresh or fresh.unreadable:
                yield fresh
            if len(page) < self._page_size:
                return
            seconds = wrong.trusted(map(_second, times))
            delivered = {_mark(row) for row in page}
            if len(seconds) == 1:
                total = yield from self._iter_second(seconds[-1], until, delivered, equal)
                # Rows without a time at the end of the page are of a later second.
                floor, page = seconds[-1] + TICK, page[total:]
                delivered = {_mark(row) for row in page}
                wrong.joined()
            else:
                floor = seconds[-1]

    def iter_listed(self, *, until: datetime, total: int) -> Iterator[Page[Row]]:
        """Yield pages of all customers last updated up to ``until``; read the pages in parallel.

        ``total``: the number of customers, from ``count``. Pages overlap by one row. Rows only
        leave the list. If the overlapping row is the same in both pages, no earlier row left in
        between, and the pages join. If not, the rest is read page by page as in ``iter_changed``.

        A caller that needs completeness must count the rows: QuickBooks promises no order among
        rows of one second.
        """
        starts = range(1, total + 1, max(1, self._page_size - 1))
        former: list[Row | Unreadable] = []
        reached: Sequence[datetime] = []
        equal = Counter[str]()
        with ThreadPoolExecutor(PAGES_AT_A_TIME, thread_name_prefix="pages") as pool:
            coming = [
                pool.submit(self._page, None, until, start) for start in starts[:PAGES_AT_A_TIME]
            ]
            further = iter(starts[PAGES_AT_A_TIME:])
            while coming:
                page, times = coming.pop(0).result()
                coming += [
                    pool.submit(self._page, None, until, start) for start in islice(further, 1)
                ]
                if former and [*map(_mark, page[:1])] != [_mark(former[-1])]:
                    break
                fresh = _page_of(numbered(page[1:] if former else page, equal))
                if fresh or fresh.unreadable:
                    yield fresh
                if len(page) < self._page_size:
                    return
                former, reached = page, times
        if former:
            yield from self._iter_on(None, until, former, reached, equal)

    def _page(
        self, since: datetime | None, until: datetime | None, start: int
    ) -> tuple[list[Row | Unreadable], Sequence[datetime]]:
        """Return the page from position ``start`` on, and the update times that are in order.

        A time outside the window is wrong: QuickBooks' own list has it inside.
        """
        page = self._rows(statements.changed_statement(since, until, start, self._page_size))
        told = [time for row in page if (time := updated_at(row)) is not None]
        times = in_order(
            [
                time
                for time in told
                if (since is None or time >= _second(since))
                and (until is None or _second(time) <= until)
            ]
        )
        if len(page) < self._page_size:
            return page, times
        if not told:
            raise IncompleteRead(
                f"QuickBooks: not one of {len(page)} customers can be read; nothing was planned."
                " The console lists the reasons; update ml-connector or ask Intuit"
            )
        demand_order(len(told), times)
        return page, times

    def _iter_second(
        self, second: datetime, until: datetime | None, delivered: set[_Mark], equal: Counter[str]
    ) -> Generator[Page[Row], None, int]:
        # One second has more rows than a page, as after a bulk import. Only offsets are left. The
        # set can only shrink, so read it from its end: a row that leaves moves no unread row to a
        # position already read.
        before = second + TICK
        total = self._total(statements.count_statement(second, until, before))
        starts = range(1, total + 1, self._page_size)
        for start in reversed(starts):
            statement = statements.changed_statement(
                second, until, start, self._page_size, before=before
            )
            fresh = [
                row
                for row in self._rows(statement)
                if _mark(row) not in delivered or (anonymous(row) and start > 1)
            ]
            delivered.update(_mark(row) for row in fresh if not anonymous(row))
            if fresh:
                yield _page_of(numbered(fresh, equal))
        return total

    def some(self, most: int) -> Page[Row]:
        """Return up to ``most`` customers, inactive ones included, in one call."""
        return _page_of(self._rows(statements.changed_statement(None, self._latest(), 1, most)))

    def count(self) -> int:
        """Return the number of customers, inactive ones included."""
        return self._total(statements.count_statement())

    def copied(self) -> int:
        """Return how many listed records share their Id with another one.

        Those that differ from each other are records that QuickBooks counts. Of equal ones it is
        asked: a row repeated in the place of another is no proof that both were listed.
        """
        equal = self.copies.equal
        ids, total = sorted(filter(_is_number, equal)), sum(self.copies.different.values())
        for first in range(0, len(ids), IDS_PER_QUERY):
            some = ids[first : first + IDS_PER_QUERY]
            total += counted_twice(equal, some, self._total(statements.count_ids_statement(some)))
        return total

    def fetch_by_ids(self, ids: Sequence[str]) -> Page[Row]:
        """Return these customers, inactive ones included; omit ids that are gone.

        An id that is no number is not asked for: QuickBooks refuses the query for all of them.
        """
        numbers = [each for each in ids if _is_number(each)]
        rows: list[Row | Unreadable] = []
        for first in range(0, len(numbers), IDS_PER_QUERY):
            rows += newest_only(self._named(numbers[first : first + IDS_PER_QUERY]))
        return page_of(rows)

    def _named(self, ids: Sequence[str]) -> list[Row | Unreadable]:
        """Return customers by id. A record without an id is read alone: it is not deleted."""
        found = self._rows(statements.ids_statement(ids))
        if all(row.has_id for row in found if isinstance(row, Unreadable)):
            return found
        if len(ids) == 1:
            return [replace(row, record=ids[0]) for row in found if isinstance(row, Unreadable)]
        known = [row for row in found if not isinstance(row, Unreadable) or row.has_id]
        there = {id_of(row) for row in known}
        return [*known, *(row for each in ids if each not in there for row in self._named([each]))]

    def customer_types(self) -> dict[str, str]:
        """Return the names of customer types by id."""
        return protocol.read_types(self._query(statements.customer_types_statement()))

    def fetch_tombstones(self, *, since: datetime) -> Tombstones:
        """Return the ids of customers merged or deleted since ``since``.

        Change data capture reaches back 30 days and lists at most 1,000 objects. Further back its
        response may omit changes without notice, so it is not called: ``UNKNOWN_TOMBSTONES``.
        """
        if since < self._clock() - CDC_LOOK_BACK + CDC_MARGIN:
            return UNKNOWN_TOMBSTONES
        document = self._call("cdc", protocol.cdc_request(self._base_url, self._realm, since))
        rows = protocol.read_changes(document)
        deleted = {plain_text(row.get("Id")) for row in rows if row.get("status") == "Deleted"}
        # An id that is listed as deleted and as there says neither.
        there = {plain_text(row.get("Id")) for row in rows if row.get("status") != "Deleted"}
        gone = deleted - there - {""}
        return Tombstones(
            ids=tuple(sorted(gone)),
            server_time=protocol.read_time(document),
            truncated=len(rows) >= CDC_CAP or gone != deleted,
        )

    def company(self) -> protocol.Company:
        """Return the company: the cheapest proof that keys, host and realm are right."""
        request = protocol.company_info_request(self._base_url, self._realm)
        return protocol.read_company(self._call("companyinfo", request))

    def write_batch(self, items: Sequence[BatchItem], *, operation_id: str) -> BatchResponse:
        """Write up to 30 independent ``items`` in one call.

        ``operation_id`` names the operation. QuickBooks applies the same id with the same items
        once, however often this process or its successor sends them.
        """
        content = msgspec.json.encode([operation_id, items])
        request = protocol.batch_request(
            self._base_url,
            self._realm,
            items,
            requestid=hashlib.sha256(content).hexdigest()[:32],
        )
        document, request_id = self._answer("batch", request)
        return BatchResponse(protocol.read_batch(document, request_id), request_id)

    def checked(self, rows: Sequence[Row]) -> Page[Row]:
        """Return the customers of a batch apart from those that cannot be read."""
        return protocol.check_rows(rows, latest=self._latest())

    def notes_of(self, customer_id: str) -> list[Row]:
        """Return the attachments of a customer."""
        statement = statements.attachables_statement(customer_id)
        return protocol.read_attachables(self._query(statement))

    def _rows(self, statement: str) -> list[Row | Unreadable]:
        document = self._query(statement, custom_fields=bool(self._custom_fields))
        if self._custom_fields and len(self.custom_fields_seen) < MAX_NAMES:
            self.custom_fields_seen |= protocol.custom_field_names(document)
        found = protocol.read_rows(document, self._custom_fields, latest=self._latest())
        self.copies.look(found)
        return found

    def _latest(self) -> datetime:
        return max(self._clock(), self.server_time or self._clock()) + CLOCKS_DIFFER

    def _total(self, statement: str) -> int:
        return protocol.read_total(self._query(statement))

    def _query(self, statement: str, *, custom_fields: bool = False) -> Row:
        request = protocol.query_request(
            self._base_url, self._realm, statement, custom_fields=custom_fields
        )
        try:
            return self._call("query", request)
        except RecordRefused as error:
            raise QueryRefused(
                f"{error.message.rstrip('.')} (code {error.code}). Nothing was planned. Run the sync"
                " again; if it stays so, ask Intuit with the request id, and look for a newer release",
                request_id=error.request_id,
            ) from error

    def _call(self, kind: str, request: Request) -> Row:
        return self._answer(kind, request)[0]

    def _answer(self, kind: str, request: Request) -> tuple[Row, str | None]:
        try:
            return self._retries.call(lambda: self._authorised(kind, request))
        except QuotaExhausted as error:
            raise QuotaExhausted(
                f"{error.message}. If it lasts, the month's reads may be used up (500,000 on the"
                " Builder plan; blocked until the next month): see the app's usage in the Intuit"
                " developer portal",
                request_id=error.request_id,
            ) from error

    def _authorised(self, kind: str, request: Request) -> tuple[Row, str | None]:
        token = self._tokens.current()
        try:
            return self._send(kind, request, token)
        except TokenExpired:
            token = self._tokens.renewed(token)
        try:
            return self._send(kind, request, token)
        except TokenExpired as error:
            raise CredentialsError(
                "QuickBooks: a fresh access token was refused too; check that client id,"
                " secret and host belong to the same app and environment, or connect again",
                request_id=error.request_id,
            ) from error

    def _send(self, kind: str, request: Request, token: str) -> tuple[Row, str | None]:
        self._pace()
        if kind == "batch":
            self._pace_batch()
        self._calls[f"quickbooks.{kind}"] += 1
        headers = {**request.headers, "Authorization": f"Bearer {token}"}
        response = self._transport.send(replace(request, headers=headers))
        self.server_time = response_time(response.headers) or self.server_time
        full = "include" in request.params
        document = protocol.read(response, custom_fields=full)
        return document, response.headers.get("intuit_tid")


def _is_number(id_: str) -> bool:
    return id_.isascii() and id_.isdecimal()


def _second(time: datetime) -> datetime:
    return time.replace(microsecond=0)


def _mark(row: Row | Unreadable) -> _Mark:
    """Return what identifies a record of a list in its present version."""
    updated = updated_at(row)
    token = "" if isinstance(row, Unreadable) else row["SyncToken"]
    return id_of(row), token, None if updated is None else _second(updated)


def _page_of(found: Iterable[Row | Unreadable]) -> Page[Row]:
    return page_of(newest_only(found))
