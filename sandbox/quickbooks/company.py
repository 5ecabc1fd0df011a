"""The company file: customers, and the names that vendors and employees share with them."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sandbox.clock import Clock
from sandbox.memory import Remembered
from sandbox.quickbooks import customer_fields, problems
from sandbox.quickbooks.rows import Json, Row, Rows, encode

DELETED_SUFFIX = " (deleted)"
MAX_LEVEL = 4  # with the parent itself five levels


@dataclass(frozen=True)
class Tombstone(Remembered):
    """What is left of a customer that was merged into another."""

    id: int
    merged_into: int
    at: int


@dataclass(frozen=True)
class Event:
    """A change of a customer, as the webhook sender reports it.

    ``by_api`` distinguishes an app's writes from a person's; ``inactivated`` an update that made
    the customer inactive; ``deleted_id`` is the loser of a merge.
    """

    operation: str
    id: int
    at: float
    deleted_id: int | None = None
    by_api: bool = False
    inactivated: bool = False


@dataclass(frozen=True)
class OtherName(Remembered):
    """A vendor or employee: only an id, and a name that must be unique."""

    id: int
    name: str
    entity: str


class Company:
    """One QuickBooks company. Every method is one step: nothing else happens in between."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows = Rows()
        self.others: list[OtherName] = []
        self.customer_types: dict[str, str] = {}
        self.tombstones: list[Tombstone] = []
        self.listeners: list[Callable[[Event], None]] = []
        self._names: dict[str, int] = {}
        self._children: defaultdict[int, set[int]] = defaultdict(set)
        self._next_id = 1
        self._next_address_id = 1

    def load(self, rows: Iterable[Row], others: Iterable[OtherName], *, next_id: int) -> None:
        """Replace everything with a given set of customers and other names."""
        self.rows = Rows()
        self.rows.load(rows)
        self.others = list(others)
        self.customer_types = {}
        self.tombstones = []
        self._names = {other.name.casefold(): other.id for other in self.others}
        self._children = defaultdict(set)
        for row in self.rows.updated_between():
            self._names[row.name.casefold()] = row.id
            if row.parent is not None:
                self._children[row.parent].add(row.id)
        self._next_id = next_id
        self._next_address_id = 2 * next_id

    def find(self, row_id: str) -> Row:
        """Return a customer, active or not.

        Raises:
            FaultError: 2030 for an id that is no number, 610 for an unknown one.
        """
        if not row_id.isdecimal():
            raise problems.bad_id(row_id)
        row = self.rows.get(int(row_id))
        if row is None:
            raise problems.not_found()
        return row

    def create(self, fields: Json, *, by_api: bool = False) -> Row:
        """Create a customer from writable fields; None and absent mean the same."""
        body = dict(customer_fields.DEFAULTS)
        body |= {name: value for name, value in fields.items() if value is not None}
        balance = body.pop("Balance", 0)
        body |= {"Balance": balance, "BalanceWithJobs": balance, "IsProject": False}
        now = self._now()
        row = self._encode(body, row_id=self._next_id, sync_token=0, created=now, updated=now)
        self._next_id += 1
        self._store(row)
        self._tell("Create", row.id, by_api=by_api)
        return row

    def write(self, row_id: str, sync_token: str, fields: Json, *, sparse: bool) -> Row:
        """Update a customer through the API.

        A full update nulls what it leaves out, a sparse one touches only what it sends. A write
        that changes nothing leaves SyncToken and LastUpdatedTime as they are (recorded traffic).

        Raises:
            FaultError: 610, 5010 or any that the fields deserve.
        """
        row = self.find(row_id)
        if sync_token != str(row.sync_token):
            raise problems.stale(row.name)
        fields = {n: v for n, v in fields.items() if n not in customer_fields.CREATE_ONLY}
        body = row.body()
        if not sparse:
            for name in customer_fields.WRITABLE - customer_fields.CREATE_ONLY:
                body.pop(name, None)
            body |= customer_fields.DEFAULTS
        return self._change(row, body, fields, by_api=True)

    def edit(self, row_id: str, fields: Json) -> Row:
        """Change any field as the bookkeeper, unchecked, so that odd data can be made."""
        row = self.find(row_id)
        return self._change(row, row.body(), fields)

    def touch(self, row_id: str) -> Row:
        """Move LastUpdatedTime only, as a new invoice or payment does."""
        row = self.find(row_id)
        touched = encode(
            row.body(),
            row_id=row.id,
            sync_token=row.sync_token,
            created=row.created,
            updated=self._now(),
        )
        self.rows.put(touched)
        self._tell("Update", row.id)
        return touched

    def merge(self, survivor_id: str, loser_id: str, *, tombstone: bool = True) -> Row:
        """Merge a customer into another: the loser is gone, its jobs move, the survivor is bumped.

        Without ``tombstone``, change data capture says nothing of the loser.
        """
        survivor, loser = self.find(survivor_id), self.find(loser_id)
        if loser.id in {survivor.id, survivor.parent}:
            raise problems.business("A customer cannot be merged with itself or its own job")
        for child in sorted(self._children.pop(loser.id, set())):
            self.edit(str(child), {"ParentRef": {"value": str(survivor.id)}})
        self.rows.discard(loser.id)
        self._forget_name(loser)
        if loser.parent is not None:
            self._children[loser.parent].discard(loser.id)
        if tombstone:
            self.tombstones.append(Tombstone(id=loser.id, merged_into=survivor.id, at=self._now()))
        merged = self.bump(survivor.id)
        self._tell("Merge", survivor.id, deleted_id=loser.id)
        return merged

    def bump(self, row_id: int) -> Row:
        """Raise a customer's SyncToken without changing a field."""
        row = self.find(str(row_id))
        bumped = encode(
            row.body(),
            row_id=row.id,
            sync_token=row.sync_token + 1,
            created=row.created,
            updated=self._now(),
        )
        self.rows.put(bumped)
        return bumped

    def _change(self, row: Row, body: Json, fields: Json, *, by_api: bool = False) -> Row:
        for name, value in fields.items():
            if value is None:
                body.pop(name, None)
            else:
                body[name] = value
        if "ParentRef" in fields and fields["ParentRef"] is None:
            body["Job"] = False
        self._follow_active(row, body)
        changed = self._encode(
            body,
            row_id=row.id,
            sync_token=row.sync_token + 1,
            created=row.created,
            updated=self._now(),
        )
        if _content(changed) == _content(row):
            return row
        self._store(changed, before=row)
        if changed.full_name != row.full_name:
            self._rename_children(changed)
        inactivated = row.active and not changed.active
        self._tell("Update", row.id, by_api=by_api, inactivated=inactivated)
        return changed

    def _follow_active(self, row: Row, body: Json) -> None:
        """Add the suffix an inactive customer's name gets, or take it off again."""
        active = body.setdefault("Active", True)
        name = body.get("DisplayName") or ""
        if not active and not name.endswith(DELETED_SUFFIX):
            body["DisplayName"] = customer_fields.display_name(body) + DELETED_SUFFIX
        elif active and not row.active:
            body["DisplayName"] = name.removesuffix(DELETED_SUFFIX)

    def _encode(
        self, body: Json, *, row_id: int, sync_token: int, created: int, updated: int
    ) -> Row:
        name = customer_fields.display_name(body)
        taken_by = self._names.get(name.casefold())
        if taken_by not in {None, row_id}:
            raise problems.duplicate_name(str(taken_by))
        body["DisplayName"] = name
        for default in ("Taxable", "Job", "BillWithParent", "Active"):
            body.setdefault(default, customer_fields.DEFAULTS[default])
        bare_name = name.removesuffix(DELETED_SUFFIX) if not body["Active"] else name
        body.setdefault("PrintOnCheckName", body.get("CompanyName") or bare_name)
        self._place(body, row_id)
        for address in customer_fields.ADDRESSES:
            if address in body and "Id" not in body[address]:
                body[address] = {"Id": str(self._next_address_id), **body[address]}
                self._next_address_id += 1
        body |= {"domain": "QBO", "sparse": False}
        return encode(body, row_id=row_id, sync_token=sync_token, created=created, updated=updated)

    def _place(self, body: Json, row_id: int) -> None:
        """Set what follows from the parent: FullyQualifiedName, Level and Job."""
        reference = body.get("ParentRef")
        if reference is None:
            if body.get("Job") and "ParentRef" not in body:
                raise problems.missing("ParentRef")
            body["FullyQualifiedName"] = body["DisplayName"]
            body.pop("Level", None)
            return
        parent = self.find(str(reference["value"]))
        level = int(parent.body().get("Level", 0)) + 1
        if level > MAX_LEVEL or parent.id == row_id:
            raise problems.too_deep()
        body["ParentRef"] = {"value": str(parent.id)}
        body |= {"Job": True, "Level": level}
        body["FullyQualifiedName"] = f"{parent.full_name}:{body['DisplayName']}"

    def _store(self, row: Row, before: Row | None = None) -> None:
        if before is not None:
            self._forget_name(before)
            if before.parent is not None:
                self._children[before.parent].discard(before.id)
        self.rows.put(row)
        self._names[row.name.casefold()] = row.id
        if row.parent is not None:
            self._children[row.parent].add(row.id)

    def _rename_children(self, parent: Row) -> None:
        for child_id in sorted(self._children.get(parent.id, ())):
            child = self.find(str(child_id))
            body = child.body()
            body["FullyQualifiedName"] = f"{parent.full_name}:{child.name}"
            renamed = encode(
                body,
                row_id=child.id,
                sync_token=child.sync_token,
                created=child.created,
                updated=child.updated,
            )
            self.rows.put(renamed)
            self._rename_children(renamed)

    def _forget_name(self, row: Row) -> None:
        if self._names.get(row.name.casefold()) == row.id:
            del self._names[row.name.casefold()]

    def _tell(
        self,
        operation: str,
        row_id: int,
        *,
        deleted_id: int | None = None,
        by_api: bool = False,
        inactivated: bool = False,
    ) -> None:
        event = Event(
            operation=operation,
            id=row_id,
            at=self.clock.now(),
            deleted_id=deleted_id,
            by_api=by_api,
            inactivated=inactivated,
        )
        for listener in self.listeners:
            listener(event)

    def _now(self) -> int:
        return int(self.clock.now())


def _content(row: Row) -> dict[str, Any]:
    body = row.body()
    del body["SyncToken"], body["MetaData"]
    for address in customer_fields.ADDRESSES:
        if address in body:
            body[address].pop("Id", None)
    return body
