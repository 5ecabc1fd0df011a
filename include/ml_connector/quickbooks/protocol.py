"""QuickBooks Online's Accounting API as values: build requests, read responses. No I/O.

Only ``read`` and ``read_batch`` interpret QuickBooks' status and fault codes. API:
https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/customer
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

import msgspec

from ml_connector.customer_paths import CUSTOM_FIELDS, allowed
from ml_connector.errors import (
    CallRefused,
    ConnectorError,
    CredentialsError,
    RateLimited,
    RecordRefused,
    SettingsError,
    StaleObject,
    StopRun,
    TokenExpired,
    Unavailable,
)
from ml_connector.model import Page, Unreadable, page_of
from ml_connector.quickbooks import rows
from ml_connector.quickbooks.statements import parse_time
from ml_connector.wire.formats import (
    decode_document,
    decode_shaped,
    format_time,
    impersonal,
    plain_text,
    retry_after,
)
from ml_connector.wire.transport import Request, Response

PRODUCTION_URL = "https://quickbooks.api.intuit.com"
MINOR_VERSION = "75"
"""The only minor version left:
https://blogs.intuit.com/2025/01/21/changes-to-our-accounting-api-that-may-impact-your-application/"""

CUSTOM_FIELDS_TOO = "enhancedAllCustomFields"
"""Value of ``include`` on reads that asks for custom fields:
https://developer.intuit.com/app/developer/qbo/docs/workflows/create-custom-fields"""

MAX_BATCH_ITEMS = 30
"""Items in one batch at most:
https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/batch"""

THROTTLE_WAIT = 60.0
"""Seconds: https://developer.intuit.com/app/developer/qbo/docs/learn/limits-and-throttles"""

# Details of these faults name properties, limits or query tokens. Details of other faults can quote
# personal data.
_IMPERSONAL_DETAILS = frozenset(
    {"500", "610", "1040", "2010", "2020", "2050", "4000", "4001", "4002", "4003"}
)

_CODE = re.compile(r"[\w.-]{1,40}")


# ── requests ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """One write of a batch; ``b_id`` has at most 10 characters and returns with its result.

    ``payload`` of an update holds Id, SyncToken and ``sparse: true``. An update that is not sparse
    empties every field it omits.
    """

    b_id: str
    payload: Mapping[str, Any] = field(repr=False)
    operation: str = "update"
    entity: str = "Customer"


def query_request(
    base_url: str, realm: str, statement: str, *, custom_fields: bool = False
) -> Request:
    """Return a query by POST, which avoids limits on URL length and lost plus signs.

    With ``custom_fields`` the customers come with theirs.
    """
    return _request(
        "POST",
        base_url,
        realm,
        "query",
        params={"include": CUSTOM_FIELDS_TOO} if custom_fields else {},
        content_type="application/text",
        body=statement.encode(),
    )


def batch_request(
    base_url: str, realm: str, items: Sequence[BatchItem], *, requestid: str
) -> Request:
    """Return a batch of independent writes, repeatable with the same ``requestid``.

    Raises ``ValueError`` for more than 30 items. Also raises it for a bId of more than 10
    characters or a ``requestid`` of more than 36.
    """
    if len(items) > MAX_BATCH_ITEMS:
        raise ValueError(f"a batch takes {MAX_BATCH_ITEMS} items, not {len(items)}")
    if any(len(item.b_id) > 10 for item in items):
        raise ValueError("a bId has at most 10 characters")
    written = [
        {"bId": item.b_id, "operation": item.operation, item.entity: item.payload} for item in items
    ]
    return _request(
        "POST",
        base_url,
        realm,
        "batch",
        requestid=_checked(requestid, 36),
        body=msgspec.json.encode({"BatchItemRequest": written}),
    )


def cdc_request(base_url: str, realm: str, since: datetime) -> Request:
    """Return a request for customers changed or deleted since ``since``.

    QuickBooks limits it to 30 days and 1,000 objects, without paging.
    """
    return _request(
        "GET",
        base_url,
        realm,
        "cdc",
        params={"entities": "Customer", "changedSince": format_time(since)},
    )


def company_info_request(base_url: str, realm: str) -> Request:
    """Return a request for the company's own name and address."""
    return _request("GET", base_url, realm, f"companyinfo/{realm}")


