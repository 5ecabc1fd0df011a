"""Write subscriber activity to QuickBooks customers: the only writer there.

Writes are optimistic, because QuickBooks meters reads and not writes (promise 5). The writer sends
batches with the SyncToken and Notes of the staged copy. If a customer was changed in QuickBooks
first, the write conflicts. The writer then reads these customers together, applies the text to
their current Notes, and writes again.

Each customer's outcome commits with its audit row. A customer that already shows its text needs no
write. A worker killed at any point leaves customers that are either settled or still due. Writing a
due customer again is harmless.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import structlog
from sqlalchemy import Connection

from ml_connector.activity.notes import (
    Result,
    action_of,
    attach_item,
    detach_item,
    iter_attached,
    markers_of,
    notes_item,
    write_items,
)
from ml_connector.audit import trail
from ml_connector.audit.trail import Entry
from ml_connector.errors import ConnectorError, RecordRefused, StaleObject
from ml_connector.model import Customer, MemberEvent, Status
from ml_connector.quickbooks.client import IDS_PER_QUERY, QuickBooksClient
from ml_connector.quickbooks.protocol import BatchItem
from ml_connector.rules.notes_block import MAX_EVENTS, ContactSummary, render_lines
from ml_connector.scope import Scope
from ml_connector.store import activity_queue, customers, intents, member_events
from ml_connector.store.activity_queue import NO_CONTACT, ClaimedBlock, SettledActivity, Slice
from ml_connector.sync import edits, preflight, targets
from ml_connector.sync.custom_fields import CustomFields
from ml_connector.sync.fetch_customers import ids_of
from ml_connector.sync.staging import stage_rows, stage_written

TRIES = 5
"""Attempts per customer in one run. Then it is parked for the next run (B7)."""

log = structlog.get_logger(__name__)


def write_activity(
    scope: Scope, client: QuickBooksClient, *, part: Slice | None = None
) -> dict[str, int]:
    """Write the queued activity; return the number of customers by outcome.

    Raises ``SettingsError`` if the connection points to another company than the customers' (A40).
    """
    preflight.pin_company(scope, client)
    writer = _Writer(scope, client, part or Slice())
    while writer.write_next() or writer.read_again():
        pass
    return dict(writer.counts)


@dataclass
class _CustomerWrite:
    """One customer of a batch: the wanted text, the items that write it, their outcome."""

    due: ClaimedBlock
    customer: Customer
    events: Sequence[MemberEvent]
    notes: str | None = None
    note: str | None = None
    items: list[BatchItem] = field(default_factory=list)
    written: list[tuple[BatchItem, Result]] = field(default_factory=list)
    attachment: tuple[str, str] | None = None
    """Id and SyncToken of the note to write, empty for a new one. None if no note is wanted."""
    note_shown: bool = False
    """Whether the note was looked for, and shows the wanted text already."""
    intent: bytes = b""
    """Digests of the texts that an earlier call may have written, its outcome unknown."""


class _Writer:
    def __init__(self, scope: Scope, client: QuickBooksClient, part: Slice) -> None:
        self._scope, self._client, self._part = scope, client, part
        self._write_to = scope.sync.activity.write_to
        self._zone = ZoneInfo(scope.sync.timezone)
        with scope.database.begin() as connection:
            self._names = targets.field_names(scope.sync, connection)
        self._announced: dict[str, datetime] = {}
        size = scope.sync.activity.batch_size
        self._most = max(1, size // 2) if self._write_to == "both" else size
        self._limit = self._most
        self.counts: Counter[str] = Counter()

    def write_next(self) -> bool:
        """Write one batch; return whether anything was due."""
        with self._scope.database.begin(patient=True) as connection:
            rows = self._claim(connection, "due", self._limit)
            pages = self._ready(connection, [due for due in rows if due.writable])
            left = [self._left(due) for due in rows if not due.writable]
            self._intend(connection, pages)
            try:
                request_id = self._send(pages)
            except RecordRefused as error:
                request_id = error.request_id
                for page in pages:
                    page.written = [(item, error) for item in page.items]
                self._end_intents(connection, pages)
                # QuickBooks refused the call as a whole. Halve it until the faulty customer is
                # alone.
                if len(pages) > 1:
                    self._limit, pages = len(pages) // 2, []
            else:
                self._limit = min(self._most, 2 * self._limit)
            self._settle(connection, pages, left, request_id)
        return bool(rows)

    def read_again(self) -> bool:
        """Stage up to 100 customers that QuickBooks changed first; return whether any were."""
        scope = self._scope
        with scope.database.begin(patient=True) as connection:
            rows = self._claim(connection, "stale", IDS_PER_QUERY)
            if not rows:
                return False
            ids = [due.customer_id for due in rows]
            found = self._client.fetch_by_ids(ids)
            CustomFields(scope, self._client).check(found)
            stage_rows(scope, connection, found)
            gone = set(ids) - ids_of(found)
            customers.mark_gone(connection, sync=scope.name, ids=gone)
            again = [self._kept(due, state="due") for due in rows]
            activity_queue.settle(connection, again, sync=scope.name)
        return True

    def _claim(self, connection: Connection, state: str, limit: int) -> list[ClaimedBlock]:
        return activity_queue.claim(
            connection, sync=self._scope.name, state=state, part=self._part, limit=limit
        )

    # ── build the writes ──────────────────────────────────────────────────────────────────────────

    def _ready(self, connection: Connection, rows: Sequence[ClaimedBlock]) -> list[_CustomerWrite]:
        """Return the first of ``rows`` that fit into one batch; the others stay due."""
        pages: list[_CustomerWrite] = []
        room = self._scope.sync.activity.batch_size
        for due in rows:
            page = self._page(connection, due)
            if not self._with_note(connection, page):
                continue
            room -= len(page.items)
            if pages and room < 0:
                break
            pages.append(page)
        return pages

    def _page(self, connection: Connection, due: ClaimedBlock) -> _CustomerWrite:
        scope = self._scope
        customer = customers.decrypted(
            due.payload, sync=scope.name, customer_id=due.customer_id, vault=scope.vault
        )
        keys = [bytes(key) for key in (due.email_key, due.alias_of) if key]
        events = member_events.newest(
            connection, sync=scope.name, keys=keys, limit=MAX_EVENTS, vault=scope.vault
        )
        page = _CustomerWrite(due, customer, events)
        markers = markers_of(scope, due.customer_id)
        lines = render_lines(self._summary(connection, due, events), self._zone)
        wanted = customer.notes
        fitted = markers.into(customer.notes, lines) if self._write_to != "attachment" else None
        wanted = markers.out_of(customer.notes) if fitted is None else fitted
        if wanted != customer.notes:
            page.notes = wanted
            page.items.append(notes_item(customer.id, customer.sync_token, wanted))
        if fitted is None or self._write_to == "both":
            page.note = markers.block(lines)
        return page

    def _summary(
        self, connection: Connection, due: ClaimedBlock, events: Sequence[MemberEvent]
    ) -> ContactSummary:
        scope = self._scope
        moved = (each for each in events if each.kind == "address_changed" and each.detail)
        address = next((each.detail["email"] for each in moved if each.detail), None)
        return ContactSummary(
            status=Status(due.status) if due.status else None,
            since=due.status_since,
            engagement=due.engagement,
            last_engaged=due.last_engaged_at,
            last_clicked=due.last_clicked_at,
            address=address if due.alias_of else None,
            events=events,
            suggestions=edits.suggestions(scope, connection, bytes(due.email_key), self._names)
            if due.email_key
            else (),
            names=self._names,
            values=scope.sync.activity.values,
        )

    def _with_note(self, connection: Connection, page: _CustomerWrite) -> bool:
        """Add the attached note's item; return False if the customer must be claimed again first.

        The intent to create a note is committed before the call, because a second creation looks
        like the first. Only the worker that announced it last creates the note. Any other worker
        searches for it. A note that is no longer wanted is deleted.
        """
        due = page.due
        if page.note is None and not due.attachment_id and not due.attaching:
            return True
        found = (due.attachment_id or "", due.attachment_token or "")
        mine = due.settled_at is not None and self._announced.get(due.customer_id) == due.settled_at
        if due.attaching and not due.attachment_id and not mine:
            found, text = self._find_note(due.customer_id)
            page.note_shown = text is not None and text == page.note
        if page.note is not None and not found[0] and not mine:
            self._announced[due.customer_id] = activity_queue.record_note_intent(
                connection, sync=self._scope.name, customer_id=due.customer_id
            )
            return False
        page.attachment = found
        if page.note is not None and not page.note_shown:
            page.items.append(attach_item(due.customer_id, page.note, attachment=found))
        elif page.note is None and found[0]:
            page.items.append(detach_item(found))
        return True

    def _find_note(self, customer_id: str) -> tuple[tuple[str, str], str | None]:
        markers = markers_of(self._scope, customer_id)
        return next(iter_attached(self._client, customer_id, markers), (("", ""), None))

    # ── send and settle ───────────────────────────────────────────────────────────────────────────

    def _send(self, pages: Sequence[_CustomerWrite]) -> str | None:
        items = [item for page in pages for item in page.items]
        if not items:
            return None
        operation_id = f"activity/{self._scope.name}"
        written, request_id = write_items(self._client, items, operation_id=operation_id)
        results = iter(written)
        for page in pages:
            page.written = [next(results) for _ in page.items]
        return request_id

    def _settle(
        self,
        connection: Connection,
        pages: Sequence[_CustomerWrite],
        left: Sequence[SettledActivity],
        request_id: str | None,
    ) -> None:
        scope = self._scope
        outcomes = [self._outcome(page) for page in pages]
        activity_queue.settle(connection, [*outcomes, *left], sync=scope.name)
        rows = [
            result
            for page in pages
            for item, result in page.written
            if item.entity == "Customer" and isinstance(result, dict)
        ]
        copies = {page.due.customer_id: page.customer for page in pages}
        stage_written(scope, connection, self._client.checked(rows), copies)
        for page, outcome in zip(pages, outcomes, strict=True):
            if outcome.state == "shown":
                keys = [bytes(key) for key in (page.due.email_key, page.due.alias_of) if key]
                member_events.mark_written(
                    connection, sync=scope.name, keys=keys, until=page.due.claimed_at
                )
        self._end_intents(connection, pages)
        entries = [
            entry
            for page, outcome in zip(pages, outcomes, strict=True)
            for entry in (
                *self._entries(page, outcome, request_id),
                *self._unknown_outcome(page),
            )
        ]
        trail.append(connection, entries, run=scope.run, vault=scope.vault)
        for outcome in outcomes:
            self.counts[outcome.state] += 1
        if outcomes:
            log.info("activity_written", sync=scope.name, **self.counts)

    def _outcome(self, page: _CustomerWrite) -> SettledActivity:
        due = page.due
        settled = self._kept(due, state="shown")
        if page.attachment is not None:
            found, token = page.attachment
            settled = replace(
                settled,
                attachment_id=found or None,
                attachment_token=token or None,
                attaching=due.attaching and page.note is not None and not page.note_shown,
            )
        for item, result in page.written:
            if item.operation == "delete" and isinstance(result, dict | RecordRefused):
                # A note edited by a person is theirs.
                settled = replace(settled, attachment_id=None, attachment_token=None)
                continue
            if isinstance(result, dict):
                if item.entity == "Attachable":
                    settled = replace(
                        settled,
                        attachment_id=str(result["Id"]),
                        attachment_token=str(result["SyncToken"]),
                        attaching=False,
                    )
                continue
            settled = self._not_written(due, settled, item, result)
        if settled.state in ("shown", "refused"):
            shown_key = due.email_key or due.own_key or NO_CONTACT
            return replace(settled, attempts=0, shown_key=shown_key, shown_events=due.events)
        return settled

    def _not_written(
        self,
        due: ClaimedBlock,
        settled: SettledActivity,
        item: BatchItem,
        result: ConnectorError | None,
    ) -> SettledActivity:
        attempts = due.attempts + 1
        error = str(result) if result else "QuickBooks' response does not mention this customer"
        tried = replace(settled, attempts=attempts, error=error)
        if item.entity == "Attachable" and isinstance(result, RecordRefused) and due.attachment_id:
            # Edited or deleted by a person. Look it up, and create it again if it is gone.
            tried = replace(tried, attachment_id=None, attachment_token=None, attaching=True)
        elif isinstance(result, RecordRefused) and not isinstance(result, StaleObject):
            return replace(tried, state="refused")
        if attempts >= TRIES:
            return replace(tried, state="parked")
        stale = item.entity == "Customer" and isinstance(result, StaleObject)
        return replace(tried, state="stale" if stale or settled.state == "stale" else "due")

    def _left(self, due: ClaimedBlock) -> SettledActivity:
        """Park a customer that is gone or inactive since it was queued (B8)."""
        return self._kept(due, state="parked")

    @staticmethod
    def _kept(due: ClaimedBlock, *, state: str) -> SettledActivity:
        return SettledActivity(
            customer_id=due.customer_id,
            state=state,
            attempts=due.attempts,
            attachment_id=due.attachment_id,
            attachment_token=due.attachment_token,
            attaching=due.attaching,
        )

    def _intend(self, connection: Connection, pages: Sequence[_CustomerWrite]) -> None:
        """Commit the texts about to be written. If a lost call wrote them, they are the connector's."""
        ids = [page.due.customer_id for page in pages]
        left = intents.left_notes(connection, ids, sync=self._scope.name)
        for page in pages:
            page.intent = left.get(page.due.customer_id, b"")
        digest = self._scope.vault.fields_hash
        texts = {p.due.customer_id: digest(p.notes) + digest(p.note) for p in pages if p.items}
        with self._scope.database.begin() as at_once:
            intents.put_notes(at_once, texts, sync=self._scope.name)

    def _end_intents(self, connection: Connection, pages: Sequence[_CustomerWrite]) -> None:
        """Delete the intents of calls whose outcome is known.

        A refusal after a lost call is not known: that call may be what it conflicts with.
        """
        known = [
            page.due.customer_id
            for page in pages
            if all(
                isinstance(result, dict if page.intent else (dict, RecordRefused))
                for _, result in page.written
            )
        ]
        intents.end_notes(connection, known, sync=self._scope.name)

    def _unknown_outcome(self, page: _CustomerWrite) -> list[Entry]:
        """Return the audit rows of what a lost call of ours wrote: Notes, an attached note (D7).

        The worker died before it stored the response, or the response left this customer out.
        """
        customer, digest, items = page.customer, self._scope.vault.fields_hash, []
        if page.notes is None and page.intent.startswith(digest(customer.notes)):
            items.append(notes_item(customer.id, customer.sync_token, customer.notes))
        note = page.note or ""
        if page.note_shown and page.attachment and page.intent.endswith(digest(note)):
            items.append(attach_item(customer.id, note, attachment=page.attachment))
        found = replace(page, notes=customer.notes, written=[(item, {}) for item in items])
        return [
            msgspec.structs.replace(entry, before=None)
            for entry in self._entries(found, self._kept(page.due, state="shown"), None)
        ]

    def _entries(
        self, page: _CustomerWrite, outcome: SettledActivity, request_id: str | None
    ) -> list[Entry]:
        due = page.due
        newest = page.events[0] if page.events else None
        entries = []
        for item, result in page.written:
            notes = item.entity == "Customer"
            written = {"notes": page.notes} if notes else {"attachment": page.note}
            stale = isinstance(result, StaleObject)
            failed = "conflict" if stale else "parked" if outcome.state == "parked" else "failed"
            entries.append(
                Entry(
                    sync=self._scope.name,
                    system="quickbooks",
                    action=action_of(item),
                    reason=newest.kind if newest else str(due.status or "no_contact"),
                    outcome="applied" if isinstance(result, dict) else failed,
                    cause=f"event:{newest.id}" if newest else "contact",
                    customer_id=due.customer_id,
                    email_key=due.email_key,
                    error=None if isinstance(result, dict) else str(result or outcome.error),
                    attempts=due.attempts + 1,
                    request_id=request_id,
                    before={"notes": page.customer.notes} if notes else None,
                    after=written,
                    origin=self._scope.origins.get(due.customer_id),
                )
            )
        return entries
