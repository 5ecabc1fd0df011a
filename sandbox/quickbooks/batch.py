"""The batch endpoint: up to 30 independent items, each with its result or its fault."""

from typing import Any

import msgspec

from sandbox.quickbooks import problems
from sandbox.quickbooks.operations import Operations

LONGEST_REQUEST_ID = 36
LONGEST_BID_WITH_REQUEST_ID = 10
_CONTROL = frozenset({"bId", "operation", "optionsData"})


def answer(operations: Operations, sent: Any, *, limit: int, request_id: str | None) -> bytes:
    """Run a batch and return the ``"BatchItemResponse":[...]`` member.

    Items do not share a transaction: a failed item does not affect the others.

    Raises:
        FaultError: 1040 over the limit, 2010 for a body of another shape, 2130 for long ids.
    """
    items = sent.get("BatchItemRequest") if isinstance(sent, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise problems.unreadable("Property Name:BatchItemRequest is not a list of objects")
    if len(items) > limit:
        raise problems.batch_too_large(len(items))
    if request_id is not None:
        _check_ids(request_id, items)
    return b'"BatchItemResponse":[' + b",".join(_item(operations, item) for item in items) + b"]"


def is_read_only(body: bytes) -> bool:
    """Say whether a batch holds queries only."""
    try:
        items = msgspec.json.decode(body)["BatchItemRequest"]
        return all("Query" in item for item in items)
    except (msgspec.DecodeError, LookupError, TypeError):
        return False


def _check_ids(request_id: str, items: list[dict[str, Any]]) -> None:
    if len(request_id) > LONGEST_REQUEST_ID:
        raise problems.request_id_malformed("requestid of a batch is at most 36 characters")
    if any(len(str(item.get("bId", ""))) > LONGEST_BID_WITH_REQUEST_ID for item in items):
        raise problems.request_id_malformed("bId is at most 10 characters with a requestid")


def _item(operations: Operations, item: dict[str, Any]) -> bytes:
    try:
        result = _run(operations, item)
    except problems.FaultError as problem:
        result = b'"Fault":' + msgspec.json.encode(problem.fault())
    return b"{" + result + b',"bId":' + msgspec.json.encode(str(item.get("bId", ""))) + b"}"


def _run(operations: Operations, item: dict[str, Any]) -> bytes:
    if "Query" in item:
        return operations.query(str(item["Query"]))
    entities = [name for name in item if name not in _CONTROL]
    if len(entities) != 1 or not item.get("operation"):
        raise problems.unreadable("Property Name:a batch item holds an operation and one object")
    return operations.write(entities[0].lower(), str(item["operation"]), item[entities[0]])