def _checked(requestid: str, longest: int) -> str:
    if not 0 < len(requestid) <= longest:
        raise ValueError(f"a requestid has 1 to {longest} characters")
    return requestid


def _request(
    method: str,
    base_url: str,
    realm: str,
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    requestid: str | None = None,
    content_type: str = "application/json",
    body: bytes | None = None,
) -> Request:
    query = {**(params or {}), "minorversion": MINOR_VERSION}
    if requestid:
        query["requestid"] = requestid
    headers = {"Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = content_type
    url = f"{base_url.rstrip('/')}/v3/company/{realm}/{path}"
    return Request(method=method, url=url, params=query, headers=headers, body=body)


# ── responses ─────────────────────────────────────────────────────────────────────────────────


# Decoding checks every customer, and skips attributes that stay in QuickBooks: both are cheaper
# than afterwards.
class _Rows(TypedDict, total=False):
    """Rows of a response by entity."""

    Customer: list[rows.Customer]
    CustomerType: Any
    Attachable: Any
    totalCount: Any


class _Response(TypedDict, total=False):
    """What is read of a response."""

    QueryResponse: _Rows
    CDCResponse: Any
    BatchItemResponse: Any
    CompanyInfo: Any
    Fault: Any
    fault: Any
    time: Any


class _RowsInFull(_Rows, total=False):
    """Rows of a response, customers with their custom fields."""

    Customer: list[rows.CustomerInFull]


class _ResponseInFull(_Response, total=False):
    """What is read of a response that was asked for custom fields."""

    QueryResponse: _RowsInFull


@dataclass(frozen=True, slots=True)
class _Fault:
    code: str = ""
    type: str = ""
    message: str = ""
    element: str = ""


def read(response: Response, *, custom_fields: bool = False) -> dict[str, Any]:
    """Return the response's document, or raise the error that its fault or status means."""
    request_id = response.headers.get("intuit_tid")
    shape = _ResponseInFull if custom_fields else _Response
    document = decode_shaped(response.body, shape)
    if document is None:
        document = _each_fit(decode_document(response.body), in_full=custom_fields)
    fault = _json_fault(document) if document is not None else _xml_fault(response.body)
    if fault is None and document is not None and 200 <= response.status < 300:
        return document
    raise _error(response.status, fault or _Fault(), response.headers, request_id)


def _each_fit(document: dict[str, Any] | None, *, in_full: bool) -> dict[str, Any] | None:
    """Check the customers of a response that does not have the right form one by one."""
    found = _mapping((document or {}).get("QueryResponse")).get("Customer")
    if document is None or not isinstance(found, list):
        return document
    fit = [rows.read_customer(row, in_full=in_full) for row in found]
    return {**document, "QueryResponse": {**document["QueryResponse"], "Customer": fit}}


def read_batch(
    document: Mapping[str, Any], request_id: str | None = None
) -> dict[str, dict[str, Any] | ConnectorError]:
    """Return each item's object or error by its bId. An item named twice counts as unanswered."""
    results: dict[str, dict[str, Any] | ConnectorError] = {}
    items = _objects(document.get("BatchItemResponse"))
    named = Counter(str(item.get("bId", "")) for item in items)
    for item in (each for each in items if named[str(each.get("bId", ""))] == 1):
        fault = _json_fault(item)
        entity, body = next((each for each in item.items() if each[0] != "bId"), ("", {}))
        body = allowed(_mapping(body)) if entity == "Customer" else body
        results[str(item.get("bId", ""))] = (
            _error(400, fault, {}, request_id) if fault else dict(_mapping(body))
        )
    return results


def read_rows(
    document: Mapping[str, Any], custom_fields: Collection[str] = (), *, latest: datetime
) -> list[dict[str, Any] | Unreadable]:
    """Return the customers of a query response in their order; empty past the end.

    Of their custom fields only those named in ``custom_fields``, in lower case, are kept.
    ``latest``: the latest time that an update can have.
    """
    found = _listed(document)
    checked = [
        row if isinstance(row, Unreadable) else rows.checked(row, latest=latest) for row in found
    ]
    return [
        allowed(row, custom_fields) if isinstance(row, dict) and CUSTOM_FIELDS in row else row
        for row in checked
    ]


def custom_field_names(document: Mapping[str, Any]) -> set[str]:
    """Return the names of all custom fields in a query response."""
    found = _listed(document)
    return {
        plain_text(field.get("Name"))
        for row in found
        if not isinstance(row, Unreadable)
        for field in _objects(row.get(CUSTOM_FIELDS))
    } - {""}


def check_rows(found: Sequence[Mapping[str, Any]], *, latest: datetime) -> Page[dict[str, Any]]:
    """Return customers that another call than a query brought, such as a batch."""
    fitted = [rows.read_customer(row) for row in found]
    return page_of(
        row if isinstance(row, Unreadable) else rows.checked(row, latest=latest) for row in fitted
    )


def read_changes(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the customers of a change data capture, deleted ones included: id and status."""
    return [
        {name: row[name] for name in ("Id", "status") if name in row}
        for answer in _objects(document.get("CDCResponse"))
        for part in _objects(answer.get("QueryResponse"))
        for row in _objects(part.get("Customer"))
    ]


def _listed(document: Mapping[str, Any]) -> list[Any]:
    found = _mapping(document.get("QueryResponse")).get("Customer") or []
    if not isinstance(found, list):
        raise Unavailable("QuickBooks: the response has no list of customers")
    return found


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _objects(found: object) -> list[Mapping[str, Any]]:
    return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []


def read_types(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the customer types of a query response: names by id."""
    found = _objects(_mapping(document.get("QueryResponse")).get("CustomerType"))
    return {
        plain_text(row["Id"]): plain_text(row.get("Name"))
        for row in found
        if plain_text(row.get("Id"))
    }


def read_total(document: Mapping[str, Any]) -> int:
    """Return the number of a count query; 0 if the response names none."""
    total = _mapping(document.get("QueryResponse")).get("totalCount", 0)
    if isinstance(total, bool) or not isinstance(total, int):
        raise Unavailable("QuickBooks: the response to a count has no number")
    return total


def read_attachables(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the attachments of a query response."""
    found = _mapping(document.get("QueryResponse")).get("Attachable")
    return [dict(row) for row in _objects(found)]


class Company(NamedTuple):
    """A company's name, and its country as QuickBooks writes it; ``""`` if it names none."""

    name: str
    country: str


def read_company(document: Mapping[str, Any]) -> Company:
    """Return the company of a response. Its country is its own, or that of its address."""
    company = _mapping(document.get("CompanyInfo"))
    address = _mapping(company.get("CompanyAddr"))
    return Company(
        name=plain_text(company.get("CompanyName")),
        country=plain_text(company.get("Country") or address.get("Country")),
    )


def read_time(document: Mapping[str, Any]) -> datetime | None:
    """Return QuickBooks' clock in a change data capture; None if it has none."""
    try:
        return parse_time(plain_text(document.get("time")))
    except (ValueError, OverflowError):
        return None


def updated(row: Mapping[str, Any]) -> datetime:
    """Return a row's LastUpdatedTime as aware UTC."""
    return parse_time(row["MetaData"]["LastUpdatedTime"])


def _json_fault(document: Mapping[str, Any]) -> _Fault | None:
    # The API writes Fault/Error/Message; the gateway in front of it writes fault/error/message.
    found = document.get("Fault") or document.get("fault")
    if not isinstance(found, dict):
        return None
    errors = _objects(found.get("Error") or found.get("error"))
    first = {str(key).lower(): plain_text(value) for key, value in (errors or [{}])[0].items()}
    return _fault(
        code=first.get("code", ""),
        type_=plain_text(found.get("type")),
        message=first.get("message", ""),
        detail=first.get("detail", ""),
        element=first.get("element", ""),
    )


def _xml_fault(body: bytes) -> _Fault | None:
    # Sent by the gateway, and by the API if the Accept header was lost on the way.
    text = body.decode("utf-8", errors="replace")
    start = re.search(r"<Fault\b([^>]*)>", text)
    error = re.search(r"<Error\b([^>]*)>", text)
    if not start or not error:
        return None
    return _fault(
        code=_found(r'code="([^"]*)"', error[1]),
        type_=_found(r'type="([^"]*)"', start[1]),
        message=_found(r"<Message>([^<]*)</Message>", text),
        detail=_found(r"<Detail>([^<]*)</Detail>", text),
        element=_found(r'element="([^"]*)"', error[1]),
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def _fault(*, code: str, type_: str, message: str, detail: str, element: str) -> _Fault:
    said = f"{message}: {detail}" if detail and code in _IMPERSONAL_DETAILS else message
    return _Fault(
        code=code if _CODE.fullmatch(code) else "unknown" if code else "",
        type=type_,
        message=impersonal(said),
        element=element if _CODE.fullmatch(element) else "",
    )


def _error(
    status: int, fault: _Fault, headers: Mapping[str, str], request_id: str | None
) -> ConnectorError:
    return (
        _refused_access(status, fault, request_id)
        or _come_back(status, fault, headers, request_id)
        or _refused(status, fault, request_id)
    )


def _refused_access(status: int, fault: _Fault, request_id: str | None) -> ConnectorError | None:
    # Codes: https://developer.intuit.com/app/developer/qbo/docs/develop/troubleshooting/error-codes
    if fault.code == "120":
        return CredentialsError(
            "QuickBooks: the person who connected this app is no longer an administrator of the"
            " company; let an administrator connect it again",
            request_id=request_id,
        )
    if fault.code == "6190":
        return StopRun(
            "QuickBooks: the company's subscription has ended or is suspended; renew it in"
            " QuickBooks",
            request_id=request_id,
        )
    if status == 401 or fault.type.upper() in {"AUTHENTICATION", "AUTHENTICATIONFAULT"}:
        # The gateway echoes the access token in its detail, so none of the detail is repeated here.
        return TokenExpired("QuickBooks: the access token was not accepted", request_id=request_id)
    if status == 403 or fault.code == "3100":
        return CredentialsError(
            f"QuickBooks: this app may not use this company (403, code {fault.code or 'none'})."
            " Check that realm_id is the company that was connected, and that keys and host belong"
            " together: sandbox keys work only on sandbox-quickbooks.api.intuit.com, production"
            " keys only on quickbooks.api.intuit.com",
            request_id=request_id,
        )
    return None


def _come_back(
    status: int, fault: _Fault, headers: Mapping[str, str], request_id: str | None
) -> ConnectorError | None:
    asked = retry_after(headers)
    if status == 429 or fault.code == "3001":
        wait = THROTTLE_WAIT if asked is None else asked
        return RateLimited(
            "QuickBooks: too many requests (429)", request_id=request_id, retry_after=wait
        )
    if status >= 500 or status == 408:
        return Unavailable(
            f"QuickBooks: out of order ({status})", request_id=request_id, retry_after=asked
        )
    if fault.code == "10000" or fault.type == "SystemFault":
        return Unavailable(f"QuickBooks: system fault {fault.code}", request_id=request_id)
    if 200 <= status < 300 and not fault.code:
        return Unavailable("QuickBooks: the response is not JSON", request_id=request_id)
    return None


def _refused(status: int, fault: _Fault, request_id: str | None) -> ConnectorError:
    unknown_path = fault.code == "500" and "Unsupported Operation" in fault.message
    if not fault.code or unknown_path:
        return SettingsError(
            f"QuickBooks: no server responds at this address ({status}). Check that the"
            " connection's host is QuickBooks' API and that realm_id is a company id",
            request_id=request_id,
        )
    about = f", field {fault.element}" if fault.element else ""
    message = f"QuickBooks refused the call: {fault.message or 'no reason given'}{about}"
    if fault.code == "5010":
        return StaleObject(
            "QuickBooks: another user wrote this object first",
            code=fault.code,
            request_id=request_id,
        )
    if fault.code in {"1040", "4000", "4001"}:
        return CallRefused(message, code=fault.code, request_id=request_id)
    return RecordRefused(message, code=fault.code, request_id=request_id)
