"""The query endpoint: which entities there are, and the JSON of a response."""

from collections.abc import Callable
from typing import Any

import msgspec

from sandbox.quickbooks import customer_query, problems
from sandbox.quickbooks.attachables import Attachables
from sandbox.quickbooks.company import Company
from sandbox.quickbooks.customer_fields import KNOWN
from sandbox.quickbooks.rows import Row
from sandbox.quickbooks.statement import Condition, Statement, parse

Json = dict[str, Any]

_ENTITIES = ("Customer", "Attachable", "CompanyInfo", "CustomerType", "Vendor", "Employee")


class Queries:
    """Runs statements against one company."""

    def __init__(
        self, company: Company, attachables: Attachables, company_info: Callable[[], Json]
    ) -> None:
        self._company = company
        self._attachables = attachables
        self._company_info = company_info

    def answer(self, text: str, *, custom_fields: bool = False) -> bytes:
        """Run a query and return the encoded value of ``QueryResponse``.

        Customers come with their custom fields only if those are asked for.

        Raises:
            FaultError: 4000 or 4001.
        """
        statement = parse(text)
        entity = next((e for e in _ENTITIES if e.casefold() == statement.entity.casefold()), None)
        if entity is None:
            raise problems.query_invalid(f"invalid context declaration: {statement.entity}")
        if entity == "Customer":
            return self._customers(statement, custom_fields=custom_fields)
        return _page(entity, statement, self._objects(entity, statement))

    def _customers(self, statement: Statement, *, custom_fields: bool) -> bytes:
        result = customer_query.run(self._company.rows, statement)
        if statement.count:
            return msgspec.json.encode({"totalCount": result.total})
        if statement.columns:
            rows = [msgspec.json.encode(_project(row, statement.columns)) for row in result.rows]
        else:
            rows = [row.shown(custom_fields=custom_fields) for row in result.rows]
        return _envelope("Customer", rows, statement.start)

    def _objects(self, entity: str, statement: Statement) -> list[Json]:
        if entity == "Attachable":
            candidates = self._attachments(statement.conditions)
        elif entity == "CompanyInfo":
            candidates = [self._company_info()]
        elif entity == "CustomerType":
            candidates = [
                {"Id": each, "SyncToken": "0", "Name": name, "Active": True, "domain": "QBO"}
                for each, name in self._company.customer_types.items()
            ]
        else:
            candidates = [
                {"Id": str(o.id), "SyncToken": "0", "DisplayName": o.name, "Active": True}
                for o in self._company.others
                if o.entity == entity
            ]
        return [c for c in candidates if all(_holds(c, each) for each in statement.conditions)]

    def _attachments(self, conditions: tuple[Condition, ...]) -> list[Json]:
        asked = {c.property.casefold(): c.values[0] for c in conditions if c.operator == "="}
        target_type = asked.get("attachableref.entityref.type")
        target = asked.get("attachableref.entityref.value")
        if target_type is not None and target is not None:
            return self._attachables.attached_to(target_type, target)
        return list(self._attachables.by_id.values())


def _page(entity: str, statement: Statement, found: list[Json]) -> bytes:
    if statement.count:
        return msgspec.json.encode({"totalCount": len(found)})
    page = found[statement.start - 1 : statement.start - 1 + statement.page]
    if statement.columns:
        page = [
            {key: each[key] for key in each if key.casefold() in _folded(statement.columns)}
            | {"Id": each["Id"], "sparse": True}
            for each in page
        ]
    return _envelope(entity, [msgspec.json.encode(each) for each in page], statement.start)


def _envelope(entity: str, rows: list[bytes], start: int) -> bytes:
    if not rows:
        return b"{}"
    return b'{"%s":[%s],"startPosition":%d,"maxResults":%d}' % (
        *(entity.encode(), b",".join(rows)),
        *(start, len(rows)),
    )


def _folded(columns: tuple[str, ...]) -> set[str]:
    return {column.casefold() for column in columns}


def _project(row: Row, columns: tuple[str, ...]) -> Json:
    body = row.body()
    known = {name.casefold(): name for name in KNOWN}
    projected: Json = {}
    for column in columns:
        head, _, rest = column.partition(".")
        name = known.get(head.casefold())
        if name is None:
            raise problems.query_invalid(f"Property {column} not found for Entity Customer")
        if name not in body:
            continue
        value = body[name]
        if rest and isinstance(value, dict):
            inner = {key: value[key] for key in value if key.casefold() == rest.casefold()}
            projected[name] = projected.get(name, {}) | inner
        else:
            projected[name] = value
    return projected | {"Id": body["Id"], "sparse": True}


def _holds(candidate: Json, condition: Condition) -> bool:
    found = {str(value).casefold() for value in _values(candidate, condition.property.split("."))}
    wanted = [value.casefold() for value in condition.values]
    if condition.operator in {"=", "IN"}:
        return any(value in found for value in wanted)
    if condition.operator == "LIKE":
        part = wanted[0].strip("%")
        return any(part in value for value in found)
    raise problems.query_invalid(f"operator {condition.operator} on {condition.property}")


def _values(value: Any, path: list[str]) -> list[Any]:
    if isinstance(value, list):
        return [found for each in value for found in _values(each, path)]
    if not path:
        return [value]
    if isinstance(value, dict):
        for key in value:
            if key.casefold() == path[0].casefold():
                return _values(value[key], path[1:])
    return []
