"""Mailchimp's Marketing API 3.0 as values: build requests, read responses. No I/O.

``problems`` interprets Mailchimp's status codes and problem documents. API:
https://mailchimp.com/developer/marketing/api/
"""

import base64
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

import idna
import msgspec

from ml_connector.errors import CredentialsError, Unavailable
from ml_connector.mailchimp import problems
from ml_connector.model import (
    BatchResult,
    Campaign,
    EmailActivity,
    Member,
    MemberWrite,
    MergeField,
    RowRefusal,
    Status,
    Unreadable,
    unreadable_record,
)
from ml_connector.wire.formats import decode_document, decode_shaped, format_time, plain_text
from ml_connector.wire.transport import Request, Response

MAX_ROWS = 500
"""Members in one batch at most:
https://mailchimp.com/developer/marketing/api/lists/batch-subscribe-or-unsubscribe/"""

MAX_COUNT = 1000
"""Rows of a listing at most; the default is 10:
https://mailchimp.com/developer/marketing/docs/methods-parameters/"""

TAGS_SHOWN = 50
"""Tags that a listing shows of a member:
https://mailchimp.com/developer/marketing/api/list-members/list-members-info/"""

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Other times are nonsense. These leave room to add to and to subtract from."""

NO_OUTCOME = "Mailchimp's response does not mention this row"

DATA_CENTRE = re.compile(r"[a-z]{2,4}\d{1,3}")


Text = str | int | float | None
Handle = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9:._-]{0,64}\Z")] | None
"""Stored as text, which takes no NUL in Postgres."""


class _Tag(TypedDict, total=False):
    name: Text


class _Member(TypedDict, total=False):
    """Fields read of a member; decoding skips the rest."""

    email_address: str | None
    status: str
    merge_fields: dict[str, Any] | None
    contact_id: Handle
    web_id: Any
    last_changed: str | None
    unsubscribe_reason: Text
    tags: list[_Tag] | None
    stats: Any
    member_rating: Any


class _BatchMember(TypedDict, total=False):
    """Fields read of a member in a batch response."""

    email_address: Any
    status: Any
    merge_fields: Any


class _FurtherMember(_Member, total=False):
    """Fields read of a member in a listing if they are asked for."""

    interests: dict[str, Any] | None
    language: Text


class MembersPage(TypedDict, total=False):
    """Fields read of a page of members."""

    members: list[_FurtherMember]
    total_items: Any


class BatchDocument(TypedDict, total=False):
    """Fields read of a batch response."""

    new_members: list[_BatchMember] | None
    updated_members: list[_BatchMember] | None
    errors: Any


_MEMBER_FIELDS = tuple(_Member.__annotations__)

_STATUSES = {status.value: status for status in Status}


def base_url_of(key: str, host: str = "") -> str:
    """Return the base URL up to and including ``/3.0``: ``host`` if given, else from the key.

    A host without a path gets ``/3.0``. The part of an API key after its dash names the account's
    data centre. Raises ``CredentialsError`` if there is no host and the key names no data centre.
    """
    if host:
        url = host.rstrip("/") if "://" in host else f"https://{host.rstrip('/')}"
        return url if "/" in url.partition("://")[2] else f"{url}/3.0"
    suffix = key.rpartition("-")[2]
    if "-" not in key or not DATA_CENTRE.fullmatch(suffix):
        raise CredentialsError(
            "Mailchimp: the key does not end in a data centre like -us19; copy the whole key into"
            " the connection's password, or put the API's base URL"
            " (https://us19.api.mailchimp.com/3.0) into its host"
        )
    return f"https://{suffix}.api.mailchimp.com/3.0"


def auth_headers(key: str) -> dict[str, str]:
    """Return the Authorization header: Basic for an API key, Bearer for an OAuth token."""
    if DATA_CENTRE.fullmatch(key.rpartition("-")[2]) and "-" in key:
        pair = base64.b64encode(f"ml-connector:{key}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {"Authorization": f"Bearer {key}"}


def subscriber_hash(email: str) -> str:
    """Return the MD5 of the lower-cased address, which identifies a member in Mailchimp."""
    return hashlib.md5(email.lower().encode(), usedforsecurity=False).hexdigest()


# ── requests ──────────────────────────────────────────────────────────────────────────────────


def request(
    method: str,
    base_url: str,
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> Request:
    """Return one call; ``path`` is relative to the base URL."""
    headers = {"Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return Request(
        method=method,
        url=f"{base_url.rstrip('/')}/{path}",
        params=params or {},
        headers=headers,
        body=None if body is None else msgspec.json.encode(body),
    )


def members_params(
    *,
    since: datetime | None,
    archived: bool,
    offset: int,
    count: int = MAX_COUNT,
    further: Sequence[str] = (),
) -> dict[str, str]:
    """Return the query of one page of members, longest unchanged first.

    ``further``: fields of a member to list besides those that always are.

    A listing without a status omits archived members, so these need a listing of their own.
    """
    params = {
        "count": str(count),
        "offset": str(offset),
        "sort_field": "last_changed",
        "sort_dir": "ASC",
        "fields": ",".join(
            ["total_items", *(f"members.{name}" for name in (*_MEMBER_FIELDS, *further))]
        ),
    }
    if since is not None:
        params["since_last_changed"] = format_time(since)
    if archived:
        params["status"] = Status.ARCHIVED.value
    return params


def campaigns_params(audience_id: str, since: datetime, offset: int) -> dict[str, str]:
    """Return the query of one page of an audience's campaigns sent after ``since``."""
    return {
        "list_id": audience_id,
        "status": "sent",
        "since_send_time": format_time(since),
        "count": str(MAX_COUNT),
        "offset": str(offset),
        "fields": "total_items,campaigns.id,campaigns.send_time",
    }


