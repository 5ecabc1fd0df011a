"""Client of Mailchimp: read one audience and write its members.

Every write is safe to repeat: it is an upsert, or its refusal is checked against the member.
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from msgspec import structs

from ml_connector.errors import (
    AudienceNotReady,
    CallRefused,
    QuotaExhausted,
    RecordRefused,
    ResponseLost,
    StopRun,
    Unavailable,
)
from ml_connector.mailchimp import listing, protocol
from ml_connector.mailchimp.listing import Listed
from ml_connector.mailchimp.read_ahead import ReadAhead
from ml_connector.model import (
    BatchResult,
    Campaign,
    EmailActivity,
    Member,
    MemberWrite,
    MergeField,
    MergeValue,
    Page,
    Status,
    Unreadable,
    numbered,
    page_of,
)
from ml_connector.wire.formats import plain_text, response_time
from ml_connector.wire.retries import Retries
from ml_connector.wire.transport import Request, Transport

TICK = timedelta(seconds=1)
"""The resolution of ``last_changed``."""

CLOCKS_DIFFER = timedelta(days=1)
"""A change that lies further in the future was not made then."""

LOST_ANSWER_WAIT = 5.0
"""Seconds: a call that timed out here may still occupy one of the account's 10 connections."""

MAX_REREADS = 20
"""How often in a row the client rereads a page because rows before it moved away."""

Document = dict[str, Any]


