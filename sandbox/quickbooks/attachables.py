"""Notes attached to customers and other objects (the Attachable entity, notes only)."""

from collections import defaultdict
from typing import Any

from sandbox.clock import Clock
from sandbox.quickbooks import customer_fields, problems
from sandbox.quickbooks.company import Company
from sandbox.quickbooks.times import to_text

Json = dict[str, Any]

FIRST_ID = 5000000000000010341  # ids are 19 digits long in every sample
LONGEST_NOTE = 2000
KNOWN = frozenset(
    [
        "Id",
        "SyncToken",
        "sparse",
        "domain",
        "MetaData",
        "AttachableRef",
        "FileName",
        "Note",
        "FileAccessUri",
        "TempDownloadUri",
        "Size",
        "ContentType",
        "Category",
        "Lat",
        "Long",
        "PlaceName",
        "Tag",
        "ThumbnailFileAccessUri",
        "ThumbnailTempDownloadUri",
        "status",
    ]
)
KEPT = ("Note", "FileName", "ContentType", "Category", "Tag", "AttachableRef")
CHECKED_TYPES = frozenset({"Customer", "Vendor", "Employee"})
OTHER_TYPES = frozenset(
    ["Invoice", "Estimate", "Bill", "Item", "Payment", "Purchase", "SalesReceipt"]
)


class Attachables:
    """All attachments of the company, found by id or by what they are attached to."""

    def __init__(self, company: Company, clock: Clock) -> None:
        self._company = company
        self._clock = clock
        self.by_id: dict[str, Json] = {}
        self._by_target: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self._next_id = FIRST_ID

    def clear(self) -> None:
        """Forget all attachments."""
        self.by_id.clear()
        self._by_target.clear()

    def attached_to(self, entity: str, entity_id: str) -> list[Json]:
        """Return the attachments of one object; the type's case does not matter."""
        ids = self._by_target.get((entity.casefold(), entity_id), [])
        return [self.by_id[each] for each in ids]

    def find(self, attachable_id: str) -> Json:
        """Return one attachment, or raise fault 610."""
        if attachable_id not in self.by_id:
            raise problems.not_found()
        return self.by_id[attachable_id]

    def create(self, sent: Json) -> Json:
        """Create an attachment from what a client sent."""
        fields = self._check(sent)
        now = to_text(self._clock.now())
        attachable = {
            **fields,
            "domain": "QBO",
            "sparse": False,
            "Id": str(self._next_id),
            "SyncToken": "0",
            "MetaData": {"CreateTime": now, "LastUpdatedTime": now},
        }
        self._next_id += 1
        self._index(attachable)
        return attachable

    def update(self, sent: Json) -> Json:
        """Update an attachment: a full update drops what it leaves out, a sparse one keeps it."""
        current = self._current(sent)
        if sent.get("sparse") in (True, "true"):
            sent = {name: current[name] for name in KEPT if name in current} | sent
        changed = {
            **self._check(sent),
            "domain": "QBO",
            "sparse": False,
            "Id": current["Id"],
            "SyncToken": str(int(current["SyncToken"]) + 1),
            "MetaData": {
                "CreateTime": current["MetaData"]["CreateTime"],
                "LastUpdatedTime": to_text(self._clock.now()),
            },
        }
        self._unlink(current)
        self._index(changed)
        return changed

    def delete(self, sent: Json) -> Json:
        """Delete an attachment and return its tombstone."""
        current = self._current(sent)
        self._unlink(current)
        del self.by_id[current["Id"]]
        return {"domain": "QBO", "status": "Deleted", "Id": current["Id"]}

    def targets(self, sent: Json) -> list[tuple[str, str]]:
        """Return (type, id) of everything an attachment is linked to."""
        references = (link.get("EntityRef") for link in sent.get("AttachableRef") or [])
        return [(str(ref.get("type", "")), str(ref.get("value", ""))) for ref in references if ref]

    def _unlink(self, attachable: Json) -> None:
        for target in {(entity.casefold(), each) for entity, each in self.targets(attachable)}:
            self._by_target[target].remove(attachable["Id"])

    def _index(self, attachable: Json) -> None:
        self.by_id[attachable["Id"]] = attachable
        for entity, entity_id in self.targets(attachable):
            ids = self._by_target[(entity.casefold(), entity_id)]
            if attachable["Id"] not in ids:
                ids.append(attachable["Id"])

    def _current(self, sent: Json) -> Json:
        if not sent.get("Id"):
            raise problems.missing("Id")
        current = self.find(str(sent["Id"]))
        if str(sent.get("SyncToken", "")) != current["SyncToken"]:
            raise problems.stale("Attachable")
        return current

    def _check(self, sent: Json) -> Json:
        for name in sent:
            if name not in KNOWN:
                raise problems.unknown_property(name, "Attachable")
        if not sent.get("Note") and not sent.get("FileName"):
            raise problems.business("You must have at least a note string or file attachment")
        customer_fields.check_text("Note", sent.get("Note") or "", LONGEST_NOTE)
        _check_shape(sent.get("AttachableRef") or [])
        for entity, entity_id in self.targets(sent):
            self._check_target(entity, entity_id)
        fields = {name: sent[name] for name in KEPT if sent.get(name) and name != "AttachableRef"}
        links = [_link(link) for link in sent.get("AttachableRef") or [] if link.get("EntityRef")]
        return fields | ({"AttachableRef": links} if links else {})

    def _check_target(self, entity: str, entity_id: str) -> None:
        known = {name.casefold() for name in CHECKED_TYPES | OTHER_TYPES}
        if entity.casefold() not in known:
            raise problems.bad_reference_type(entity)
        if entity.casefold() == "customer":
            exists = entity_id.isdecimal() and int(entity_id) in self._company.rows
        elif entity.casefold() in {"vendor", "employee"}:
            exists = any(str(other.id) == entity_id for other in self._company.others)
        else:
            exists = False
        if not exists:
            raise problems.business(
                f"The {entity} {entity_id} that you are trying to link does not exist"
            )


def _check_shape(links: object) -> None:
    if not isinstance(links, list) or not all(
        isinstance(link, dict) and isinstance(link.get("EntityRef") or {}, dict) for link in links
    ):
        raise problems.unreadable("Property Name:AttachableRef is not a list of references")


def _link(sent: Json) -> Json:
    reference = {
        key: sent["EntityRef"][key]
        for key in ("value", "name", "type")
        if sent["EntityRef"].get(key)
    }
    return {"EntityRef": reference, "IncludeOnSend": bool(sent.get("IncludeOnSend", False))}