def reports_params(offset: int) -> dict[str, str]:
    """Return the query of one page of the account's reports, automations and journeys included.

    https://mailchimp.com/developer/marketing/api/reports/list-campaign-reports/
    """
    parts = ("id", "type", "list_id", "send_time", *map(".".join, _FIGURES))
    return {
        "count": str(MAX_COUNT),
        "offset": str(offset),
        "fields": ",".join(["total_items", *(f"reports.{name}" for name in parts)]),
    }


def email_activity_params(since: datetime | None, offset: int) -> dict[str, str]:
    """Return the query of one page of a campaign's report, recipient by recipient."""
    params = {
        "count": str(MAX_COUNT),
        "offset": str(offset),
        "fields": "total_items,emails.email_address,emails.activity",
    }
    return params | ({"since": format_time(since)} if since is not None else {})


def member_body(row: MemberWrite) -> dict[str, Any]:
    """Return a member's request body, without the values that ``row`` does not set."""
    body: dict[str, Any] = {"email_address": row.email_address}
    if row.merge_fields:
        body["merge_fields"] = row.merge_fields
    if row.tags:
        body["tags"] = list(row.tags)
    body |= further_body(row)
    if row.status_if_new is not None:
        body["status_if_new"] = row.status_if_new
    if row.status is not None:
        body["status"] = row.status
    return body


def further_body(row: MemberWrite) -> dict[str, Any]:
    """Return the part of a member's body that most rows do not have: groups and language."""
    body: dict[str, Any] = {"interests": row.interests} if row.interests else {}
    return body | ({"language": row.language} if row.language else {})


def batch_body(rows: Sequence[MemberWrite], *, update_existing: bool = True) -> dict[str, Any]:
    """Return the body of a batch subscribe; tags are added to a member's own.

    Without ``update_existing`` Mailchimp refuses a known member with ``member_exists``, unchanged.
    Raises ``ValueError`` for more than 500 rows.
    """
    if len(rows) > MAX_ROWS:
        raise ValueError(f"a batch takes {MAX_ROWS} members, not {len(rows)}")
    return {"members": [member_body(row) for row in rows], "update_existing": update_existing}


# ── responses ─────────────────────────────────────────────────────────────────────────────────


def read(response: Response, shape: Any = Any) -> dict[str, Any]:
    """Return the response's document (``{}`` for a 204), or raise the error its problem means.

    ``shape``: the TypedDict to decode if the response is successful.
    """
    request_id = response.headers.get("x-request-id")
    good = 200 <= response.status < 300
    document = decode_shaped(response.body, shape) if good and shape is not Any else None
    document = decode_document(response.body) if document is None else document
    if good:
        if document is not None and _has_lists(document):
            return document
        if response.status == 204:  # an empty 200 was cut off: it is no empty list
            return {}
        raise Unavailable("Mailchimp: the response is not JSON", request_id=request_id)
    raise problems.error_of(response, document, request_id)