class MailchimpClient:
    """Client for one audience.

    ``base_url`` ends in ``/3.0`` (``protocol.base_url_of``). ``auth`` holds the headers
    (``protocol.auth_headers``). ``pace`` is called before every call and may wait. ``calls`` counts
    every call sent, by kind: ``mailchimp.members``, ``.batch``, ``.put`` ... ``member_fields``:
    parts of a member to list besides those that always are, ``interests`` or ``language``.
    ``pages_at_a_time``: how many pages of listings are read in parallel, a connection each.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        base_url: str,
        audience_id: str,
        auth: Mapping[str, str],
        pace: Callable[[], None],
        retries: Retries,
        calls: Counter[str],
        page_size: int = protocol.MAX_COUNT,
        pages_at_a_time: int = 1,
        member_fields: Sequence[str] = (),
    ) -> None:
        self._transport = transport
        self._base_url = base_url
        self._audience_id = audience_id
        self._auth = auth
        self._pace = pace
        self._retries = retries
        self._calls = calls
        self._page_size, self._pages_at_a_time = page_size, pages_at_a_time
        self._listing = threading.Semaphore(pages_at_a_time)
        self._member_fields = member_fields
        self._tag_ids: dict[str, int] = {}
        self.server_time: datetime | None = None
        """Mailchimp's clock at the last response; None if no response had it."""

    # ── account and audience ──────────────────────────────────────────────────────────────────

    def account(self) -> Document:
        """Return the account: ``account_name``, ``pricing_plan_type`` and more."""
        return self._call("account", "GET", "")

    def audiences(self) -> Sequence[Document]:
        """Return the account's audiences: ``id``, ``name`` and counts of contacts in ``stats``.

        https://mailchimp.com/developer/marketing/api/lists/get-lists-info/
        """
        params = {
            "count": str(protocol.MAX_COUNT),
            "fields": "lists.id,lists.name,lists.stats.member_count,lists.stats.unsubscribe_count",
        }
        found = protocol.objects(self._call("audiences", "GET", "lists", params=params), "lists")
        return [dict(each) for each in found]

    def non_subscribed(self, audience_id: str) -> int:
        """Return how many contacts of an audience of the account get transactional mail only.

        Mailchimp bills them, and ``stats`` leaves them out.
        """
        params = {"status": "transactional", "count": "0", "fields": "total_items"}
        path = f"lists/{audience_id}/members"
        found = self._call("members", "GET", path, params=params).get("total_items", 0)
        return found if isinstance(found, int) else 0

    def audience(self) -> Document:
        """Return the audience: ``name``, ``double_optin``, ``stats`` ...

        Raises ``AudienceNotReady`` if the account has no such audience.
        """
        return self._in_audience("audience", "GET", "")

    def merge_fields(self) -> list[MergeField]:
        """Return the audience's merge fields."""
        document = self._in_audience(
            "merge_fields", "GET", "/merge-fields", params={"count": str(protocol.MAX_COUNT)}
        )
        found = protocol.objects(document, "merge_fields")
        return [protocol.parse_merge_field(each) for each in found]

    def create_merge_field(self, tag: str, name: str, type: str) -> MergeField:  # noqa: A002
        """Add a merge field that is optional and not shown on sign-up forms."""
        body = {"tag": tag, "name": name, "type": type, "required": False, "public": False}
        document = self._in_audience("create_merge_field", "POST", "/merge-fields", body=body)
        return protocol.parse_merge_field(document)

    def interest_categories(self) -> dict[str, str]:
        """Return the ids of the audience's categories of groups by title.

        https://mailchimp.com/developer/marketing/api/interest-categories/
        """
        params = {"count": str(protocol.MAX_COUNT)}
        document = self._in_audience("groups", "GET", "/interest-categories", params=params)
        return protocol.parse_named(document.get("categories"), "title", "id")

    def interests(self, category_id: str) -> dict[str, str]:
        """Return the ids of a category's groups by name."""
        params = {"count": str(protocol.MAX_COUNT)}
        path = f"/interest-categories/{category_id}/interests"
        document = self._in_audience("groups", "GET", path, params=params)
        return protocol.parse_named(document.get("interests"), "name", "id")

    def create_interest_category(self, title: str) -> None:
        """Add a category of groups that is not shown on sign-up forms."""
        body = {"title": title, "type": "hidden"}
        self._in_audience("create_group_category", "POST", "/interest-categories", body=body)

    # ── members ───────────────────────────────────────────────────────────────────────────────

    def iter_members(
        self, *, since: datetime | None, archived: bool = False
    ) -> Iterator[Page[Member]]:
        """Yield pages of members, longest unchanged first, changed about ``since`` or later.

        ``since`` None means all. A listing contains either all members but the archived ones, or
        only those. A member that changes during the read comes again, later. No other member is
        missed. Raises ``Unavailable`` if the listing has no stable order.

        The next page starts one second before the last time seen. It therefore does not matter
        whether Mailchimp's ``since_last_changed`` is inclusive. If many members share a second,
        this would read most of a page twice. There the offset advances instead, with one row of
        overlap, and so it does to pages that are read in parallel. A row that left the list shows
        as a shift of the overlap. The client then goes back page by page until a page begins with a
        row that was there before.
        """
        fetch = partial(self._page, archived=archived)
        with ReadAhead(fetch, size=self._page_size, pages=self._pages_at_a_time) as ahead:
            yield from self._iter_joined(ahead, since)

    def _iter_joined(self, ahead: ReadAhead, since: datetime | None) -> Iterator[Page[Member]]:
        offset, anchor, shifts = 0, listing.NOWHERE, 0
        reached = listing.START
        delivered: dict[str, datetime] = {}
        equal, former = Counter[str](), list[listing.Listed]()
        while True:
            page = ahead.page(since, offset)
            if anchor != listing.NOWHERE:
                follows = bool(page) and listing.place(page[0]) == anchor
            else:
                follows = offset == 0 or (
                    bool(page) and listing.was_there(page[0], delivered, reached)
                )
            if not follows:
                offset, anchor, shifts = (
                    max(0, offset - self._page_size),
                    listing.NOWHERE,
                    shifts + 1,
                )
                if shifts > MAX_REREADS:
                    raise Unavailable("Mailchimp: the list of members does not keep its order")
                continue
            if fresh := listing.fresh(page, former, delivered):
                shifts = 0
                yield page_of(listing.newest_each(numbered(fresh, equal)))
            if len(page) < self._page_size:
                return
            reached = max(reached, listing.changed(page[-1]))
            restart = (
                listing.changed(page[-1]) - TICK
                if listing.changed(page[-1]) > listing.START
                else listing.START
            )
            delivered = {key: time for key, time in delivered.items() if time >= restart}
            delivered |= {listing.key(member): listing.changed(member) for member in page}
            again = sum(listing.changed(member) >= restart for member in page)
            may_restart = again <= self._page_size // 2 and restart > (since or listing.START)
            if may_restart and not ahead.in_flight:
                since, offset, anchor, former = restart, 0, listing.NOWHERE, page
            else:
                offset, anchor, former = (
                    offset + len(page) - 1,
                    listing.place(page[-1]),
                    page[-1:],
                )

    def _page(
        self, since: datetime | None, offset: int, *, archived: bool
    ) -> tuple[list[Listed], int]:
        """Return a page and the number of members in the listing; 0 if the response has none."""
        params = protocol.members_params(
            since=since,
            archived=archived,
            offset=offset,
            count=self._page_size,
            further=self._member_fields,
        )
        with self._listing:
            document = self._in_audience(
                "members", "GET", "/members", params=params, shape=protocol.MembersPage
            )
        latest = self._latest()
        page = [
            protocol.parse_member(found, latest=latest) for found in document.get("members") or ()
        ]
        if len(page) >= self._page_size and all(isinstance(each, Unreadable) for each in page):
            raise StopRun(
                f"Mailchimp: not one of {len(page)} members can be read; nothing more is written."
                " The console lists the reasons; update ml-connector or ask Mailchimp"
            )
        total = document.get("total_items")
        return page, total if type(total) is int else 0

    def _latest(self) -> datetime | None:
        return None if self.server_time is None else self.server_time + CLOCKS_DIFFER

    def get(self, email: str) -> Listed | None:
        """Return a member, archived ones included; None if Mailchimp does not know the address."""
        member = self._read(self._member(email))
        # It was asked for by its address, whatever it says itself.
        return replace(member, email_address=email) if isinstance(member, Unreadable) else member

    def get_by_id(self, contact_id: str) -> Listed | None:
        """Return the member with this contact id, whatever its address is now; None if gone.

        A member keeps its contact id when it takes another address.
        https://mailchimp.com/developer/marketing/api/list-members/get-member-info/
        """
        member = self._read(f"{self._list()}/members/{contact_id}")
        return replace(member, record=contact_id) if isinstance(member, Unreadable) else member

    def _read(self, path: str) -> Listed | None:
        try:
            found = self._call("get", "GET", path)
        except RecordRefused as error:
            if error.code == "not_found":
                return None
            raise
        return protocol.parse_member(found, latest=self._latest())

    def complainants(self) -> set[str]:
        """Return the addresses that reported a mail to this audience as spam.

        A member's status does not show it: after a complaint it can be ``cleaned``, like a bounce.
        https://mailchimp.com/developer/marketing/api/list-abuse/list-abuse-reports/
        """
        found: set[str] = set()
        offset = 0
        while True:
            params = {
                "count": str(protocol.MAX_COUNT),
                "offset": str(offset),
                "fields": "abuse_reports.email_address",
            }
            with self._listing:
                page = self._in_audience("abuse_reports", "GET", "/abuse-reports", params=params)
            rows = page.get("abuse_reports") or []
            reports = protocol.objects(page, "abuse_reports")
            found |= {plain_text(row.get("email_address")).strip().lower() for row in reports}
            if len(rows) < protocol.MAX_COUNT:
                return found
            offset += len(rows)

    def upsert_batch(
        self, rows: Sequence[MemberWrite], *, update_existing: bool = True
    ) -> BatchResult:
        """Create or update up to 500 members; their addresses differ.

        Without ``update_existing`` Mailchimp refuses known members with ``member_exists``,
        unchanged. Raises ``CallRefused`` if Mailchimp refused the call as a whole: nothing was
        applied.
        """
        if not rows:
            return BatchResult(created=(), updated=(), refused=())
        document, request_id = self._batch(rows, update_existing=update_existing)
        return protocol.parse_batch(document, rows, request_id)

    def batch_contract(self) -> Literal["current", "status_required"]:
        """Return whether a batch may omit ``status``, as the current contract allows.

        Sends a batch of one member with an invalid address, so Mailchimp can never create it. It
        counts as a write call and writes nothing.
        """
        probe = MemberWrite(
            email_address="not-an-address", merge_fields={}, status_if_new=Status.TRANSACTIONAL
        )
        try:
            self._batch([probe])
        except CallRefused as error:
            if requires_status(error):
                return "status_required"
            if error.code == "invalid_email":
                return "current"
            raise
        return "current"

    def _batch(
        self, rows: Sequence[MemberWrite], *, update_existing: bool = True
    ) -> tuple[Document, str | None]:
        body = protocol.batch_body(rows, update_existing=update_existing)
        try:
            return self._answer(
                "batch", "POST", self._list(), body=body, shape=protocol.BatchDocument
            )
        except CallRefused:
            raise
        except RecordRefused as error:
            if error.code == "not_found":
                raise self._no_audience(error) from error
            raise CallRefused(
                error.message, code=error.code, request_id=error.request_id
            ) from error

    def put(self, row: MemberWrite) -> Member:
        """Create or update one member."""
        document, request_id = self._answer(
            "put", "PUT", self._member(row.email_address), body=protocol.member_body(row)
        )
        return _written(document, request_id)

    def patch(
        self,
        email: str,
        merge_fields: Mapping[str, MergeValue],
        *,
        further: Mapping[str, Any] | None = None,
    ) -> Member:
        """Update the merge fields of a known member; ``not_found`` if there is none.

        ``further``: more of the body (``protocol.further_body``). PATCH never creates a member.
        """
        body: Document = {"merge_fields": merge_fields, **(further or {})}
        document, request_id = self._answer("patch", "PATCH", self._member(email), body=body)
        return _written(document, request_id)

    def unsubscribe(self, email: str) -> Member:
        """Lower a known member to ``unsubscribed`` (A42); ``not_found`` if there is none.

        Carries no data, and is taken whatever data the member has: a member whose stored address is
        incomplete would refuse every other write.
        https://mailchimp.com/developer/marketing/api/list-members/update-list-member/
        """
        document, request_id = self._answer(
            "patch",
            "PATCH",
            self._member(email),
            params={"skip_merge_validation": "true"},
            body={"status": Status.UNSUBSCRIBED.value},
        )
        return _written(document, request_id)

    def permissions_of(self, email: str = "") -> dict[str, str]:
        """Return the ids of the audience's marketing permissions by text, as a member shows them.

        Without ``email`` any member serves; the result is empty if there is none.
        https://mailchimp.com/developer/marketing/docs/marketing-permissions/
        """
        if email:
            members = [self._call("get", "GET", self._member(email))]
        else:
            params = {"count": "1", "fields": "members.marketing_permissions"}
            found = self._in_audience("members", "GET", "/members", params=params)
            members = found.get("members") or []
        listed = [
            each.get("marketing_permissions") for each in members if isinstance(each, Mapping)
        ]
        return protocol.parse_named(next(iter(listed), []), "text", "marketing_permission_id")

    def give_permissions(self, email: str, ids: Sequence[str]) -> str | None:
        """Give a member marketing permissions; return the request id.

        Only for a contact created a moment ago: this raises what a person agreed to.
        """
        given = [{"marketing_permission_id": each, "enabled": True} for each in ids]
        body = {"marketing_permissions": given}
        return self._answer("patch", "PATCH", self._member(email), body=body)[1]

    def restore(self, row: MemberWrite) -> Member:
        """Restore an archived member with ``row.status``: the only write that sets a status."""
        if row.status is None:
            raise ValueError("a restored member needs the status it had")
        return self.put(structs.replace(row, status_if_new=None, tags=()))

    def archive(self, email: str) -> str | None:
        """Archive a member; return the request id. An archived member stays archived.

        Raises ``RecordRefused`` with ``not_found``, or with ``method_not_allowed`` for a pending or
        cleaned member, which Mailchimp does not archive.
        """
        try:
            return self._answer("archive", "DELETE", self._member(email))[1]
        except RecordRefused as error:
            # A retry after a lost response also ends here.
            if error.code == "method_not_allowed":
                member = self.get(email)
                if isinstance(member, Member) and member.status is Status.ARCHIVED:
                    return error.request_id
            raise

    def delete_for_good(self, email: str) -> str | None:
        """Permanently delete a member with all its personal data; return the request id.

        Mailchimp accepts the address again only if the person subscribes again. Raises
        ``RecordRefused`` with ``not_found`` if the address is no member's.
        https://mailchimp.com/developer/marketing/api/list-members/delete-list-member/
        """
        path = f"{self._member(email)}/actions/delete-permanent"
        return self._answer("delete_for_good", "POST", path)[1]

    def add_tags(self, email: str, names: Sequence[str], *, active: bool = True) -> str | None:
        """Add tags to a member, or remove them, without triggering tag automations.

        Returns the request id.
        """
        status = "active" if active else "inactive"
        body = {"tags": [{"name": name, "status": status} for name in names], "is_syncing": True}
        return self._answer("tags", "POST", f"{self._member(email)}/tags", body=body)[1]

    def untag(self, name: str, emails: Sequence[str]) -> tuple[str | None, set[str]]:
        """Remove a tag from up to 500 members in one call; a tag without members counts as removed.

        Returns the request id (None if no call was needed) and those of ``emails``, in lower case,
        that failed. A tag is a static segment, and one search finds its id.
        https://mailchimp.com/developer/marketing/api/list-segments/batch-add-or-remove-members/
        """
        segment = self._tag_ids.get(name.casefold()) or self._find_tag(name)
        if segment is None:
            return None, set()
        path = f"{self._list()}/segments/{segment}"
        try:
            document, request_id = self._answer(
                "untag", "POST", path, body={"members_to_remove": list(emails)}
            )
        except RecordRefused as error:
            if error.code == "not_found":
                return None, set()
            return None, {email.lower() for email in emails}
        left = [each.get("email_addresses") for each in protocol.objects(document, "errors")]
        named = [each for each in left if isinstance(each, list)]
        return request_id, {str(email).lower() for emails in named for email in emails}

    def _find_tag(self, name: str) -> int | None:
        found = self._in_audience("tag_search", "GET", "/tag-search", params={"name": name})
        for tag in protocol.objects(found, "tags"):
            if plain_text(tag.get("id")).isdecimal():
                self._tag_ids[plain_text(tag.get("name")).casefold()] = int(tag["id"])
        return self._tag_ids.get(name.casefold())

    # ── campaigns ─────────────────────────────────────────────────────────────────────────────

    def campaigns(self, *, since: datetime) -> list[Campaign]:
        """Return the campaigns sent to the audience after ``since``, in the order of sending."""
        params = partial(protocol.campaigns_params, self._audience_id, since)
        listed = map(protocol.parse_campaign, self._listed("campaigns", params))
        return sorted(
            (each for each in listed if each.id), key=lambda each: (each.sent_at or since, each.id)
        )

    def automations(self) -> list[Campaign]:
        """Return the mails of the audience's automations and journeys.

        These are in the list of reports, not in that of campaigns.
        """
        ours = (
            protocol.parse_campaign(row)
            for row in self._listed("reports", protocol.reports_params)
            if row.get("list_id") == self._audience_id
        )
        return [each for each in ours if each.id and each.is_automation]

    def _listed(
        self, name: str, params: Callable[[int], Mapping[str, str]]
    ) -> Iterator[Mapping[str, Any]]:
        offset = 0
        while True:
            page = self._call(name, "GET", name, params=params(offset))
            yield from protocol.objects(page, name)
            rows = len(page.get(name) or ())
            if rows < protocol.MAX_COUNT:
                return
            offset += rows

    def iter_email_activity(
        self, campaign: str, *, since: datetime | None
    ) -> Iterator[list[EmailActivity]]:
        """Yield pages of a campaign's e-mail activity after ``since``; None means all.

        A campaign deleted meanwhile yields nothing.
        """
        offset = 0
        while True:
            params = protocol.email_activity_params(since, offset)
            path = f"reports/{campaign}/email-activity"
            try:
                page = self._call("email_activity", "GET", path, params=params)
            except RecordRefused as error:
                if error.code == "not_found":
                    return
                raise
            emails = page.get("emails") or ()
            read = [protocol.parse_email_activity(found) for found in emails]
            if known := [each for each in read if each is not None]:
                yield known
            if len(emails) < protocol.MAX_COUNT:
                return
            offset += len(emails)

    # ── webhooks ──────────────────────────────────────────────────────────────────────────────────

    def webhooks(self) -> list[Document]:
        """Return the audience's webhooks: ``id``, ``url``, ``events``, ``sources`` ..."""
        params = {"count": str(protocol.MAX_COUNT)}
        found = self._in_audience("webhooks", "GET", "/webhooks", params=params)
        return [dict(each) for each in protocol.objects(found, "webhooks")]

    def create_webhook(self, settings: Mapping[str, Any]) -> Document:
        """Add a webhook. Only this response has its ``signing_secret``. Mailchimp calls ``url``."""
        return self._in_audience("create_webhook", "POST", "/webhooks", body=dict(settings))

    def update_webhook(self, webhook_id: str, settings: Mapping[str, Any]) -> Document:
        """Change a webhook's ``events`` or ``sources``."""
        path = f"{self._list()}/webhooks/{webhook_id}"
        return self._call("update_webhook", "PATCH", path, body=settings)

    def delete_webhook(self, webhook_id: str) -> None:
        """Delete a webhook; ignore a deleted one."""
        try:
            self._call("delete_webhook", "DELETE", f"{self._list()}/webhooks/{webhook_id}")
        except RecordRefused as error:
            if error.code != "not_found":
                raise

    # ── calls ─────────────────────────────────────────────────────────────────────────────────

    def _list(self) -> str:
        return f"lists/{self._audience_id}"

    def _member(self, email: str) -> str:
        return f"{self._list()}/members/{protocol.subscriber_hash(email)}"

    def _in_audience(
        self,
        kind: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Document | None = None,
        shape: Any = Any,
    ) -> Document:
        path = self._list() + path
        try:
            return self._call(kind, method, path, params=params, body=body, shape=shape)
        except RecordRefused as error:
            if error.code == "not_found":
                raise self._no_audience(error) from error
            raise

    def _no_audience(self, error: RecordRefused) -> AudienceNotReady:
        return AudienceNotReady(
            f"Mailchimp: this account has no audience {self._audience_id}; copy the audience id"
            " from the audience's settings into audience_id in syncs.yaml, or, if it is right,"
            " correct the connection's host: the API's base URL ends in /3.0",
            request_id=error.request_id,
        )

    def _call(
        self,
        kind: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        shape: Any = Any,
    ) -> Document:
        return self._answer(kind, method, path, params=params, body=body, shape=shape)[0]

    def _answer(
        self,
        kind: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        shape: Any = Any,
    ) -> tuple[Document, str | None]:
        call = protocol.request(method, self._base_url, path, params=params, body=body)
        call = replace(call, headers={**call.headers, **self._auth})
        try:
            return self._retries.call(lambda: self._send(kind, call, shape))
        except QuotaExhausted as error:
            raise QuotaExhausted(
                f"{error.message}. Mailchimp blocked or rate limited this account or network;"
                " nothing is lost. Once Mailchimp responds again (a block can last hours),"
                " clear the failed task",
                request_id=error.request_id,
            ) from error

    def _send(self, kind: str, call: Request, shape: Any) -> tuple[Document, str | None]:
        self._pace()
        self._calls[f"mailchimp.{kind}"] += 1
        try:
            response = self._transport.send(call)
        except ResponseLost as error:
            raise ResponseLost(error.message, retry_after=LOST_ANSWER_WAIT) from error
        self.server_time = response_time(response.headers) or self.server_time
        return protocol.read(response, shape), response.headers.get("x-request-id")


def requires_status(error: CallRefused) -> bool:
    """Return whether a batch was refused because its rows lack ``status`` (older contract)."""
    return re.search(r"\bstatus(_if_new)?\b", error.message) is not None


def _written(document: Document, request_id: str | None) -> Member:
    """Return the member that a write's response shows.

    Raises ``RecordRefused`` with ``unanswered`` if the response does not show it (A24a).
    """
    member = protocol.parse_member(document)
    if isinstance(member, Unreadable):
        raise RecordRefused(protocol.NO_OUTCOME, code="unanswered", request_id=request_id)
    return structs.replace(member, request_id=request_id)
