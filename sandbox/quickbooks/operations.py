"""Reads and writes of single objects, shared by the plain endpoints and the items of a batch.

Every method returns the encoded ``"Entity":{...}`` member of a response, without the braces.
"""

from typing import Any

import msgspec

from sandbox.quickbooks import customer_fields, problems
from sandbox.quickbooks.query import Queries
from sandbox.quickbooks.rows import Row
from sandbox.quickbooks.state import State
from sandbox.quickbooks.times import to_text

Json = dict[str, Any]

# In single reads and write responses, but absent from query rows (recorded traffic).
_TAX_CODE = {"value": "2"}


class Operations:
    """What a request, or an item of a batch, can do to one object."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.queries = Queries(state.company, state.attachables, state.company_info)

    def query(self, text: str, *, custom_fields: bool = False) -> bytes:
        """Run a query."""
        return b'"QueryResponse":' + self.queries.answer(text, custom_fields=custom_fields)

    def read(self, entity: str, object_id: str, *, custom_fields: bool = False) -> bytes:
        """Read one object by id."""
        if entity == "customer":
            row = self._state.company.find(object_id)
            ahead = self._state.settings.read_ahead_seconds
            return _customer(row, ahead=ahead, custom_fields=custom_fields)
        if entity == "attachable":
            return _member("Attachable", self._state.attachables.find(object_id))
        if entity == "companyinfo" and object_id == self._state.realm:
            return _member("CompanyInfo", self._state.company_info())
        raise problems.unsupported(f"/v3/company/{self._state.realm}/{entity}/{object_id}")

    def write(self, entity: str, operation: str | None, sent: Any) -> bytes:
        """Create, update or delete one object.

        ``operation`` is a batch item's, or a request's query parameter; without one, an Id in the
        body makes it an update.
        """
        if not isinstance(sent, dict):
            raise problems.unreadable("Property Name:the request body is not a JSON object")
        operation = operation or ("update" if sent.get("Id") else "create")
        if entity == "customer" and operation in {"create", "update"}:
            return self._write_customer(operation, sent)
        if entity == "attachable" and operation in {"create", "update", "delete"}:
            return self._write_attachable(operation, sent)
        raise problems.unsupported(
            f"/v3/company/{self._state.realm}/{entity}?operation={operation}"
        )

    def _write_customer(self, operation: str, sent: Json) -> bytes:
        if sent.get("DefaultTaxCodeRef", {}) == _TAX_CODE:
            sent = {name: value for name, value in sent.items() if name != "DefaultTaxCodeRef"}
        fields = customer_fields.read_writable(sent)
        company = self._state.company
        if operation == "create":
            return _customer(company.create(fields, by_api=True))
        for name in ("Id", "SyncToken"):
            if sent.get(name) in (None, ""):
                raise problems.missing(name)
        inactive = not company.find(str(sent["Id"])).active
        if inactive and "Active" not in fields and self._state.settings.inactive_refuses_updates:
            raise problems.not_found()
        return _customer(
            company.write(
                str(sent["Id"]),
                str(sent["SyncToken"]),
                fields,
                sparse=sent.get("sparse") in (True, "true"),
            )
        )

    def _write_attachable(self, operation: str, sent: Json) -> bytes:
        attachables = self._state.attachables
        if operation == "delete":
            return _member("Attachable", attachables.delete(sent))
        if operation == "update":
            return _member("Attachable", attachables.update(sent))
        created = attachables.create(sent)
        if self._state.settings.attachable_bumps_customer:
            for entity, object_id in attachables.targets(created):
                if entity.casefold() == "customer":
                    self._state.company.bump(int(object_id))
        return _member("Attachable", created)


def _member(name: str, body: Json) -> bytes:
    return b'"%s":' % name.encode() + msgspec.json.encode(body)


def _customer(row: Row, ahead: int = 0, *, custom_fields: bool = False) -> bytes:
    body = msgspec.json.decode(row.shown(custom_fields=custom_fields))
    body.setdefault("DefaultTaxCodeRef", _TAX_CODE)
    if ahead:
        body["MetaData"]["LastUpdatedTime"] = to_text(row.updated + ahead)
    return _member("Customer", body)