def parse_time(text: str) -> datetime | None:
    """Return Mailchimp's time as aware UTC; ``""`` is None."""
    if not text:
        return None
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _time(text: object) -> datetime | None:
    """Return a time that can be true; None for anything else."""
    try:
        time = parse_time(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
    return time if time is not None and EARLIEST <= time < LATEST else None


def member_count(audience: Mapping[str, Any]) -> int | None:
    """Return how many subscribed members an audience has; None if it does not say."""
    found = _mapping(audience.get("stats")).get("member_count")
    return found if isinstance(found, int) else None


def parse_member(row: object, *, latest: datetime | None = None) -> Member | Unreadable:
    """Return a member, or why it cannot be read; rows of a batch response lack some of its fields.

    ``latest``: a change later than this lies in the future. It would hide every later change.
    What an unknown status allows cannot be guessed, so such a member is not read.
    """
    try:
        found = msgspec.convert(row, _FurtherMember)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        return _unreadable(row, f"its {place[1]} has another form than it should" if place else "")
    status = _STATUSES.get(found.get("status", ""))
    if status is None:
        return _unreadable(
            row, "this version does not know its status" if "status" in found else ""
        )
    said = found.get("last_changed") or None
    last_changed = _time(said)
    if said and (last_changed is None or (latest is not None and last_changed > latest)):
        return _unreadable(row, "its last_changed is not a time in the past", timed=False)
    interests, language = found.get("interests"), found.get("language")
    stats = found.get("stats")
    opens, clicks = (
        (_percent(stats.get("avg_open_rate")), _percent(stats.get("avg_click_rate")))
        if isinstance(stats, dict)
        else (None, None)
    )
    rating, web_id = found.get("member_rating"), found.get("web_id")
    return Member(
        email_address=found.get("email_address") or "",
        status=status,
        contact_id=found.get("contact_id") or "",
        web_id=web_id if type(web_id) is int and 0 < web_id < 1 << 63 else None,
        last_changed=last_changed,
        unsubscribe_reason=plain_text(found.get("unsubscribe_reason")),
        merge_fields=found.get("merge_fields") or {},
        tags=tuple([plain_text(tag.get("name")) for tag in found.get("tags") or ()]),
        interests=(
            None if interests is None else tuple([each for each, on in interests.items() if on])
        ),
        language=None if language is None else plain_text(language),
        open_rate=opens,
        click_rate=clicks,
        rating=rating if type(rating) is int and 0 <= rating <= 5 else None,
    )


def _percent(rate: object) -> int | None:
    """Return a rate between 0 and 1 in per cent, rounded up: more than none is never 0."""
    if not isinstance(rate, int | float) or not 0 <= rate <= 1:
        return None
    return math.ceil(rate * 100)


def _unreadable(row: object, reason: str, *, timed: bool = True) -> Unreadable:
    """Return a member as unreadable. ``reason`` is empty if it is no object, or has no status."""
    told = row if isinstance(row, Mapping) else {}
    contact_id, email = told.get("contact_id"), told.get("email_address")
    return unreadable_record(
        row,
        reason or ("it has no status" if told else "it is not an object"),
        id_=contact_id if isinstance(contact_id, str) and _HANDLE.fullmatch(contact_id) else "",
        updated=_time(told.get("last_changed")) if timed else None,
        email_address=email if isinstance(email, str) else "",
    )


def parse_campaign(row: Mapping[str, Any]) -> Campaign:
    """Return a campaign or a report of a listing; ``id`` is empty if the row has none."""
    is_automation = row.get("type") in ("automation", "auto")
    return Campaign(
        id=plain_text(row.get("id")),
        sent_at=_time(row.get("send_time")),
        is_automation=is_automation,
        figures=tuple(_number(row, path) for path in _FIGURES) if is_automation else (),
    )


_FIGURES = (
    ("emails_sent",),
    ("opens", "opens_total"),
    ("clicks", "clicks_total"),
    ("bounces", "hard_bounces"),
    ("bounces", "soft_bounces"),
)


def _number(row: Any, path: Sequence[str]) -> int:
    """Return a number of a report, 0 if there is none at ``path``."""
    for name in path:
        row = _mapping(row).get(name)
    return row if type(row) is int else 0


def parse_email_activity(row: object) -> EmailActivity | None:
    """Return a recipient's latest open or click, soft bounce and hard bounce in a report.

    None if the recipient cannot be read. Entries that cannot be read do not count.
    """
    found = _mapping(row)
    if not isinstance(found.get("email_address"), str):
        return None
    opened: list[datetime] = []
    clicked: list[datetime] = []
    soft: list[datetime] = []
    hard: list[datetime] = []
    for each in objects(found, "activity"):
        time = _time(each.get("timestamp"))
        if time is None:
            continue
        if each.get("action") == "open":
            opened.append(time)
        elif each.get("action") == "click":
            clicked.append(time)
        elif each.get("action") == "bounce":
            (hard if each.get("type") == "hard" else soft).append(time)
    return EmailActivity(
        email_address=found["email_address"],
        engaged_at=max(opened + clicked, default=None),
        clicked_at=max(clicked, default=None),
        soft_bounce_at=max(soft, default=None),
        hard_bounce_at=max(hard, default=None),
    )


def parse_named(listed: Any, name: str, identity: str) -> dict[str, str]:
    """Return ids by name of what a response lists; entries without a name or an id are left out."""
    return {
        str(each[name]): str(each[identity])
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, Mapping) and each.get(name) and each.get(identity)
    }


def parse_merge_field(document: Mapping[str, Any]) -> MergeField:
    """Return a merge field of the audience."""
    options = _mapping(document.get("options"))
    choices = options.get("choices")
    return MergeField(
        tag=plain_text(document.get("tag")),
        name=plain_text(document.get("name")),
        type=plain_text(document.get("type")),
        required=document.get("required") is True,
        phone_format=plain_text(options.get("phone_format")),
        date_format=plain_text(options.get("date_format")),
        choices=tuple(map(plain_text, choices)) if isinstance(choices, list) else (),
    )


def parse_batch(
    document: Mapping[str, Any], rows: Sequence[MemberWrite], request_id: str | None = None
) -> BatchResult:
    """Return every row's result: created, updated or refused, each with the address we sent.

    A row counts as refused with code ``unanswered`` if the response names it twice, not at all, or
    in a form that cannot be read (A24a).
    """
    sent = {_key(row.email_address): row.email_address for row in rows}
    named = Counter(
        _key(each.get("email_address")) for kind in _RESULTS for each in objects(document, kind)
    )

    def once(kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for each in objects(document, kind):
            key = _key(each.get("email_address"))
            if named[key] == 1 and key in sent:
                yield sent[key], each

    def members(kind: str) -> tuple[Member, ...]:
        read = [(address, parse_member(each)) for address, each in once(kind)]
        return tuple(
            [
                msgspec.structs.replace(member, email_address=address)
                for address, member in read
                if isinstance(member, Member)
            ]
        )

    created, updated = members("new_members"), members("updated_members")
    refused = tuple(_refusal(address, each) for address, each in once("errors"))
    answered = {each.email_address for each in (*created, *updated)}
    answered |= {each.email_address for each in refused}
    unanswered = tuple(
        RowRefusal(
            email_address=row.email_address,
            code="unanswered",
            message=NO_OUTCOME,
        )
        for row in rows
        if row.email_address not in answered
    )
    return BatchResult(
        created=created, updated=updated, refused=refused + unanswered, request_id=request_id
    )


_RESULTS = ("new_members", "updated_members", "errors")


_LISTS = ("members", "emails", "campaigns", "reports", "abuse_reports", *_RESULTS)
_HANDLE = re.compile(r"[A-Za-z0-9:._-]{1,64}")
_PLACE = re.compile(r"at `\$\.(\w+)")


def _has_lists(document: Mapping[str, Any]) -> bool:
    """Return whether the lists of members are lists, whatever is in them."""
    return all(isinstance(document.get(name) or [], list) for name in _LISTS)


def objects(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the objects of a list in a response, without what else is in it."""
    found = document.get(name)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _key(address: object) -> str:
    """Return the form by which a response's row is matched, however it spells the address."""
    spelled = str(address or "").strip().lower()
    if spelled.isascii():
        return spelled
    local, at, domain = spelled.rpartition("@")
    with suppress(idna.IDNAError):
        domain = idna.encode(domain, uts46=True).decode()
    return f"{local}{at}{domain}"


def _refusal(address: str, row: Mapping[str, Any]) -> RowRefusal:
    words, field = plain_text(row.get("error")), plain_text(row.get("field"))
    code = problems.classify_row_error(words, plain_text(row.get("error_code")), field)
    fields = [(field, plain_text(row.get("field_message")))] if field else []
    return RowRefusal(
        email_address=address,
        code=code,
        message=problems.explained(code, words, fields, str(row["email_address"]).strip()),
    )
